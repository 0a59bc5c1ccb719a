//! A form of every construct that is supported, and forms of hostile schemas.

mod any;

use super::{Form, MAX_IN_FIELDS};
use crate::problem::Violation;

/// Twenty constructs.
const TORTURE: &str = include_str!("tests/torture.schema.json");
/// A payload with all of them.
const PAYLOAD: &str = include_str!("tests/torture.json");

type Pairs = Vec<(String, String)>;

fn pairs(list: &[(&str, &str)]) -> Pairs {
    list.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// The payload of a submitted form, or the pointers of what is wrong.
fn submit(schema: &str, list: &[(&str, &str)]) -> Result<String, Vec<String>> {
    let form = Form::submitted(Some(schema), pairs(list));
    form.payload().map_err(|all| all.into_iter().map(|it| it.pointer).collect())
}

fn html(form: &Form) -> String {
    form.html().unwrap()
}

fn compact(json: &str) -> String {
    super::Json::read(json).unwrap().to_string()
}

#[test]
fn an_empty_form_of_the_torture_schema() {
    insta::assert_snapshot!(html(&Form::empty(Some(TORTURE))));
}

#[test]
fn a_filled_form_of_the_torture_schema_submits_the_same_payload() {
    let form = Form::filled(Some(TORTURE), PAYLOAD);
    assert_eq!(compact(&form.payload().unwrap()), compact(PAYLOAD));
    // Only what has no fields is JSON text.
    let json: Vec<_> = form.entries.names().filter(|it| it.starts_with("payload/")).collect();
    assert_eq!(json, ["payload/anything", "payload/matrix", "payload/tree/next"]);
}

#[test]
fn a_task_without_a_schema_has_one_field_for_json() {
    let form = Form::filled(None, "{\"a\": 1e400}");
    insta::assert_snapshot!(html(&form), @r#"
    <div class="field">
    <label for="payload-0">Payload</label>
    <p class="hint" id="payload-0-hint">JSON</p>
    <textarea class="json" id="payload-0" name="payload" aria-describedby="payload-0-hint" rows="4" spellcheck="false" required>
    {
      &#34;a&#34;: 1e400
    }</textarea>
    </div>
    "#);
    assert_eq!(compact(&form.payload().unwrap()), "{\"a\":1e400}");
    let empty = Form::empty(None).payload().unwrap_err();
    assert_eq!(empty, [Violation::new("", "a value is required")]);
}

#[test]
fn numbers_are_kept_as_they_were_typed() {
    let schema = r#"{"type":"object","properties":{"n":{"type":"number"},"i":{"type":"integer"}}}"#;
    for text in ["12345678901234567890123", "0.10", "1e400", "-0", "1E+3"] {
        let payload = submit(schema, &[("field/n", text), ("field/i", text)]).unwrap();
        assert_eq!(payload, format!(r#"{{"n":{text},"i":{text}}}"#));
        assert_eq!(Form::filled(Some(schema), &payload).payload().unwrap(), payload);
    }
    for text in ["1,5", "0x10", ".5", "007", "NaN", "1 2", "true", "\"1\""] {
        assert_eq!(submit(schema, &[("field/n", text)]), Err(vec!["/n".to_owned()]), "{text}");
    }
}

#[test]
fn what_is_left_empty_is_left_out_and_what_is_required_is_demanded() {
    let schema = r#"{"type":"object","required":["r","t","b","l"],"properties":{
        "r":{"type":"integer"},"t":{"type":"string"},"b":{"type":"boolean"},
        "l":{"type":"array","items":{"type":"string"}},
        "o":{"type":"integer"},"s":{"type":"string"},"f":{"type":"boolean"},
        "g":{"type":"object","required":["x"],"properties":{"x":{"type":"integer"},"y":{"type":"string"}}}}}"#;
    let filled = submit(schema, &[("field/r", " 1 ")]);
    assert_eq!(filled.unwrap(), r#"{"r":1,"t":"","b":false,"l":[]}"#);
    assert_eq!(submit(schema, &[]), Err(vec!["/r".to_owned()]));
    let half = submit(schema, &[("field/r", "1"), ("field/g/y", "text")]);
    assert_eq!(half, Err(vec!["/g/x".to_owned()]));
}

#[test]
fn of_a_list_each_wrong_line_is_named_but_no_more_than_twenty() {
    let schema = r#"{"type":"array","items":{"type":"integer"}}"#;
    assert_eq!(submit(schema, &[("field", "1\nx\n\n3\ny\n")]).unwrap_err(), ["/1", "/3"]);
    assert_eq!(submit(schema, &[("field", &"x\n".repeat(1000))]).unwrap_err().len(), 20);
    assert_eq!(submit(schema, &[("field", "1\n\n 2")]).unwrap(), "[1,2]");
}

#[test]
fn only_the_chosen_alternative_counts_and_a_forgotten_choice_loses_nothing() {
    let schema = r##"{"type":"object","properties":{"shape":{"oneOf":[
        {"type":"object","required":["kind","r"],"properties":{"kind":{"const":"circle"},"r":{"type":"number"}}},
        {"type":"object","required":["kind","a"],"properties":{"kind":{"const":"square"},"a":{"type":"number"}}}]}}}"##;
    let (r, a) = ("field/shape/~option0/r", "field/shape/~option1/a");
    let both = [("choice/shape", "1"), (r, "no number"), (a, "2")];
    assert_eq!(submit(schema, &both).unwrap(), r#"{"shape":{"kind":"square","a":2}}"#);
    assert_eq!(submit(schema, &[(a, "2")]), Err(vec!["/shape".to_owned()]));
    assert_eq!(submit(schema, &[]).unwrap(), "{}");
    assert_eq!(submit(schema, &[("choice/shape", "7")]), Err(vec!["/shape".to_owned()]));
}

#[test]
fn a_value_that_fits_no_field_is_json_text_in_its_place() {
    let schema = r#"{"type":"object","properties":{"a":{"type":"string"},"n":{"type":"integer"}}}"#;
    for payload in [
        r#"{"a":"","n":1}"#,
        r#"{"a":"line\r\nbreak"}"#,
        r#"{"a":"nul\u0000"}"#,
        r#"{"a":"\ud800"}"#,
        r#"{"a":null}"#,
        r#"{"n":"1"}"#,
        r#"{"a":"x","b":"not declared"}"#,
        "[]",
        "7",
    ] {
        let form = Form::filled(Some(schema), payload);
        assert_eq!(compact(&form.payload().unwrap()), compact(payload));
        assert!(html(&form).contains("does not fit into fields"), "{payload}");
    }
}

#[test]
fn times_are_in_utc_unless_they_have_an_offset() {
    let schema = r#"{"type":"object","properties":{"t":{"type":"string","format":"date-time"}}}"#;
    for (typed, payload) in [
        ("2026-01-02T03:04", "2026-01-02T03:04:00Z"),
        ("2026-01-02T03:04:05", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05+02:00", "2026-01-02T03:04:05+02:00"),
        ("tomorrow", "tomorrow"),
    ] {
        let submitted = submit(schema, &[("field/t", typed)]).unwrap();
        assert_eq!(submitted, format!(r#"{{"t":"{payload}"}}"#));
        let form = Form::filled(Some(schema), &submitted);
        assert_eq!(form.payload().unwrap(), submitted);
        // The browser clears what is no time.
        let has_picker = html(&form).contains("datetime-local");
        assert_eq!(has_picker, payload.ends_with('Z'), "{payload}");
    }
}

#[test]
fn what_is_wrong_is_shown_at_its_field() {
    let list = [("choice/shape", "0"), ("field/shape/~option0/radius", "-1")];
    let form = Form::submitted(Some(TORTURE), pairs(&list)).with_violations(vec![
        Violation::new("/shape/radius", "less than the minimum of 0"),
        Violation::new("/tags/1", "too long"),
        Violation::new("/no/such/field", "somewhere else"),
        Violation::new("", "a member is missing"),
    ]);
    let page = html(&form);
    for (pointer, text) in [
        ("/shape/~option0/radius", "less than the minimum of 0"),
        ("/tags", "/1: too long"),
        ("", "/no/such/field: somewhere else"),
        ("", "a member is missing"),
    ] {
        let errors = page.split("<ul class=\"errors\"").skip(1);
        assert!(errors.into_iter().any(|it| it.contains(&format!("<li>{text}</li>"))), "{text}");
        if !pointer.is_empty() {
            let element =
                page.split('<').find(|it| it.contains(&format!("name=\"field{pointer}\"")));
            assert!(element.unwrap().contains("aria-invalid"), "{pointer}");
        }
    }
    assert!(page.contains("value=\"-1\""), "what was entered is still there");
}

#[test]
fn a_field_that_the_task_does_not_have_any_more_is_not_dropped_silently() {
    let schema = r#"{"type":"object","properties":{"a":{"type":"string"}}}"#;
    assert_eq!(submit(schema, &[("field/a", "1"), ("field/b", "2")]), Err(vec![String::new()]));
    assert_eq!(submit(schema, &[("field/a", "1"), ("queue", "q")]).unwrap(), r#"{"a":"1"}"#);
}

#[test]
fn names_of_members_may_be_anything() {
    let names = ["a/b", "~", "a b", "\n", "%0A", "\"<script>", "~option0", "", "é", "\u{0}"];
    let member = |name: &str| format!("{}:{{\"type\":\"string\"}}", super::json::quoted(name));
    let members: Vec<_> = names.iter().map(|it| member(it)).collect();
    let schema = format!("{{\"properties\":{{{}}}}}", members.join(","));
    let values: Vec<_> =
        names.iter().map(|it| format!("{}:\"x\"", super::json::quoted(it))).collect();
    let payload = format!("{{{}}}", values.join(","));
    let form = Form::filled(Some(&schema), &payload);
    assert_eq!(form.payload().unwrap(), payload);
    let fields = form.entries.names().collect::<Vec<_>>();
    assert_eq!(fields.len(), names.len());
    assert!(fields.iter().all(|name| !name.contains(char::is_control)), "{fields:?}");
    assert!(!html(&form).contains("<script>"));
}

#[test]
fn a_schema_of_any_size_gives_a_form_of_limited_size() {
    let members = |n: usize, schema: &str| {
        let members: Vec<_> = (0..n).map(|at| format!("\"m{at}\":{schema}")).collect();
        format!("{{\"properties\":{{{}}}}}", members.join(","))
    };
    let defs: Vec<_> = (0..9)
        .map(|at| {
            let next = format!("{{\"$ref\":\"#/$defs/d{}\"}}", at + 1);
            format!("\"d{at}\":{}", members(150, &next))
        })
        .collect();
    let defs = format!("\"$defs\":{{{},\"d9\":{{\"type\":\"string\"}}}}", defs.join(","));
    let long = format!("{{\"enum\":[\"{}\"]}}", "x".repeat(60_000));
    let many: Vec<_> = (0..9000).map(|at| at.to_string()).collect();
    for schema in [
        members(201, "{\"type\":\"string\"}"),
        format!("{{{defs},\"$ref\":\"#/$defs/d0\"}}"),
        format!("{{\"$defs\":{{\"e\":{long}}},{}", &members(150, "{\"$ref\":\"#/$defs/e\"}")[1..]),
        members(3, &format!("{{\"enum\":[{}]}}", many.join(","))),
        "{\"$ref\":\"#\"}".to_owned(),
        format!("{}{{}}{}", "{\"allOf\":[".repeat(5000), "]}".repeat(5000)),
    ] {
        let form = Form::empty(Some(&schema));
        let page = html(&form);
        assert!(page.matches(" name=").count() <= 201, "{}", page.len());
        assert!(page.len() < 400_000, "{}", page.len());
    }
}

#[test]
fn a_large_payload_is_one_text() {
    let payload = format!("{{\"text\":\"{}\"}}", "x".repeat(MAX_IN_FIELDS));
    let form = Form::filled(Some(TORTURE), &payload);
    assert_eq!(form.payload().unwrap(), payload);
    assert_eq!(form.entries.names().count(), 1);
}
