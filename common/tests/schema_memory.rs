//! Checking a value of 64 KiB takes at most 64 MiB, whatever the schema. A test binary of its own, so that the peak that the
//! kernel keeps is that of the checks.

#![allow(clippy::unwrap_used, reason = "a helper of a test")]

use crunch_common::schema::Schema;
use serde_json::{Value, json};

const LIMIT_KIB: u64 = 64 * 1024;

/// The highest resident memory there ever was, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn choice(alternatives: &str) -> Value {
    let branch = |op: &str| {
        json!({ "type": "object", "required": ["op", "arg"],
            "properties": { "op": { "const": op }, "arg": { "$ref": "#/$defs/node" } } })
    };
    let branches = json!([branch("not"), branch("neg"), { "type": "number" }]);
    json!({ "$ref": "#/$defs/node", "$defs": { "node": { alternatives: branches } } })
}

fn tree(depth: usize, leaf: &str) -> String {
    format!("{}{leaf}{}", "{\"op\":\"neg\",\"arg\":".repeat(depth), "}".repeat(depth))
}

fn zeros(count: usize) -> String {
    format!("[{}0]", "0,".repeat(count - 1))
}

#[test]
fn a_check_of_64_kib_takes_at_most_64_mib() {
    let texts = json!({ "items": { "type": "string" } });
    let alternatives = json!({ "items": { "anyOf": [
        { "type": "string" }, { "type": "object" }, { "const": 1 }, { "minimum": 1 } ] } });
    let named = json!({ "additionalProperties": { "items": { "type": "string" } } });
    let containers = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "anyOf": [
        { "items": { "$ref": "#/$defs/a" }, "maxItems": 0 }, { "items": { "$ref": "#/$defs/a" } } ] } } });
    let cases = [
        (choice("anyOf"), tree(60, "\"bad\"")),
        (choice("oneOf"), tree(60, "\"bad\"")),
        (texts, zeros(32_000)),
        (alternatives, zeros(32_000)),
        (named, format!("{{\"{}\":{}}}", "n".repeat(30_000), zeros(17_000))),
        (containers, format!("[{}[]]", "[[]],".repeat(12_000))),
        (json!({ "uniqueItems": true }), zeros(32_000)),
    ];
    for (schema, json) in cases {
        assert!(json.len() <= 64 * 1024);
        let validator = schema.to_string().parse::<Schema>().unwrap().compile().unwrap();
        let before = peak();
        let _either = validator.check(json.as_bytes());
        let grown = peak() - before;
        assert!(grown <= LIMIT_KIB, "{grown} KiB for {} bytes against {schema}", json.len());
    }
}
