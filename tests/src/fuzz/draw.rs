//! Random texts and JSON: mostly of the expected kind, some of them damaged.

use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};
use rand_pcg::Pcg64Mcg;

/// Names that Crunch knows, and some that it does not.
const NAMES: &[&str] = &[
    "task",
    "payload",
    "queue",
    "priority",
    "delay_ms",
    "run_at",
    "timeout_ms",
    "deadline_ms",
    "start_within_ms",
    "unique",
    "key",
    "fields",
    "on_conflict",
    "max_attempts",
    "retention_ms",
    "durability",
    "idempotency_key",
    "metadata",
    "webhook",
    "url",
    "events",
    "jobs",
    "job",
    "op",
    "arg",
    "wait",
    "limit",
    "cursor",
    "status",
    "created_after",
    "code",
    "a",
    "",
    "\\u0000",
    "__proto__",
    "$ref",
    "é",
];
/// Number literals, valid and invalid.
const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "1",
    "-1",
    "1.5",
    "1e3",
    "1e308",
    "1e309",
    "-1e999",
    "9007199254740993",
    "18446744073709551616",
    "00",
    "1.",
    ".5",
    "+1",
    "NaN",
    "Infinity",
    "0.1e-400",
    "123456789012345678901234567890123456789012345678901234567890",
];
/// Contents of JSON strings, as written between the quotes.
const TEXTS: &[&str] = &[
    "",
    "a",
    "echo",
    "fuzz.tree",
    "fuzz.bytes",
    "not",
    "urgent",
    "low",
    "default",
    "memory",
    "fsync",
    "PT5S",
    "succeeded",
    "queued",
    "2026-01-01T00:00:00Z",
    "\\ud800",
    "\\udc00\\ud800",
    "\\u0000",
    "\\n\\r\\t",
    "😀",
    "é",
    "\u{202e}",
    "http://127.0.0.1:1/hook",
    "https://localhost/",
    "../../etc/passwd",
    "'; --",
    "%00",
    "crunch.webhooks",
];

/// A source of random inputs.
#[derive(Debug)]
pub(super) struct Draw(Pcg64Mcg);

impl Draw {
    pub(super) fn new(random: Pcg64Mcg) -> Self {
        Self(random)
    }

    /// Returns true once in `times`.
    pub(super) fn once_in(&mut self, times: u32) -> bool {
        self.0.random_ratio(1, times)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0.random_range(0..limit.max(1))
    }

    pub(super) fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of.choose(&mut self.0).copied().expect("the list is not empty")
    }

    pub(super) fn name(&mut self) -> &'static str {
        self.one(NAMES)
    }

    /// Draws the content of a JSON string.
    pub(super) fn text(&mut self) -> String {
        let text = self.one(TEXTS);
        match self.below(12) {
            0 => text.repeat(self.below(400)),
            _ => text.to_owned(),
        }
    }

    /// Draws a JSON value, or nearly one.
    pub(super) fn json(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 5 } else { 8 }) {
            0 => self.one(&["null", "true", "false"]).to_owned(),
            1 | 2 => self.one(NUMBERS).to_owned(),
            3 | 4 => format!("\"{}\"", self.text()),
            5 if self.once_in(20) => {
                let levels = self.below(5000);
                format!("{}{}", "[".repeat(levels), "]".repeat(levels))
            }
            5 | 6 => {
                let items: Vec<_> = (0..self.below(5)).map(|_| self.json(depth - 1)).collect();
                format!("[{}]", items.join(","))
            }
            _ => self.object(depth - 1),
        }
    }

    fn object(&mut self, depth: usize) -> String {
        let members: Vec<_> = (0..self.below(6))
            .map(|_| format!("\"{}\":{}", self.name(), self.json(depth)))
            .collect();
        format!("{{{}}}", members.join(","))
    }

    /// Draws a payload of the recursive schema, valid except for its innermost value.
    pub(super) fn tree(&mut self) -> String {
        let levels = self.below(62);
        let inner = self.json(1);
        format!("{}{inner}{}", "{\"op\":\"not\",\"arg\":".repeat(levels), "}".repeat(levels))
    }

    /// Damages bytes: changes, inserts, removes or duplicates a few, or cuts some off the end.
    pub(super) fn damaged(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            let length = self.below(16).min(bytes.len() - at.min(bytes.len()));
            match self.below(5) {
                0 if !bytes.is_empty() => bytes[at] = self.0.random(),
                1 => bytes.insert(at.min(bytes.len()), self.0.random()),
                2 => drop(bytes.drain(at..at + length)),
                3 => {
                    let part = bytes[at..at + length].to_vec();
                    bytes.splice(at..at, part);
                }
                _ => bytes.truncate(bytes.len() - self.below(bytes.len() / 8 + 1)),
            }
        }
        bytes
    }

    pub(super) fn bytes(&mut self, max: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.below(max)];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}
