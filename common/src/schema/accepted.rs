//! Checks of a schema before it is compiled: size, syntax, depth, dialect, and that it is self-contained.

use serde_json::{Map, Value};

use super::walk::each_subschema;
use super::{InvalidSchema, Schema, growth};

/// The only supported dialect.
pub(super) const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Other keywords for references. Their meaning depends on the enclosing document, and schemas are embedded in others.
const UNSUPPORTED: [&str; 6] = [
    "$anchor",
    "$dynamicAnchor",
    "$dynamicRef",
    "$recursiveAnchor",
    "$recursiveRef",
    "$vocabulary",
];

/// Parses and checks a schema.
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
    // The schema is parsed: its own id is not needed any more, and would only misdirect references.
    schema.as_object_mut().and_then(|members| members.remove("$id"));
    let root = schema.clone();
    let mut first_error = None;
    each_subschema(&mut schema, &mut |members| {
        first_error = first_error.take().or_else(|| check(members, &root).err());
    });
    first_error.map_or(Ok(()), Err)?;
    growth::check(&schema, |members| check(members, &root))?;
    Ok(schema)
}

/// How deep arrays and objects are nested.
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
        return Err(InvalidSchema::Unsupported { keyword: "$id below the top level" });
    }
    if let Some(keyword) = UNSUPPORTED.into_iter().find(|&keyword| members.contains_key(keyword)) {
        return Err(InvalidSchema::Unsupported { keyword });
    }
    let Some(Value::String(reference)) = members.get("$ref") else { return Ok(()) };
    let owned = || reference.clone();
    let pointer = reference.strip_prefix('#').filter(|it| it.is_empty() || it.starts_with('/'));
    let pointer = pointer.ok_or_else(|| InvalidSchema::Remote { reference: owned() })?;
    root.pointer(pointer).map(|_| ()).ok_or_else(|| InvalidSchema::Dangling { reference: owned() })
}
