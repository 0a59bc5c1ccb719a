//! Checks JSON without changing a byte of it: whether it is one value, and which members an object has.

use std::fmt;

use crunch_common::json::{self, MAX_DEPTH, deeper_than};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::problem::{MALFORMED_JSON, Problem};
use crate::query;

/// Why a value is not put into a document: some JSON parsers would reject the whole document.
pub(crate) const UNREADABLE: [&str; 4] =
    ["not_utf8", "too_deep", "lone_surrogate", "number_out_of_range"];

/// Checks that `bytes` are exactly one JSON value in UTF-8, nested at most 64 levels deep; returns its text.
pub(crate) fn check(bytes: &[u8]) -> Result<&str, Problem> {
    json::check(bytes).map_err(|error| Problem::new(MALFORMED_JSON, error.to_string()))
}

/// Returns a value that can be put into a document as it is, if every JSON parser can read it: parsers limit the depth,
/// strings need whole characters, and numbers must be within those of 64-bit floats.
pub(crate) fn readable(json: Vec<u8>) -> Result<Box<RawValue>, &'static str> {
    let [not_utf8, too_deep, lone_surrogate, number_out_of_range] = UNREADABLE;
    let text = String::from_utf8(json).map_err(|_| not_utf8)?;
    if deeper_than(&text, MAX_DEPTH) {
        return Err(too_deep);
    }
    if serde_json::from_str::<Exact>(&text).is_err() {
        return Err(if has_lone_surrogate(&text) { lone_surrogate } else { number_out_of_range });
    }
    RawValue::from_string(text).map_err(|_| number_out_of_range)
}

/// Any JSON whose strings and numbers can be represented: unlike [`IgnoredAny`], which decodes neither.
struct Exact;

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Exact {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        while members.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

/// Whether an escape represents half of a character (RFC 8259, section 8.2).
fn has_lone_surrogate(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let escape = &rest[at..];
        let next = |unit| (0xDC00..=0xDFFF).contains(&unit);
        let length = match unit(escape) {
            Some(0xD800..=0xDBFF) if escape.get(6..).and_then(unit).is_some_and(next) => 12,
            Some(0xD800..=0xDFFF) => return true,
            Some(_) => 6,
            None => 2,
        };
        rest = escape.get(length..).unwrap_or_default();
    }
    false
}

/// Returns the UTF-16 code unit of the escape at the start of a text, if there is one.
fn unit(escape: &str) -> Option<u16> {
    let digits = escape.strip_prefix("\\u")?.get(..4)?;
    u16::from_str_radix(digits, 16).ok()
}

/// Returns one segment of a JSON Pointer (RFC 6901).
pub(crate) fn pointer_segment(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// More members than this are not kept: no object that is read has a tenth of them, and each takes 100 bytes and a
/// quarter of a microsecond, which for a body of 16 MiB would add up to a second.
const MAX_MEMBERS: usize = 1000;

/// The members of an object in their order, each as it was written; members with the same name are all kept, members
/// beyond the first thousand are not.
#[derive(Debug)]
pub(crate) struct Members<'a> {
    pub(crate) all: Vec<(String, &'a RawValue)>,
    /// Whether there are more.
    pub(crate) cut: bool,
}

impl<'a> Members<'a> {
    /// Reads the members, if `json` is an object.
    pub(crate) fn of(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// Returns the first name that occurs twice.
    pub(crate) fn repeated(&self) -> Option<&str> {
        query::repeated(self.all.iter().map(|(name, _)| name.as_str()))
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
                let mut all = Vec::new();
                while all.len() < MAX_MEMBERS {
                    let Some(member) = map.next_entry()? else {
                        return Ok(Members { all, cut: false });
                    };
                    all.push(member);
                }
                let mut cut = false;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    cut = true;
                }
                Ok(Members { all, cut })
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_order_their_bytes_and_their_doubles() {
        let members = Members::of(r#"{"b":1e999,"a": [ ],"b":"\ud800"}"#).unwrap();
        let read: Vec<_> = members.all.iter().map(|(name, raw)| (&name[..], raw.get())).collect();
        assert_eq!(read, [("b", "1e999"), ("a", "[ ]"), ("b", r#""\ud800""#)]);
        assert_eq!(members.repeated(), Some("b"));
        assert!(Members::of("[]").is_none());
    }

    #[test]
    fn not_more_members_are_kept_than_any_object_has() {
        let of = |count: usize| {
            let members: Vec<_> = (0..count).map(|at| format!("\"m{at}\":1")).collect();
            let json = format!("{{{}}}", members.join(","));
            let members = Members::of(&json).unwrap();
            (members.all.len(), members.cut)
        };
        assert_eq!(of(MAX_MEMBERS), (MAX_MEMBERS, false));
        assert_eq!(of(MAX_MEMBERS + 1), (MAX_MEMBERS, true));
        assert!(Members::of("{\"a\":1,").is_none());
    }

    #[test]
    fn what_some_readers_refuse_is_not_put_into_a_document() {
        let nested = |depth| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let long = "9".repeat(400);
        let of = |json: &str| readable(json.into()).map(|raw| raw.get().to_owned());
        for good in [
            r#""\ud83d\ude00""#,
            r#""\\ud800""#,
            r#"{"\u0000":"\u0000"}"#,
            "1e308",
            "-0",
            "1e-999",
            "123456789012345678901234567890",
            r#"{"a":1,"a":2}"#,
            &nested(64),
        ] {
            assert_eq!(of(good).as_deref(), Ok(good));
        }
        for (bad, reason) in [
            (nested(65).as_str(), "too_deep"),
            (r#""\ud800""#, "lone_surrogate"),
            (r#"{"\udc00":1}"#, "lone_surrogate"),
            (r#""\ud800\ud800""#, "lone_surrogate"),
            (r#""\ud800\u0041""#, "lone_surrogate"),
            (r#""\ud800\n""#, "lone_surrogate"),
            ("1e999", "number_out_of_range"),
            ("[-1e400]", "number_out_of_range"),
            (&long, "number_out_of_range"),
        ] {
            assert_eq!(of(bad), Err(reason), "{bad}");
        }
        assert_eq!(readable(b"\"\xff\"".to_vec()).unwrap_err(), "not_utf8");
    }
}
