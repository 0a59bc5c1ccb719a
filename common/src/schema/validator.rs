//! A compiled schema. It never fetches anything, and no check exceeds its budget of steps and memory.
//!
//! A check first calls the library's cheap function, which only returns whether a value matches: it caches outcomes
//! where references recurse. Violations are collected afterwards with the function that explores every branch below
//! every branch, within a separate budget.

use std::fmt::{self, Write};

use jsonschema::{Draft, PatternOptions, ValidationError};
use serde_json::Value;

use super::measure::longest_pointer;
use super::meter::{Budget, Exhausted, Metered, MeteredJson, within};
use super::patterns;
use super::prices::Prices;
use super::{InvalidSchema, accepted};

/// The maximum number of violations that are reported for one value: enough to fix it, and bounded for any input.
pub const MAX_VIOLATIONS: usize = 20;
/// For a value of more than this many bytes, only the first violation is reported: the library collects all violations
/// before it returns one, at 400 bytes each, and eight megabytes of invalid numbers would take a gigabyte.
const MAX_SURVEYED: usize = 64 * 1024;
/// Steps that every check may take, and additional ones for each byte of the value: at most 40 ms for 64 KiB. A schema
/// that needs fifty accesses to everything in the value is well within the budget.
const STEPS: u64 = 2_000_000;
const STEPS_PER_BYTE: u64 = 24;
/// Collecting violations may take this many times the steps of the check, but no more than the check left of its
/// budget, and always at least [`EXPLAIN_STEPS`].
const EXPLAIN_FACTOR: u64 = 4;
const EXPLAIN_STEPS: u64 = 500_000;
/// Steps for finding the first violation only, if collecting all of them exceeded the budget.
const FIRST_STEPS: u64 = 200_000;
/// Bytes of violations under construction: enough for all that 64 KiB can have, unless their pointers are very long.
const EXPLAIN_MEMORY: u64 = 24 * 1024 * 1024;
/// A check of at most [`BRIEF_BYTES`] within this many steps takes less than a millisecond.
const BRIEF_STEPS: u64 = 60_000;
/// Parsing a value takes 10 to 30 microseconds per kilobyte.
const BRIEF_BYTES: usize = 16 * 1024;
/// The violation of a value whose violations cannot be determined within the budget.
const NO_ALTERNATIVE: &str = "the value matches none of the alternatives that the schema allows";
/// The violation of a value for which the budget does not suffice to find out whether it matches.
const TOO_MUCH_WORK: &str =
    "checking the value against the schema takes more steps than are allowed; send a smaller value";
/// The longest detail, in bytes. Details may name members of the value, and anything that the schema lists.
const MAX_DETAIL: usize = 300;
/// The longest pointer, in bytes. A longer one is truncated after a whole segment: it then refers to an enclosing
/// value.
const MAX_POINTER: usize = 1024;

/// A schema that is ready to check values.
#[derive(Debug)]
pub struct Validator {
    compiled: jsonschema::Validator<MeteredJson>,
    prices: Prices,
}

/// A violation of the schema by a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// JSON Pointer (RFC 6901) into the value.
    pub pointer: String,
    /// What is wrong. Never the value itself.
    pub detail: String,
}

impl Validator {
    pub(super) fn new(schema: &Value) -> Result<Self, InvalidSchema> {
        // Patterns come from workers, the texts that they are matched against from any client: an engine that
        // backtracks could be made to hang. The linear engine lacks look-around and back-references; schemas with them
        // are rejected.
        let options = jsonschema::options_for::<MeteredJson>()
            .with_draft(Draft::Draft202012)
            .with_pattern_options(
                PatternOptions::regex()
                    .size_limit(patterns::COMPILED_BYTES)
                    .dfa_size_limit(patterns::CACHE_BYTES),
            );
        let prices = Prices::of(schema)?;
        let compiled = options.build(schema).map_err(|error| not_a_schema(&error))?;
        Ok(Self { compiled, prices })
    }

    /// Checks a complete JSON text. Takes up to 50 ms for 64 KiB, and more for a larger one.
    ///
    /// # Errors
    /// The violations, at most [`MAX_VIOLATIONS`]; for a value beyond 64 KiB only the first.
    pub fn check(&self, json: &[u8]) -> Result<(), Vec<Violation>> {
        let value = read(json)?;
        let budget = self.budget(&value, STEPS + STEPS_PER_BYTE * json.len() as u64);
        let Ok((fits, steps)) = within(budget, || self.compiled.is_valid(Metered(&value))) else {
            return Err(vec![at_the_top(TOO_MUCH_WORK)]);
        };
        if fits {
            return Ok(());
        }
        let left = (budget.steps - steps).min(EXPLAIN_FACTOR * steps);
        let budget = Budget { steps: EXPLAIN_STEPS.max(left), ..budget };
        let budget_of_one = Budget { steps: FIRST_STEPS, ..budget };
        let all = (json.len() <= MAX_SURVEYED).then(|| self.all(&value, budget).ok()).flatten();
        let found = all.or_else(|| self.first(&value, budget_of_one).ok());
        Err(found.unwrap_or_else(|| vec![at_the_top(NO_ALTERNATIVE)]))
    }

    /// Checks a JSON text like [`Validator::check`] if that takes less than a millisecond; `None` if it may take
    /// longer.
    #[must_use]
    pub fn check_briefly(&self, json: &[u8]) -> Option<Result<(), Vec<Violation>>> {
        if json.len() > BRIEF_BYTES {
            return None;
        }
        let value = match read(json) {
            Ok(value) => value,
            Err(unreadable) => return Some(Err(unreadable)),
        };
        let budget = self.budget(&value, BRIEF_STEPS);
        let (fits, steps) = within(budget, || self.compiled.is_valid(Metered(&value))).ok()?;
        if fits {
            return Some(Ok(()));
        }
        let budget = Budget { steps: budget.steps - steps, ..budget };
        self.all(&value, budget).ok().map(Err)
    }

    /// How many steps it takes to find out whether a value matches; `None` if the budget does not suffice.
    #[cfg(test)]
    pub(super) fn steps(&self, json: &[u8]) -> Option<u64> {
        let value = read(json).ok()?;
        let budget = self.budget(&value, STEPS + STEPS_PER_BYTE * json.len() as u64);
        within(budget, || self.compiled.is_valid(Metered(&value))).ok().map(|(_, steps)| steps)
    }

    fn budget(&self, value: &Value, steps: u64) -> Budget {
        let schema_paths = (1 + accepted::depth(value) as u64) * self.prices.path;
        let paths = longest_pointer(value) + schema_paths;
        Budget { steps, memory: EXPLAIN_MEMORY, paths, prices: self.prices }
    }

    fn all(&self, value: &Value, budget: Budget) -> Result<Vec<Violation>, Exhausted> {
        let collect = || {
            let errors = self.compiled.iter_errors(Metered(value));
            errors.take(MAX_VIOLATIONS).map(|error| violation(&error)).collect()
        };
        within(budget, collect).map(|(found, _)| found)
    }

    fn first(&self, value: &Value, budget: Budget) -> Result<Vec<Violation>, Exhausted> {
        let first = || self.compiled.validate(Metered(value)).err().map(|error| violation(&error));
        within(budget, first).map(|(found, _)| found.into_iter().collect())
    }
}

fn read(json: &[u8]) -> Result<Value, Vec<Violation>> {
    serde_json::from_slice(json)
        .map_err(|error| vec![at_the_top(&format!("cannot be read: {error}"))])
}

fn at_the_top(detail: &str) -> Violation {
    Violation { pointer: String::new(), detail: detail.to_owned() }
}

fn violation(error: &ValidationError<'_>) -> Violation {
    let pointer = error.instance_path().to_string();
    Violation { pointer: bounded_pointer(pointer), detail: detail(error) }
}

/// The library's message, without the value.
fn detail(error: &ValidationError<'_>) -> String {
    let mut text = Bounded(String::new());
    let whole = write!(text, "{}", error.masked_with("the value")).is_ok();
    let ellipsis = if whole { "" } else { "\u{2026}" };
    format!("{}{ellipsis}", text.0)
}

fn bounded_pointer(mut pointer: String) -> String {
    if pointer.len() > MAX_POINTER {
        let end = (0..=MAX_POINTER).rev().find(|&at| pointer.as_bytes().get(at) == Some(&b'/'));
        pointer.truncate(end.unwrap_or(0));
    }
    pointer
}

/// Text of at most [`MAX_DETAIL`] bytes; the part beyond is never built.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MAX_DETAIL - self.0.len();
        let fits = text.floor_char_boundary(room);
        self.0.push_str(&text[..fits]);
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

fn not_a_schema(error: &ValidationError<'_>) -> InvalidSchema {
    let place = bounded_pointer(error.instance_path().to_string());
    let colon = if place.is_empty() { "" } else { ": " };
    let mut reason = Bounded(String::new());
    // A truncated reason is still useful.
    let _cut = write!(reason, "{error}");
    InvalidSchema::NotSchema { place: format!("{place}{colon}"), reason: reason.0 }
}
