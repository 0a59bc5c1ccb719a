//! Any schema, any payload and any submitted form.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Form, Json};
use super::Pairs;

/// A value whose members and texts are those that schemas use, and some that break forms.
fn value() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!("a\r\n\u{0}<b>\"'")),
        Just(json!("")),
        Just(json!("2026-01-02T03:04:05Z")),
    ];
    let name = || prop_oneof!["[a-c]", "[/~%]{1,2}", Just("~option0".to_owned())];
    let inside = move |value: BoxedStrategy<Value>| {
        prop_oneof![
            prop::collection::vec(value.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name(), value, 0..4).prop_map(|it| json!(it)),
        ]
    };
    leaf.prop_recursive(4, 30, 4, move |value| inside(value.boxed())).boxed()
}

const TYPES: &[&str] = &["string", "integer", "number", "boolean", "null", "array", "object"];

fn schema() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        proptest::sample::select(TYPES).prop_map(|it| json!({ "type": it })),
        proptest::sample::select(TYPES).prop_map(|it| json!({ "type": [it, "null"] })),
        Just(json!({ "type": "string", "format": "date-time" })),
        Just(json!({ "type": "string", "maxLength": 500, "default": "x" })),
        Just(json!({ "$ref": "#" })),
        Just(json!({ "$ref": "#/$defs/a" })),
        any::<bool>().prop_map(Value::from),
        value().prop_map(|it| json!({ "const": it })),
        prop::collection::vec(value(), 0..4).prop_map(|it| json!({ "enum": it })),
        value(),
    ];
    let name = || prop_oneof!["[a-c]", "[/~%]{1,2}", Just("~option0".to_owned())];
    let inside = move |schema: BoxedStrategy<Value>| {
        let members = prop::collection::btree_map(name(), schema.clone(), 0..4);
        let required = prop::collection::vec("[a-c]", 0..2);
        let list = prop::collection::vec(schema.clone(), 0..4);
        prop_oneof![
            (members, required, any::<bool>()).prop_map(|(members, required, open)| json!({
                "type": "object", "properties": members, "required": required,
                "additionalProperties": open,
            })),
            schema.prop_map(|it| json!({ "type": "array", "items": it })),
            list.clone().prop_map(|it| json!({ "oneOf": it })),
            list.clone().prop_map(|it| json!({ "anyOf": it, "title": "t" })),
            list.prop_map(|it| json!({ "allOf": it })),
        ]
    };
    leaf.prop_recursive(5, 40, 4, move |schema| inside(schema.boxed())).boxed()
}

fn document() -> BoxedStrategy<String> {
    (schema(), schema())
        .prop_map(|(mut schema, other)| {
            if let Value::Object(members) = &mut schema {
                members.insert("$defs".to_owned(), json!({ "a": other }));
            }
            schema.to_string()
        })
        .boxed()
}

/// What a browser makes of the texts of a form.
fn submitted(form: &Form) -> Pairs {
    let pair = |name: &str| (name.to_owned(), form.entries.get(name).replace('\n', "\r\n"));
    form.entries.names().map(pair).collect()
}

proptest! {
    #[test]
    fn a_form_that_is_not_changed_submits_an_equal_payload(schema in document(), value in value()) {
        let payload = value.to_string();
        let form = Form::filled(Some(&schema), &payload);
        let again = Form::submitted(Some(&schema), submitted(&form)).payload();
        let again = again.map(|text| Json::read(&text));
        prop_assert_eq!(again, Ok(Json::read(&payload)), "{}", schema);
        prop_assert!(form.html().is_ok());
    }

    #[test]
    fn a_form_of_defaults_is_a_payload_or_names_what_is_missing(schema in document()) {
        let form = Form::empty(Some(&schema));
        prop_assert!(form.html().is_ok());
        match form.payload() {
            Ok(text) => prop_assert!(Json::read(&text).is_some()),
            Err(violations) => prop_assert!(form.with_violations(violations).html().is_ok()),
        }
    }

    #[test]
    fn any_pairs_give_json_or_violations(
        schema in document(),
        pairs in prop::collection::vec(("(field|payload|null|choice)(/[a-c]|/~option[0-3]){0,3}", any::<String>()), 0..8),
    ) {
        let form = Form::submitted(Some(&schema), pairs);
        match form.payload() {
            Ok(text) => prop_assert!(Json::read(&text).is_some()),
            Err(violations) => prop_assert!(form.with_violations(violations).html().is_ok()),
        }
    }
}
