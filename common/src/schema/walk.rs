//! Which members of a schema are schemas themselves. The others are data: a `$ref` in an `enum` is not a reference.

use serde_json::{Map, Value};

/// Keywords whose value is a schema, or a list of schemas.
const SCHEMAS: [&str; 16] = [
    "additionalProperties",
    "unevaluatedProperties",
    "propertyNames",
    "items",
    "prefixItems",
    "unevaluatedItems",
    "contains",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "contentSchema",
    "additionalItems",
];
/// Keywords whose value is an object of schemas by name.
const NAMED: [&str; 5] =
    ["properties", "patternProperties", "dependentSchemas", "$defs", "definitions"];

/// Keywords whose schemas apply to the value itself; the others apply to parts of it.
const IN_PLACE: [&str; 8] =
    ["allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"];
/// Keywords whose schemas do not apply unless a reference leads to them.
const STORED: [&str; 3] = ["$defs", "definitions", "contentSchema"];

/// What a subschema applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The same value as the enclosing schema.
    Same,
    /// A part of that value.
    Inside,
}

/// The subschemas that apply when a schema applies, except for the target of its `$ref`.
pub(super) fn subschemas(members: &Map<String, Value>) -> Vec<(Place, &Value)> {
    let mut found = Vec::new();
    for (keyword, value) in members.iter().filter(|(it, _)| !STORED.contains(&it.as_str())) {
        let keyword = keyword.as_str();
        let place = if IN_PLACE.contains(&keyword) { Place::Same } else { Place::Inside };
        match value {
            Value::Object(named) if NAMED.contains(&keyword) => {
                found.extend(named.values().map(|schema| (place, schema)));
            }
            Value::Array(list) if SCHEMAS.contains(&keyword) => {
                found.extend(list.iter().map(|schema| (place, schema)));
            }
            schema if SCHEMAS.contains(&keyword) => found.push((place, schema)),
            _ => {}
        }
    }
    found
}

/// Visits a schema and every schema inside it, outer ones first. Schemas that are `true` or `false` are not visited.
/// The recursion depth is that of the document, which the parser bounds.
pub fn each_subschema(schema: &mut Value, visit: &mut impl FnMut(&mut Map<String, Value>)) {
    let Value::Object(members) = schema else { return };
    visit(members);
    for (keyword, value) in members.iter_mut() {
        match value {
            Value::Object(named) if NAMED.contains(&keyword.as_str()) => {
                named.values_mut().for_each(|schema| each_subschema(schema, visit));
            }
            Value::Array(list) if SCHEMAS.contains(&keyword.as_str()) => {
                list.iter_mut().for_each(|schema| each_subschema(schema, visit));
            }
            schema if SCHEMAS.contains(&keyword.as_str()) => each_subschema(schema, visit),
            _ => {}
        }
    }
}
