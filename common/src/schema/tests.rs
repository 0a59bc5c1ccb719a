//! What may be declared, what is said of the rest, and what a value hears.

use serde_json::json;

use super::*;

fn refusal(text: &str) -> String {
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
        let said = refusal(&json!({ "items": { "$ref": reference } }).to_string());
        assert!(said.contains(reference) && said.contains("leads out of the file"), "{said}");
    }
    assert!(refusal(r##"{"$ref":"#/$defs/none"}"##).contains("leads nowhere"));
    assert!(refusal(r#"{"properties":{"a":{"$id":"b"}}}"#).starts_with("$id, other than"));
    assert!(refusal(r##"{"$dynamicRef":"#a"}"##).starts_with("$dynamicRef is not supported"));
    assert!(
        refusal(r#"{"$schema":"http://json-schema.org/draft-07/schema#"}"#).contains("draft-07")
    );
}

#[test]
fn what_is_no_schema_is_refused_with_its_place() {
    assert!(refusal("{\n\"type\": }").contains("not JSON: expected value at line 2"));
    assert!(refusal(r#"{"properties":{"a":{"type":"text"}}}"#).contains("/properties/a/type: "));
    assert!(refusal(r#"{"pattern":"("}"#).contains("/pattern"));
    assert!(refusal("[]").starts_with("not a JSON Schema"));
    let large = json!({ "description": "x".repeat(Schema::MAX_BYTES) }).to_string();
    assert!(refusal(&large).contains("at most 65536"));
    let deep = format!("{}{{}}{}", "{\"not\":".repeat(64), "}".repeat(64));
    assert_eq!(refusal(&deep), "nested deeper than 64 levels");
}

/// Look-around needs an engine that backtracks, and with it a text that takes for ever.
#[test]
fn patterns_are_matched_in_linear_time_or_not_at_all() {
    assert!(refusal(r#"{"pattern":"(?=a)b"}"#).contains("/pattern"));
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
fn what_is_told_is_bounded_whatever_is_sent() {
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

/// Otherwise a schema could take down every API that learns it.
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
