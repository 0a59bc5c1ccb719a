//! Sizes of a JSON value, in bytes.

use serde_json::Value;

/// Size of a value in an array; also the overhead of the allocation of a string.
const VALUE_BYTES: u64 = 32;
/// Size of a node of an object, which is a B-tree: a node has space for eleven members, even if there are fewer.
const NODE_BYTES: u64 = 640;
/// Size of a member of an object, with its share of nodes that are not full.
const MEMBER_BYTES: u64 = 96;

/// Length of the longest JSON Pointer into a value, in bytes. Escaped characters count as one.
pub(super) fn longest_pointer(value: &Value) -> u64 {
    match value {
        Value::Array(items) => {
            // A slash and at most eight digits: an index is smaller than the number of bytes of a body, which is at
            // most 64 MiB.
            items.iter().map(|item| 9 + longest_pointer(item)).max().unwrap_or(0)
        }
        Value::Object(members) => {
            let members = members.iter();
            let lengths =
                members.map(|(name, value)| 1 + name.len() as u64 + longest_pointer(value));
            lengths.max().unwrap_or(0)
        }
        _ => 0,
    }
}

/// Size of a copy of a value, with its allocations.
pub(super) fn copied_bytes(value: &Value) -> u64 {
    VALUE_BYTES
        + match value {
            Value::Array(items) => items.iter().map(copied_bytes).sum(),
            Value::Object(members) => {
                let own =
                    |(name, value): (&String, &Value)| name.len() as u64 + copied_bytes(value);
                NODE_BYTES + members.iter().map(|it| MEMBER_BYTES + own(it)).sum::<u64>()
            }
            Value::String(text) => text.len() as u64,
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
}
