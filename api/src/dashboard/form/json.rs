//! JSON as it was written: numbers keep their digits, and members their order.
//!
//! `serde_json::Value` has neither: a number beyond 64 bits becomes a float, and members are sorted.

use std::fmt::{self, Write};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The deepest nesting that is read; the same limit as for payloads and schemas. What is deeper is [`Json::Raw`].
const MAX_DEPTH: usize = 64;

/// A JSON value.
#[derive(Debug, Clone)]
pub(super) enum Json {
    Null,
    Bool(bool),
    /// Its text.
    Number(String),
    String(String),
    Array(Vec<Self>),
    Object(Vec<(String, Self)>),
    /// The text of a value that the others cannot express: nested too deep, a text that is not Unicode, or an object
    /// with a repeated member.
    Raw(String),
}

impl Json {
    /// Reads one value; `None` if the text is not JSON. Takes time for each byte at each depth.
    pub(super) fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().map(|raw| Self::read_at(raw, 0))
    }

    fn read_at(raw: &RawValue, depth: usize) -> Self {
        let text = raw.get();
        let read = match text.as_bytes().first() {
            _ if depth > MAX_DEPTH => None,
            Some(b'n') => Some(Self::Null),
            Some(b't') => Some(Self::Bool(true)),
            Some(b'f') => Some(Self::Bool(false)),
            Some(b'"') => serde_json::from_str(text).ok().map(Self::String),
            Some(b'[') => serde_json::from_str(text).ok().map(|items: Vec<&RawValue>| {
                Self::Array(items.into_iter().map(|item| Self::read_at(item, depth + 1)).collect())
            }),
            Some(b'{') => serde_json::from_str(text).ok().and_then(|Members(members)| {
                let read = |(name, raw)| (name, Self::read_at(raw, depth + 1));
                let members: Vec<_> = members.into_iter().map(read).collect();
                has_unique_names(&members).then_some(Self::Object(members))
            }),
            _ => Some(Self::Number(text.to_owned())),
        };
        read.unwrap_or_else(|| Self::Raw(text.to_owned()))
    }

    /// The member of an object.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members.iter().find(|(it, _)| it == name).map(|(_, value)| value)
    }

    /// The value at a JSON Pointer (RFC 6901).
    pub(super) fn at(&self, pointer: &str) -> Option<&Self> {
        let mut segments = pointer.split('/');
        segments.next().filter(|before| before.is_empty())?;
        segments.try_fold(self, |value, segment| match value {
            Self::Array(items) => items.get(segment.parse::<usize>().ok()?),
            other => other.get(&segment.replace("~1", "/").replace("~0", "~")),
        })
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        let Self::String(text) = self else { return None };
        Some(text)
    }

    pub(super) fn as_array(&self) -> Option<&[Self]> {
        let Self::Array(items) = self else { return None };
        Some(items)
    }

    pub(super) fn as_object(&self) -> Option<&[(String, Self)]> {
        let Self::Object(members) = self else { return None };
        Some(members)
    }

    /// The value on several lines, for people to read and edit.
    pub(super) fn pretty(&self) -> String {
        format!("{self:#}")
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(text) | Self::Raw(text) => f.write_str(text),
            Self::String(text) => f.write_str(&quoted(text)),
            Self::Array(items) => {
                write_list(f, ['[', ']'], items, depth, |f, item| item.write(f, depth + 1))
            }
            Self::Object(members) => write_list(f, ['{', '}'], members, depth, |f, member| {
                let space = if f.alternate() { " " } else { "" };
                write!(f, "{}:{space}", quoted(&member.0))?;
                member.1.write(f, depth + 1)
            }),
        }
    }
}

/// The members in an order that does not depend on the text.
fn by_name(members: &[(String, Json)]) -> Vec<&(String, Json)> {
    let mut members: Vec<_> = members.iter().collect();
    members.sort_by(|(one, _), (other, _)| one.cmp(other));
    members
}

/// Values are equal if no program can distinguish them: numbers are compared by their text, because a program may.
impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(one), Self::Bool(other)) => one == other,
            (Self::Number(one), Self::Number(other))
            | (Self::String(one), Self::String(other))
            | (Self::Raw(one), Self::Raw(other)) => one == other,
            (Self::Array(one), Self::Array(other)) => one == other,
            (Self::Object(one), Self::Object(other)) => {
                one.len() == other.len() && by_name(one) == by_name(other)
            }
            _ => false,
        }
    }
}

/// Compact; with `#` on several lines.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

/// A text as JSON.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn write_list<T>(
    f: &mut fmt::Formatter<'_>,
    brackets: [char; 2],
    items: &[T],
    depth: usize,
    write_item: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    let in_lines = f.alternate() && !items.is_empty();
    let new_line = |f: &mut fmt::Formatter<'_>, depth: usize| {
        if in_lines { write!(f, "\n{:1$}", "", 2 * depth) } else { Ok(()) }
    };
    f.write_char(brackets[0])?;
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            f.write_char(',')?;
        }
        new_line(f, depth + 1)?;
        write_item(f, item)?;
    }
    new_line(f, depth)?;
    f.write_char(brackets[1])
}

fn has_unique_names(members: &[(String, Json)]) -> bool {
    let mut names: Vec<_> = members.iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    names.windows(2).all(|pair| pair[0] != pair[1])
}

/// The members of an object in their order, not parsed further.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
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
        deserializer.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_written_as_it_was_read() {
        let text = r#"{"z":[12345678901234567890123,-0.10e-7,1.0],"a":{"é\n":null,"":[]},"b":{}}"#;
        assert_eq!(Json::read(text).unwrap().to_string(), text);
        assert_eq!(Json::read("[]").unwrap().pretty(), "[]");
        let pretty = "{\n  \"a\": [\n    1,\n    2.50\n  ]\n}";
        assert_eq!(Json::read(pretty).unwrap().pretty(), pretty);
    }

    #[test]
    fn what_cannot_be_expressed_stays_text() {
        for text in [r#""\ud800""#, r#"{"a":1,"a":2}"#, r#"{"\ud800":1}"#] {
            assert!(matches!(Json::read(text), Some(Json::Raw(raw)) if raw == text), "{text}");
        }
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(Json::read(&deep).unwrap().to_string(), deep);
        assert!(Json::read("").is_none() && Json::read("1 2").is_none());
    }

    #[test]
    fn numbers_of_different_text_are_different_and_the_order_of_members_does_not_matter() {
        let read = |text| Json::read(text).unwrap();
        assert_ne!(read("1"), read("1.0"));
        assert_ne!(read("9007199254740993"), read("9007199254740992"));
        assert_eq!(read(r#"{"a":1,"b":[true]}"#), read(r#"{"b":[true],"a":1}"#));
    }

    #[test]
    fn a_pointer_leads_to_its_value() {
        let value = Json::read(r#"{"a/b":[{"~":7}]}"#).unwrap();
        assert_eq!(value.at("/a~1b/0/~0"), Some(&Json::Number("7".into())));
        assert_eq!(value.at(""), Some(&value));
        assert!(value.at("a").is_none() && value.at("/a~1b/1").is_none());
    }
}
