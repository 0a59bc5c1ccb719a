//! Looking at JSON without changing a byte of it: whether it is one value, and which members an object has.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::problem::{MALFORMED_JSON, Problem};
use crate::query;

/// Deeper nesting serves nobody but an attacker on the handler's parser.
const MAX_DEPTH: usize = 64;

/// Checks that `bytes` are exactly one JSON value in UTF-8, nested at most 64 levels deep; returns its text.
pub(crate) fn check(bytes: &[u8]) -> Result<&str, Problem> {
    let malformed = |detail: String| Problem::new(MALFORMED_JSON, detail);
    if bytes.is_empty() {
        return Err(malformed("the body is empty".to_owned()));
    }
    let text = text(bytes)?;
    if deeper_than(text, MAX_DEPTH) {
        return Err(malformed(format!("nested deeper than {MAX_DEPTH} levels")));
    }
    serde_json::from_str::<IgnoredAny>(text)
        .map(|_| text)
        .map_err(|error| malformed(error.to_string()))
}

/// The text of `bytes`.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(bytes).map_err(|error| {
        Problem::new(MALFORMED_JSON, format!("not UTF-8 at byte {}", error.valid_up_to()))
    })
}

/// The members of an object in their order, each as it was written; none is lost if its name stands twice.
#[derive(Debug)]
pub(crate) struct Members<'a>(pub(crate) Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    /// The members, if `json` is an object.
    pub(crate) fn of(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// The first name that stands twice.
    pub(crate) fn repeated(&self) -> Option<&str> {
        query::repeated(self.0.iter().map(|(name, _)| name.as_str()))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// Whether brackets outside of strings nest deeper than `limit`; the parser says whether they match.
fn deeper_than(text: &str, limit: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limit {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_taken_as_it_is() {
        let deep = format!("{}1{}", "[".repeat(64), "]".repeat(64));
        for good in
            ["null", " {\"a\":[1,2]} ", "123456789012345678901234567890", "\"[[[\\\"[[\"", &deep]
        {
            assert!(check(good.as_bytes()).is_ok(), "{good}");
        }
    }

    #[test]
    fn members_keep_their_order_their_bytes_and_their_doubles() {
        let members = Members::of(r#"{"b":1e999,"a": [ ],"b":"\ud800"}"#).unwrap();
        let read: Vec<_> = members.0.iter().map(|(name, raw)| (&name[..], raw.get())).collect();
        assert_eq!(read, [("b", "1e999"), ("a", "[ ]"), ("b", r#""\ud800""#)]);
        assert_eq!(members.repeated(), Some("b"));
        assert!(Members::of("[]").is_none());
    }

    #[test]
    fn anything_else_is_malformed() {
        let deep = format!("{}1{}", "[".repeat(65), "]".repeat(65));
        let bomb = "[".repeat(100_000);
        for bad in ["", " ", "{", "NaN", "1 2", "{\"a\":1,}", "nul", "'a'", &deep, &bomb] {
            assert!(check(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(check(b"\"\xff\"").is_err());
    }
}
