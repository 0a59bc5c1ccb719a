//! Lines of JSON that are submitted: what is added to each, without changing a byte of its payload.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::Value;

/// Adds an idempotency key to an envelope that has none. A line that is no envelope is left as it is: the API rejects
/// it with its number.
pub(crate) fn with_key(line: &str, key: &str) -> String {
    let line = line.trim();
    let has_none = serde_json::from_str::<BTreeMap<String, IgnoredAny>>(line)
        .is_ok_and(|members| !members.contains_key("idempotency_key"));
    let members = line.strip_prefix('{').filter(|_| has_none);
    let Some(members) = members else { return line.to_owned() };
    let comma = if members.trim_start().starts_with('}') { "" } else { "," };
    format!("{{\"idempotency_key\":{}{comma}{members}", Value::from(key))
}

/// Makes an envelope of a payload; `members` are the others, as JSON without braces. A line that is not JSON is left as
/// it is, so that it cannot become a member.
pub(crate) fn envelope(payload: &str, members: &str, key: &str) -> String {
    let payload = payload.trim();
    if serde_json::from_str::<IgnoredAny>(payload).is_err() {
        return payload.to_owned();
    }
    format!("{{\"idempotency_key\":{},{members},\"payload\":{payload}}}", Value::from(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_added_in_front_and_the_rest_is_unchanged() {
        let line = r#" {"task": "t", "payload": {"n": 1e999, "n": 12345678901234567890123}} "#;
        assert_eq!(
            with_key(line, "run:1"),
            r#"{"idempotency_key":"run:1","task": "t", "payload": {"n": 1e999, "n": 12345678901234567890123}}"#
        );
        assert_eq!(with_key("{ }", "k"), r#"{"idempotency_key":"k" }"#);
        assert_eq!(with_key("{}", "k"), r#"{"idempotency_key":"k"}"#);
    }

    #[test]
    fn a_line_with_a_key_and_one_that_is_no_envelope_are_left_alone() {
        for line in [
            r#"{"idempotency_key":null}"#,
            r#"{"task":"t","idempotency_key":"mine"}"#,
            "[1]",
            "nonsense",
            r#"{"task""#,
        ] {
            assert_eq!(with_key(line, "k"), line);
        }
    }

    #[test]
    fn a_payload_becomes_an_envelope_only_if_it_is_json() {
        assert_eq!(
            envelope("[1, 2]", r#""task":"t""#, "k"),
            r#"{"idempotency_key":"k","task":"t","payload":[1, 2]}"#
        );
        assert_eq!(envelope(r#"1,"queue":"x""#, r#""task":"t""#, "k"), r#"1,"queue":"x""#);
    }
}
