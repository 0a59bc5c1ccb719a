//! Where something is in a payload: the group of a job, or what it is unique by.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// A JSON Pointer (RFC 6901) into a payload, at most 256 bytes, such as `/customer/id`.
///
/// ```
/// use crunch_common::Pointer;
///
/// let pointer: Pointer = "/customer/id".parse().unwrap();
/// let found = pointer.find(r#"{"customer": {"id": 7}}"#).unwrap();
/// assert_eq!(found.get(), "7");
/// assert!("customer".parse::<Pointer>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pointer(Box<str>);

/// Not a JSON Pointer, or too long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a JSON Pointer of at most {} bytes, such as /customer/id", Pointer::MAX_BYTES)]
pub struct InvalidPointer;

impl Pointer {
    /// Maximum length in bytes: a path through a payload that somebody designed has a fraction of it.
    pub const MAX_BYTES: usize = 256;

    /// Returns the pointer as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the value there, as it is written; `None` if there is none. Of a repeated member the last one counts. Reads
    /// each value on the way once, in time proportional to the length of the text.
    #[must_use]
    pub fn find<'a>(&self, json: &'a str) -> Option<&'a RawValue> {
        let root = serde_json::from_str(json).ok();
        self.0.split('/').skip(1).fold(root, |value: Option<&RawValue>, segment| {
            let segment = segment.replace("~1", "/").replace("~0", "~");
            let mut json = serde_json::Deserializer::from_str(value?.get());
            Step(&segment).deserialize(&mut json).ok()?
        })
    }
}

impl FromStr for Pointer {
    type Err = InvalidPointer;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_path = text.is_empty() || text.starts_with('/');
        let mut escapes = text.split('~').skip(1);
        let are_escaped = escapes.all(|rest| rest.starts_with(['0', '1']));
        let fits = text.len() <= Self::MAX_BYTES && !text.contains(char::is_control);
        if is_path && are_escaped && fits { Ok(Self(text.into())) } else { Err(InvalidPointer) }
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns the member or the element with this name; everything else is skipped.
struct Step<'s>(&'s str);

impl<'de> DeserializeSeed<'de> for Step<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Step<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = members.next_key::<Cow<'_, str>>()? {
            if name == self.0 {
                found = Some(members.next_value()?);
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let is_number = self.0 == "0" || !self.0.starts_with(['0', '+']);
        let wanted = self.0.parse::<usize>().ok().filter(|_| is_number);
        let mut found = None;
        for at in 0.. {
            if Some(at) == wanted {
                found = elements.next_element()?;
            } else if elements.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_as_it_is_written() {
        let json =
            r#" {"a": {"b": [10, {"c": 1.50}], "": 2}, "x/y": 3, "m~n": "é", "d": 1, "d": 4} "#;
        let longer = format!(r#"{{{}"last":5}}"#, "\"m\":1,".repeat(2000));
        for (pointer, json, found) in [
            ("/a/b/1/c", json, Some("1.50")),
            ("/a/b/0", json, Some("10")),
            ("/a/", json, Some("2")),
            ("/x~1y", json, Some("3")),
            ("/m~0n", json, Some("\"é\"")),
            ("/d", json, Some("4")),
            ("/last", &longer, Some("5")),
            ("", "7", Some("7")),
            ("/é", r#"{"\u00e9":6}"#, Some("6")),
            ("/a/b/2", json, None),
            ("/a/b/-", json, None),
            ("/a/b/00", json, None),
            ("/a/b/+1", json, None),
            ("/none", json, None),
            ("/x~1y/z", json, None),
            ("/m~0n/0", json, None),
            ("/a", "[1]", None),
            ("/a", "{", None),
        ] {
            let pointer: Pointer = pointer.parse().unwrap();
            assert_eq!(pointer.find(json).map(RawValue::get), found, "{pointer}");
        }
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        for wrong in ["a", "a/b", "/~", "/~2", "/a~", "/a\n", &format!("/{}", "a".repeat(256))] {
            assert_eq!(wrong.parse::<Pointer>(), Err(InvalidPointer), "{wrong}");
        }
        assert!(format!("/{}", "a".repeat(255)).parse::<Pointer>().is_ok());
    }
}
