//! Which schemas may be declared, how others are rejected, and which violations are reported for values.

mod attacks;
mod keywords;
mod random;

use std::fmt::Write as _;

use serde_json::json;

use super::*;

fn rejection(text: &str) -> String {
    text.parse::<Schema>().unwrap_err().to_string()
}

fn validator(schema: &serde_json::Value) -> Validator {
    schema.to_string().parse::<Schema>().unwrap().compile().unwrap()
}

fn violations(schema: &serde_json::Value, json: &str) -> Vec<Violation> {
    validator(schema).check(json.as_bytes()).unwrap_err()
}

#[test]
fn a_schema_that_stands_for_itself_is_taken_as_it_was_written() {
    let text = r##"{ "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://example.com/a.json",
        "type": "object", "properties": { "$ref": { "$ref": "#/$defs/a" }, "$id": { "type": "string" } },
        "$defs": { "a": { "enum": [{ "$ref": "https://example.com/data" }] } } }"##;
    let schema: Schema = text.parse().unwrap();
    assert_eq!(schema.as_str(), text);
    let wire = serde_json::to_string(&schema).unwrap();
    assert_eq!(serde_json::from_str::<Schema>(&wire).unwrap(), schema);
    assert!("true".parse::<Schema>().is_ok());
}

#[test]
fn whatever_leads_elsewhere_is_refused() {
    for reference in ["https://example.com/a.json", "other.json#/a", "file:///etc/passwd", "#a"] {
        let error = rejection(&json!({ "items": { "$ref": reference } }).to_string());
        assert!(error.contains(reference) && error.contains("refers outside the file"), "{error}");
    }
    assert!(
        rejection(r##"{"$ref":"#/$defs/none"}"##).contains("refers to a place that does not exist")
    );
    assert!(
        rejection(r#"{"properties":{"a":{"$id":"b"}}}"#)
            .starts_with("$id below the top level is not supported")
    );
    assert!(rejection(r##"{"$dynamicRef":"#a"}"##).starts_with("$dynamicRef is not supported"));
    assert!(
        rejection(r#"{"$schema":"http://json-schema.org/draft-07/schema#"}"#).contains("draft-07")
    );
}

#[test]
fn what_is_no_schema_is_refused_with_its_place() {
    assert!(rejection("{\n\"type\": }").contains("not JSON: expected value at line 2"));
    assert!(rejection(r#"{"properties":{"a":{"type":"text"}}}"#).contains("/properties/a/type: "));
    assert!(rejection(r#"{"pattern":"("}"#).contains("/pattern"));
    assert!(rejection("[]").starts_with("not a JSON Schema"));
    let large = json!({ "description": "x".repeat(Schema::MAX_BYTES) }).to_string();
    assert!(rejection(&large).contains("at most 65536"));
    let deep = format!("{}{{}}{}", "{\"not\":".repeat(64), "}".repeat(64));
    assert_eq!(rejection(&deep), "nested deeper than 64 levels");
}

/// Look-around needs an engine that backtracks, in which a text can take forever.
#[test]
fn patterns_are_matched_in_linear_time_or_not_at_all() {
    assert!(rejection(r#"{"pattern":"(?=a)b"}"#).contains("/pattern"));
    let slow_elsewhere = json!({ "pattern": "^(a+)+$" });
    let text = format!("\"{}!\"", "a".repeat(100_000));
    assert_eq!(violations(&slow_elsewhere, &text).len(), 1);
}

#[test]
fn every_violation_has_its_place_and_none_repeats_the_value() {
    let schema = json!({
        "type": "object", "additionalProperties": false,
        "properties": { "n": { "type": "integer", "maximum": 5 }, "a/b": { "items": { "type": "string" } } },
    });
    let mut found = violations(&schema, r#"{"n":6,"a/b":["x",7],"secret":1}"#);
    found.sort_by(|a, b| a.pointer.cmp(&b.pointer));
    let places: Vec<_> = found.iter().map(|it| it.pointer.as_str()).collect();
    assert_eq!(places, ["", "/a~1b/1", "/n"]);
    assert_eq!(found[2].detail, "the value is greater than the maximum of 5");
    let secret = violations(&json!({ "type": "integer" }), "\"secret\"");
    assert!(!secret[0].detail.contains("secret"), "{secret:?}");
}

#[test]
fn what_is_reported_is_bounded_whatever_is_sent() {
    let of_texts = json!({ "items": { "type": "string" } });
    let some = format!("[{}0]", "0,".repeat(1_000));
    assert_eq!(violations(&of_texts, &some).len(), MAX_VIOLATIONS);
    let many = format!("[{}0]", "0,".repeat(1_000_000));
    assert_eq!(violations(&of_texts, &many).len(), 1);
    let long = format!("{{\"{}\":1}}", "n".repeat(100_000));
    let found =
        violations(&json!({ "properties": { "a": {} }, "additionalProperties": false }), &long);
    assert!(found[0].detail.len() < 310 && found[0].detail.ends_with('\u{2026}'), "{found:?}");
    let nested = violations(&json!({ "additionalProperties": { "type": "string" } }), &long);
    assert_eq!(nested[0].pointer, "");
}

/// Otherwise a schema could crash every API that loads it.
#[test]
fn a_schema_that_refers_to_itself_comes_to_an_end() {
    for schema in [
        json!({ "$ref": "#" }),
        json!({ "allOf": [{ "$ref": "#" }] }),
        json!({ "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "anyOf": [{ "$ref": "#/$defs/a" }] } }, "$ref": "#/$defs/a" }),
        json!({ "not": { "$ref": "#" } }),
    ] {
        let Ok(validator) = schema.to_string().parse::<Schema>().unwrap().compile() else {
            continue;
        };
        let _either = validator.check(b"{\"a\":[1]}");
    }
    let tree = json!({ "type": "object", "properties": { "left": { "$ref": "#" } } });
    assert!(validator(&tree).check(br#"{"left":{"left":{}}}"#).is_ok());
    assert_eq!(violations(&tree, r#"{"left":{"left":7}}"#)[0].pointer, "/left/left");
}

#[test]
fn what_no_number_or_text_can_hold_is_said_to_be_unreadable() {
    for json in ["1e999", r#""\ud800""#] {
        let found = violations(&json!(true), json);
        assert!(found[0].detail.starts_with("cannot be read: "), "{found:?}");
    }
}

/// A schema of an ordinary expression tree.
fn expressions(alternatives: &str) -> serde_json::Value {
    let branch = |op: &str| {
        json!({ "type": "object", "required": ["op", "arg"],
            "properties": { "op": { "const": op }, "arg": { "$ref": "#/$defs/node" } } })
    };
    let branches = json!([branch("not"), branch("neg"), { "type": "number" }]);
    json!({ "$ref": "#/$defs/node", "$defs": { "node": { alternatives: branches } } })
}

fn nested(depth: usize, leaf: &str) -> String {
    format!("{}{leaf}{}", "{\"op\":\"neg\",\"arg\":".repeat(depth), "}".repeat(depth))
}

/// The library explores three branches below each of three branches, sixty levels deep.
#[test]
fn a_recursive_choice_is_refused_without_exploring_all_its_branches() {
    for alternatives in ["anyOf", "oneOf"] {
        let schema = expressions(alternatives);
        let validator = validator(&schema);
        assert!(validator.check(nested(60, "1").as_bytes()).is_ok());
        let wrong = nested(60, "\"bad\"");
        assert!(validator.steps(wrong.as_bytes()).is_some_and(|steps| steps < 20_000));
        let found = validator.check(wrong.as_bytes()).unwrap_err();
        assert!(found[0].detail.contains("matches none of the alternatives"), "{found:?}");
        // Violations that can be determined are reported.
        let shallow = validator.check(nested(2, "\"bad\"").as_bytes()).unwrap_err();
        assert!(!shallow[0].detail.contains("matches none of the alternatives"), "{shallow:?}");
    }
}

/// A schema of definitions, each of which refers to the next one.
fn chain(length: usize, link: impl Fn(usize) -> serde_json::Value) -> String {
    let mut defs: serde_json::Map<_, _> =
        (0..length).map(|at| (format!("a{at}"), link(at + 1))).collect();
    defs.insert(format!("a{length}"), json!({ "type": "object" }));
    json!({ "$ref": "#/$defs/a0", "$defs": defs }).to_string()
}

fn to(at: usize) -> serde_json::Value {
    json!({ "$ref": format!("#/$defs/a{at}") })
}

#[test]
fn references_that_multiply_are_refused_with_the_reason() {
    let twice: [fn(usize) -> serde_json::Value; 5] = [
        |next| json!({ "allOf": [to(next), to(next)] }),
        |next| json!({ "anyOf": [to(next)], "not": to(next) }),
        |next| json!({ "properties": { "a": to(next), "b": to(next) } }),
        |next| json!({ "if": to(next), "then": to(next), "items": to(0) }),
        |next| json!({ "unevaluatedProperties": false, "allOf": [to(next)] }),
    ];
    for link in twice {
        let error = rejection(&chain(40, link));
        assert!(error.starts_with("its references multiply"), "{error}");
    }
    // Everything refers to everything: there are too many paths to follow.
    let all = |_: usize| json!({ "unevaluatedItems": false, "anyOf": (0..7).map(to).collect::<Vec<_>>() });
    assert!(rejection(&chain(7, all)).contains("next to unevaluatedProperties"));
    assert!(rejection(&chain(1_000, to)).contains("in a chain"));
    // A reference to a place where no schema is expected is also checked.
    assert!(
        rejection(r##"{"$ref":"#/x/y","x":{"y":{"$dynamicRef":"#a"}}}"##).contains("$dynamicRef")
    );
}

/// A grammar of many kinds of nodes, each of which may contain every other, as in the syntax of a language.
#[test]
fn kinds_of_nodes_that_contain_each_other_may_be_declared() {
    let kind = |at: usize| {
        json!({ "type": "object", "required": ["kind"], "properties": {
            "kind": { "const": format!("k{at}") }, "left": { "$ref": "#/$defs/node" },
            "right": { "$ref": "#/$defs/node" }, "items": { "items": { "$ref": "#/$defs/node" } } } })
    };
    let mut defs: serde_json::Map<_, _> = (0..100).map(|at| (format!("k{at}"), kind(at))).collect();
    let kinds: Vec<_> = (0..100).map(|at| json!({ "$ref": format!("#/$defs/k{at}") })).collect();
    defs.insert("node".to_owned(), json!({ "anyOf": kinds }));
    let schema = json!({ "$ref": "#/$defs/node", "$defs": defs });
    let deep = (0..30).fold("{\"kind\":\"k99\"}".to_owned(), |inner, _| {
        format!("{{\"kind\":\"k99\",\"left\":{inner},\"items\":[{{\"kind\":\"k7\"}}]}}")
    });
    assert!(validator(&schema).check(deep.as_bytes()).is_ok());
}

/// The library hashes arrays only by their leaves, so these all have the same hash.
#[test]
fn unique_items_are_counted_in_linear_time() {
    let mut items = String::new();
    for at in 0_u32..4_000 {
        let bits = (0..12).map(|bit| if at >> bit & 1 == 0 { "[]," } else { "[[]]," });
        let bits: String = bits.collect();
        write!(items, "[{}],", bits.trim_end_matches(',')).unwrap();
    }
    let validator = validator(&json!({ "uniqueItems": true }));
    let unique = format!("[{}]", items.trim_end_matches(','));
    assert!(validator.steps(unique.as_bytes()).is_some_and(|steps| steps < 400_000));
    assert!(validator.check(unique.as_bytes()).is_ok());
    assert!(validator.check(format!("[{items}[{}[]]]", "[],".repeat(11)).as_bytes()).is_err());
    for (json, unique) in [
        ("[1,1.0]", false),
        ("[0,-0.0]", false),
        ("[1,true,\"1\",[1]]", true),
        ("[9007199254740993,9007199254740992.0]", true),
        ("[{\"a\":1,\"b\":2},{\"b\":2,\"a\":1}]", false),
        ("[18446744073709551615,18446744073709551616.0]", true),
        ("[1e300,1e300]", false),
    ] {
        assert_eq!(validator.check(json.as_bytes()).is_ok(), unique, "{json}");
    }
}

/// A pointer as long as the value, in each of many violations.
#[test]
fn violations_under_construction_are_bounded_in_memory() {
    let long = format!("{{\"{}\":[{}0]}}", "n".repeat(40_000), "0,".repeat(10_000));
    let found =
        violations(&json!({ "additionalProperties": { "items": { "type": "string" } } }), &long);
    assert_eq!(found.len(), 1);
}

#[test]
fn a_brief_check_gives_up_where_a_thorough_one_goes_on() {
    let validator = validator(&json!({ "items": { "type": "integer" } }));
    assert_eq!(validator.check_briefly(b"[1]"), Some(Ok(())));
    assert!(validator.check_briefly(b"[true]").is_some_and(|found| found.is_err()));
    assert_eq!(validator.check_briefly(format!("[{}1]", "1,".repeat(10_000)).as_bytes()), None);
    let choice = self::validator(&expressions("anyOf"));
    assert_eq!(choice.check_briefly(nested(60, "\"bad\"").as_bytes()), None);
}

/// The engine cannot cache the states of these, and visits a thousand of them for every byte.
#[test]
fn a_pattern_whose_states_do_not_fit_is_paid_by_its_states() {
    let steps = |pattern: &str, letters: usize| {
        let text = format!("\"{}\"", "abbabaab".repeat(letters / 8));
        validator(&json!({ "pattern": pattern })).steps(text.as_bytes())
    };
    for pattern in ["[ab]*a[ab]{1000}c", "[ab]*a[ab]{200}c", "[ab]*a[ab]{60}c", "c[ab]{200}a[ab]*$"]
    {
        assert_eq!(steps(pattern, 60_000), None, "{pattern}");
        assert!(steps(pattern, 160).is_some(), "{pattern}");
    }
    for pattern in [
        "^[A-Za-z0-9+/]+={0,2}$",
        "^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]{2,63}$",
        "^[^@\\s]+@[^@\\s]+\\.[a-z]{2,}$",
        "^\\p{L}[\\p{L}\\p{N} '-]*$",
        "^.{1,60000}$",
    ] {
        assert!(steps(pattern, 60_000).is_some_and(|steps| steps < 60_000), "{pattern}");
    }
}

#[test]
fn names_are_paid_once_for_each_pattern_beside_each_other() {
    for additional in [json!(true), json!(false), json!({ "type": "integer" })] {
        let steps = |count: usize, json: &str| {
            let named: serde_json::Map<_, _> =
                (0..count).map(|at| (format!("x{at}y*z|a"), json!(true))).collect();
            let schema = json!({ "patternProperties": named, "additionalProperties": additional });
            validator(&schema).steps(json.as_bytes()).unwrap()
        };
        let (one, many) = (steps(1, r#"{"a":1,"ba":2}"#), steps(100, r#"{"a":1,"ba":2}"#));
        assert!((30 * one..150 * one).contains(&many), "{one} {many}");
        // By itself, this is well affordable.
        let members: Vec<_> = (0..1_000).map(|at| format!("\"a{at}\":1")).collect();
        assert!(steps(20, &format!("{{{}}}", members.join(","))) < 1_000_000);
    }
    let patterns: Vec<_> = (0..600).map(|at| json!({ "pattern": format!("a{at}b*c") })).collect();
    let error = rejection(&json!({ "anyOf": patterns }).to_string());
    assert!(error.starts_with("its patterns are too large together"), "{error}");
}

/// Numbers whose digits do not fit into 128 bits are divided as fractions, in microseconds each.
#[test]
fn multiples_of_fractions_are_paid_by_what_dividing_takes() {
    let steps = |multiple: f64, json: &str| {
        validator(&json!({ "multipleOf": multiple })).steps(json.as_bytes()).unwrap()
    };
    assert!(steps(7.0, "49") < 10);
    assert!((50..200).contains(&steps(0.01, "0.25")));
    assert!(steps(1e-300, "1.7e308") >= 500);
    assert!(steps(2.0, "1.7e308") >= 500);
}
