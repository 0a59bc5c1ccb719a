//! Attacks on memory: every violation of the library contains a pointer, a path, and copies of parts of value or
//! schema.

use serde_json::{Value, json};

/// An attack: its name, the schema, and a value of at most 64 KiB.
pub(crate) type Attack = (&'static str, Value, String);

const BYTES: usize = 64 * 1024;

/// All attacks on memory.
pub(crate) fn all() -> Vec<Attack> {
    [recursion(), violations(), copies()].concat()
}

fn recursion() -> Vec<Attack> {
    let branch = |op: &str| {
        json!({ "type": "object", "required": ["op", "arg"],
            "properties": { "op": { "const": op }, "arg": { "$ref": "#/$defs/node" } } })
    };
    let branches = json!([branch("not"), branch("neg"), { "type": "number" }]);
    let choice =
        |kind: &str| json!({ "$ref": "#/$defs/node", "$defs": { "node": { kind: branches } } });
    let tree = |depth: usize, leaf: &str| {
        format!("{}{leaf}{}", "{\"op\":\"neg\",\"arg\":".repeat(depth), "}".repeat(depth))
    };
    let nested = |depth: usize| {
        list(60_000 / (2 * depth + 1), |_| format!("{}{}", "[".repeat(depth), "]".repeat(depth)))
    };
    let lists = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "anyOf": [
        { "items": { "$ref": "#/$defs/a" }, "maxItems": 0 }, { "items": { "$ref": "#/$defs/a" } } ] } } });
    let many: Vec<_> = (0..1_000).map(|_| json!({ "$ref": "#/$defs/a" })).collect();
    let wide = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "items": { "anyOf": many, "type": "array" } } } });
    let closed = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "unevaluatedItems": false,
        "anyOf": [{ "items": { "$ref": "#/$defs/a" }, "maxItems": 0 }, { "items": { "$ref": "#/$defs/a" } }] } } });
    vec![
        ("a choice that recurses, deep", choice("anyOf"), tree(60, "\"bad\"")),
        ("one of a choice that recurses, deep", choice("oneOf"), tree(60, "\"bad\"")),
        (
            "a choice that recurses, many times",
            json!({ "items": choice("anyOf")["$defs"]["node"], "$defs": choice("anyOf")["$defs"] }),
            list(60, |_| tree(40, "\"b\"")),
        ),
        ("nested lists, deep", lists.clone(), nested(60)),
        ("nested lists, shallow", lists, nested(2)),
        ("many paths to the same", wide.clone(), nested(3)),
        ("many paths to the same, deep", wide, nested(50)),
        ("closed nested lists", closed.clone(), nested(3)),
        ("closed nested lists, deep", closed, nested(50)),
    ]
}

fn violations() -> Vec<Attack> {
    let zeros = list(32_000, |_| "0".to_owned());
    let large = || (0..9_000).map(|at| json!(at)).collect::<Vec<_>>();
    let many = |value: Value, count: usize| json!({ "items": { "allOf": (0..count).map(|_| value.clone()).collect::<Vec<_>>() } });
    vec![
        ("wrong types", json!({ "items": { "type": "string" } }), zeros.clone()),
        ("wrong types, many times", many(json!({ "type": "string" }), 3_000), zeros.clone()),
        ("false", many(json!(false), 8_000), zeros.clone()),
        (
            "alternatives that all fail",
            json!({ "items": { "anyOf": (0..3_000).map(|at| json!({ "const": at + 1 })).collect::<Vec<_>>() } }),
            zeros.clone(),
        ),
        (
            "a large enumeration",
            json!({ "items": { "enum": large().into_iter().map(|it| json!([it])).collect::<Vec<_>>() } }),
            zeros.clone(),
        ),
        (
            "each with a long pointer",
            json!({ "additionalProperties": { "items": { "type": "string" } } }),
            format!("{{\"{}\":{}}}", "n".repeat(30_000), list(17_000, |_| "0".to_owned())),
        ),
        (
            "alternatives for each item",
            json!({ "items": { "anyOf": [{ "type": "string" }, { "type": "object" }, { "const": 1 }, { "minimum": 1 }] } }),
            zeros.clone(),
        ),
        (
            "alternatives for a large value",
            json!({ "anyOf": (0..2_500).map(|_| json!({ "type": "object" })).collect::<Vec<_>>() }),
            zeros.clone(),
        ),
        (
            "alternatives for a large object",
            json!({ "anyOf": (0..2_000).map(|at| json!({ "required": [format!("b{at}")] })).collect::<Vec<_>>() }),
            object(6_000, |at| (format!("a{at}"), "1".to_owned())),
        ),
        ("items that nothing evaluates", json!({ "unevaluatedItems": false }), zeros),
        (
            "long names that are not allowed",
            json!({ "items": { "additionalProperties": false } }),
            list(60, |at| format!("{{\"{}{at}\":1}}", "n".repeat(1_000))),
        ),
        (
            "names that are not allowed, many times",
            json!({ "allOf": (0..1_500).map(|_| json!({ "additionalProperties": false })).collect::<Vec<_>>() }),
            object(6_000, |at| (format!("a{at}"), "1".to_owned())),
        ),
    ]
}

/// Attacks with large copies from the schema in violations.
fn copies() -> Vec<Attack> {
    let zeros = list(32_000, |_| "0".to_owned());
    vec![
        (
            "what is not allowed is large",
            json!({ "items": { "not": { "type": "integer", "enum": [(0..9_000).collect::<Vec<_>>(), 0] } } }),
            zeros.clone(),
        ),
        (
            "what is required is long",
            json!({ "items": { "required": ["n".repeat(50_000)] } }),
            list(20_000, |_| "{}".to_owned()),
        ),
        (
            "the pattern is long",
            json!({ "items": { "pattern": format!("^{}$", "n".repeat(3_000)) } }),
            list(20_000, |_| "\"\"".to_owned()),
        ),
        (
            "the exact text is long",
            json!({ "items": { "pattern": format!("^{}$", "n".repeat(50_000)) } }),
            list(20_000, |_| "\"\"".to_owned()),
        ),
        (
            "the path in the schema is long",
            json!({ "items": { "allOf": [{ "patternProperties": { "n".repeat(50_000): true, "^a": { "type": "string" } } }] } }),
            list(6_000, |_| "{\"a\":1}".to_owned()),
        ),
        (
            "the reference in the schema is long",
            json!({ "items": { "$ref": format!("#/$defs/{}", "n".repeat(30_000)) }, "$defs": { "n".repeat(30_000): { "type": "string" } } }),
            zeros,
        ),
    ]
}

/// A list of as many items as fit into 64 KiB, at most `count`.
pub(crate) fn list(count: usize, item: impl Fn(usize) -> String) -> String {
    let mut text = "[".to_owned();
    for at in 0..count {
        let item = item(at);
        if text.len() + item.len() + 1 >= BYTES {
            break;
        }
        text.push_str(&item);
        text.push(',');
    }
    text.pop();
    text + "]"
}

pub(crate) fn object(count: usize, member: impl Fn(usize) -> (String, String)) -> String {
    let members = list(count, |at| {
        let (name, value) = member(at);
        format!("\"{name}\":{value}")
    });
    members.replace('[', "{").replace(']', "}")
}
