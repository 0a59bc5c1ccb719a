//! Checking a value of 64 KiB takes at most 64 MiB, for any schema. A separate test binary, so that the peak memory
//! that the kernel reports is that of the checks.

#![allow(clippy::unwrap_used, reason = "a helper of a test")]

use crunch_common::schema::Schema;

#[path = "../src/schema/tests/attacks/memory.rs"]
mod attacks;

const LIMIT_KIB: u64 = 64 * 1024;

/// Peak resident memory of this process, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_check_of_64_kib_takes_at_most_64_mib() {
    for (name, schema, json) in attacks::all() {
        assert!(json.len() <= 64 * 1024, "{name}: {} bytes", json.len());
        let parsed = schema.to_string().parse::<Schema>();
        let Ok(validator) = parsed.and_then(|schema| schema.compile()) else { continue };
        let before = peak();
        let _either = validator.check(json.as_bytes());
        let grown = peak() - before;
        assert!(grown <= LIMIT_KIB, "{grown} KiB for {name}");
    }
}
