//! The checks a schema passes before it is compiled: size, syntax, depth, dialect, and that it stands for itself.

use serde_json::{Map, Value};

use super::walk::each_subschema;
use super::{InvalidSchema, Schema, growth};

/// The one dialect.
pub(super) const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Other ways to name places. Their meaning depends on the document around them, and a schema is shown inside others.
const UNSUPPORTED: [&str; 6] = [
    "$anchor",
    "$dynamicAnchor",
    "$dynamicRef",
    "$recursiveAnchor",
    "$recursiveRef",
    "$vocabulary",
];

/// Reads a schema.
pub(super) fn read(text: &str) -> Result<Value, InvalidSchema> {
    if text.len() > Schema::MAX_BYTES {
        return Err(InvalidSchema::TooLarge { bytes: text.len() });
    }
    let mut schema: Value = serde_json::from_str(text)
        .map_err(|error| InvalidSchema::NotJson { reason: error.to_string() })?;
    if depth(&schema) > Schema::MAX_DEPTH {
        return Err(InvalidSchema::TooDeep);
    }
    check_dialect(&schema)?;
    // It has been read: what it calls itself is of no use any more, and would only lead references astray.
    schema.as_object_mut().and_then(|members| members.remove("$id"));
    let root = schema.clone();
    let mut wrong = None;
    each_subschema(&mut schema, &mut |members| {
        wrong = wrong.take().or_else(|| check(members, &root).err());
    });
    wrong.map_or(Ok(()), Err)?;
    growth::check(&schema, |members| check(members, &root))?;
    Ok(schema)
}

/// How many arrays and objects are inside of each other.
pub(super) fn depth(value: &Value) -> usize {
    let deepest = match value {
        Value::Array(items) => items.iter().map(depth).max(),
        Value::Object(members) => members.values().map(depth).max(),
        _ => return 0,
    };
    1 + deepest.unwrap_or(0)
}

fn check_dialect(schema: &Value) -> Result<(), InvalidSchema> {
    match schema.get("$schema") {
        None => Ok(()),
        Some(Value::String(given)) if given.trim_end_matches('#') == DIALECT => Ok(()),
        Some(other) => {
            let given = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
            Err(InvalidSchema::Dialect { given })
        }
    }
}

fn check(members: &Map<String, Value>, root: &Value) -> Result<(), InvalidSchema> {
    if members.contains_key("$id") {
        return Err(InvalidSchema::Unsupported { keyword: "$id, other than at the top," });
    }
    if let Some(keyword) = UNSUPPORTED.into_iter().find(|&keyword| members.contains_key(keyword)) {
        return Err(InvalidSchema::Unsupported { keyword });
    }
    let Some(Value::String(reference)) = members.get("$ref") else { return Ok(()) };
    let named = || reference.clone();
    let pointer = reference.strip_prefix('#').filter(|it| it.is_empty() || it.starts_with('/'));
    let pointer = pointer.ok_or_else(|| InvalidSchema::Remote { reference: named() })?;
    root.pointer(pointer).map(|_| ()).ok_or_else(|| InvalidSchema::Dangling { reference: named() })
}
