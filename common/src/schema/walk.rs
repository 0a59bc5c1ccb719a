//! Which members of a schema are schemas themselves. The others are data: a `$ref` in an `enum` refers to nothing.

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

/// Visits a schema and every schema inside of it, outer ones first. Schemas that are `true` or `false` have nothing to
/// visit. Depth is that of the document, which the parser bounds.
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
