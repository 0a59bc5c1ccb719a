//! Sizes of a JSON value, in bytes.

use serde_json::Value;

/// Size of a value in an array, and of the allocation of a string.
const VALUE_BYTES: u64 = 32;
/// An object's members are in nodes with space for eleven, even if there are fewer.
const NODE_BYTES: u64 = 640;
/// Size of a member of an object, with its share of nodes that are not full.
const MEMBER_BYTES: u64 = 96;

/// The longest JSON Pointer into a value, in bytes.
pub(super) fn longest_pointer(value: &Value) -> u64 {
    match value {
        Value::Array(items) => {
            // An index has at most as many digits as a body has bytes.
            items.iter().map(|item| 9 + longest_pointer(item)).max().unwrap_or(0)
        }
        Value::Object(members) => {
            let below = members.iter();
            let below = below.map(|(name, value)| 1 + name.len() as u64 + longest_pointer(value));
            below.max().unwrap_or(0)
        }
        _ => 0,
    }
}

/// Size of a copy, with its allocations.
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
