//! What a job is unique by: parses the option `unique`, `{"key": …}` or `unique.key=…` in a query, and makes its lock.

use std::time::Duration;

use actix_web::web::Bytes;
use crunch_common::Pointer;
use crunch_common::broker::{LockId, Start};
use crunch_common::job::{GroupName, InvalidUnique, OnConflict, Unique, UniqueBy, UniqueMembers};
use crunch_common::queue::QueueName;
use crunch_common::task::TaskDescriptor;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::Submission;
use super::given::{Given, Rejection, rejected};
use crate::checks;
use crate::json::pointer_segment;
use crate::problem::{Problem, Violation};
use crate::query;

pub(super) fn read(value: Given<'_>) -> Result<Unique, Rejection> {
    let members = value.members().ok_or_else(|| rejected("expected an object, such as {}"))?;
    if let Some(name) = members.repeated() {
        return Err(rejected("is given twice").at(&pointer_segment(name)));
    }
    let mut read = UniqueMembers::default();
    for (name, raw) in &members.all {
        if !Given::Json(raw).is_null() {
            set(&mut read, name, Given::Json(raw))?;
        }
    }
    read.try_into().map_err(refused)
}

/// Parses the same option from the pairs of a query. The fields are separated by commas.
pub(super) fn read_query(pairs: &[(String, String)]) -> Result<Unique, Rejection> {
    let mut read = UniqueMembers::default();
    for (name, text) in pairs {
        if let Some(member) = name.strip_prefix("unique.") {
            set(&mut read, member, Given::Text(text))?;
        }
    }
    read.try_into().map_err(refused)
}

fn refused(InvalidUnique { member, reason }: InvalidUnique) -> Rejection {
    rejected(reason).at(&pointer_segment(member))
}

fn set(read: &mut UniqueMembers, name: &str, value: Given<'_>) -> Result<(), Rejection> {
    let wrong = |detail: &str| rejected(detail).at(&pointer_segment(name));
    let whole = || value.whole().ok_or_else(|| wrong("expected whole milliseconds"));
    let word = |expected: &str| wrong(&format!("expected {expected}"));
    match name {
        "key" => {
            let expected = "1 to 255 bytes of text without control characters";
            read.key = Some(value.parsed(expected).map_err(|_| word(expected))?);
        }
        "fields" => read.fields = Some(fields(value).ok_or_else(|| wrong(FIELDS))?),
        "until" => {
            read.until = Some(value.parsed("").map_err(|_| word("start or end"))?);
        }
        "on_conflict" => {
            let words = "existing, reject, replace or keep_latest";
            read.on_conflict = Some(value.parsed("").map_err(|_| word(words))?);
        }
        "for_ms" => read.for_ms = Some(whole()?),
        "max_wait_ms" => read.max_wait_ms = Some(whole()?),
        _ => return Err(wrong("there is no such member here")),
    }
    Ok(())
}

const FIELDS: &str =
    "expected 1 to 16 JSON Pointers of at most 256 bytes, such as [\"/customer/id\"]";

fn fields(value: Given<'_>) -> Option<Vec<Pointer>> {
    let texts: Vec<String> = match value {
        Given::Json(raw) => serde_json::from_str(raw.get()).ok()?,
        Given::Text(text) => text.split(',').map(str::to_owned).collect(),
    };
    if texts.len() > Unique::MAX_FIELDS {
        return None;
    }
    texts.iter().map(|text| text.parse().ok()).collect()
}

impl Submission {
    /// Returns what the job is unique by: what was requested, or what its task declares; and its lock. `base` is the JSON
    /// pointer of the payload.
    ///
    /// # Errors
    /// If it does not fit a delay, or the payload has numbers there that JSON programs do not agree on.
    pub(super) async fn unique(
        &self,
        (task, base): (&TaskDescriptor, &str),
        queue: &QueueName,
        group: Option<&GroupName>,
    ) -> Result<Option<(Unique, LockId)>, Problem> {
        let requested = self.options.unique.as_ref();
        let Some(unique) = requested.or(task.unique.as_ref()) else { return Ok(None) };
        // Options are members next to the payload, or in the query if it is the body.
        let refuse = |option: &str, detail: String| match base.strip_suffix("/payload") {
            Some(base) => {
                let pointer = format!("{base}/{}", option.replace('.', "/"));
                Problem::violations(vec![Violation::new(pointer, detail)])
            }
            None => query::invalid(option, detail),
        };
        let is_delayed = match self.options.start {
            None | Some(Start::Now | Start::After(Duration::ZERO)) => false,
            Some(Start::After(_) | Start::At(_)) => true,
        };
        unique.check_delay(is_delayed).map_err(|wrong| match requested {
            Some(_) => refuse(&format!("unique.{}", wrong.member), wrong.reason),
            None => refuse("delay_ms", format!("its task is unique, and {wrong}")),
        })?;
        let may_replace = matches!(unique.conflict(), OnConflict::Replace | OnConflict::KeepLatest);
        if may_replace && self.payload.len() > LARGEST_REPLACEMENT {
            let detail = format!(
                "a job that may replace another one has a payload of at most {LARGEST_REPLACEMENT} bytes"
            );
            return Err(Problem::violations(vec![Violation::new(base, detail)]));
        }
        let values = match unique.of() {
            UniqueBy::Key(key) => vec![Bytes::from_static(b"key"), key.as_str().to_owned().into()],
            UniqueBy::Payload if !self.content_type.is_json() => {
                let name = self.content_type.as_str().to_owned();
                let digest = checks::hashed(&self.payload, |payload| digest(payload)).await?;
                vec![Bytes::from_static(b"bytes"), name.into(), digest]
            }
            UniqueBy::Payload => {
                self.values(vec!["".parse().expect("it is a pointer")], base).await?
            }
            UniqueBy::Fields(_) if !self.content_type.is_json() => {
                let detail = "the job is unique by fields, and the payload is not JSON";
                return Err(Problem::violations(vec![Violation::new(base, detail)]));
            }
            UniqueBy::Fields(fields) => self.values(fields.clone(), base).await?,
        };
        let parts: Vec<_> = values.iter().map(AsRef::as_ref).collect();
        Ok(Some((unique.clone(), LockId::new(&task.name, queue, group, &parts))))
    }

    /// Returns a digest of what is at each of these places of the payload, after the place: of its canonical form, which is
    /// the same for equal values however they are written.
    async fn values(&self, places: Vec<Pointer>, base: &str) -> Result<Vec<Bytes>, Problem> {
        let times = places.len();
        let read = move |_: &Bytes, json: &str| {
            let (mut values, mut left) = (Vec::new(), MOST_COMPARED);
            for place in places {
                let value = place.find(json).map_or("null", RawValue::get);
                let Some(rest) = left.checked_sub(value.len()) else {
                    return Err((place, too_large()));
                };
                left = rest;
                match canonical(value) {
                    Ok(canonical) => {
                        values.extend([place.as_str().to_owned().into(), digest(&canonical)]);
                    }
                    Err(detail) => return Err((place, detail)),
                }
            }
            Ok(values)
        };
        let found = checks::read_often(&self.payload, times, read).await?;
        found.map_err(|(place, detail): (Pointer, String)| {
            Problem::violations(vec![Violation::new(format!("{base}{place}"), detail)])
        })
    }
}

/// The largest payload of a job that may replace another one, in bytes: the step that does it copies the payload twice, which takes
/// Redis a millisecond for this many.
const LARGEST_REPLACEMENT: usize = 256 * 1024;

/// How many bytes of JSON are compared together: a field may contain others, so they may be more than the payload has. A
/// comparison takes some milliseconds for this many, and 16 times their memory.
const MOST_COMPARED: usize = 1024 * 1024;

fn too_large() -> String {
    format!(
        "the job is unique by more than {MOST_COMPARED} bytes here: use a key, or smaller fields"
    )
}

fn digest(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&Sha256::digest(bytes))
}

/// Returns the canonical form (RFC 8785) of a JSON text that was checked.
fn canonical(json: &str) -> Result<Vec<u8>, String> {
    if let Some(number) = large_integer(json) {
        return Err(format!(
            "the job is unique by this, and {number} is beyond 2^53, where many programs change the last digits: write it as text"
        ));
    }
    let value: serde_json::Value = serde_json::from_str(json).map_err(|error| {
        format!("the job is unique by this, and it cannot be compared: {error}")
    })?;
    serde_json_canonicalizer::to_vec(&value)
        .map_err(|error| format!("the job is unique by this, and it cannot be compared: {error}"))
}

/// The first number whose whole part a double does not represent exactly.
fn large_integer(json: &str) -> Option<&str> {
    const LARGEST: f64 = 9_007_199_254_740_991.0;
    let mut rest = json;
    while let Some(at) = rest.find(|it: char| it == '"' || it == '-' || it.is_ascii_digit()) {
        rest = &rest[at..];
        if let Some(text) = rest.strip_prefix('"') {
            rest = after_string(text);
            continue;
        }
        let end = rest.find(|it: char| !matches!(it, '-' | '+' | '.' | 'e' | 'E' | '0'..='9'));
        let (number, after) = rest.split_at(end.unwrap_or(rest.len()));
        let digits = number.split(['e', 'E']).next().unwrap_or_default();
        if digits.parse::<f64>().is_ok_and(|value| value.abs() > LARGEST) {
            return Some(number);
        }
        rest = after;
    }
    None
}

/// What follows a string of JSON, whose opening quote was read.
fn after_string(text: &str) -> &str {
    let mut escaped = false;
    let end = text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or("", |end| &text[end + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(json: &str) -> String {
        match read(Given::Json(&RawValue::from_string(json.to_owned()).unwrap())) {
            Err(Rejection::Wrong { pointer, .. }) => pointer,
            other => panic!("{json}: {other:?}"),
        }
    }

    #[test]
    fn what_is_wrong_is_reported_with_its_place() {
        for (json, at) in [
            ("1", ""),
            ("\"a\"", ""),
            (r#"{"key":""}"#, "/key"),
            (r#"{"key":7}"#, "/key"),
            (r#"{"fields":"/a"}"#, "/fields"),
            (r#"{"fields":["a"]}"#, "/fields"),
            (r#"{"fields":[]}"#, "/fields"),
            (r#"{"until":"never"}"#, "/until"),
            (r#"{"for_ms":1.5}"#, "/for_ms"),
            (r#"{"for_ms":1,"until":"end"}"#, "/for_ms"),
            (r#"{"on_conflict":"ignore"}"#, "/on_conflict"),
            (r#"{"max_wait_ms":5}"#, "/max_wait_ms"),
            (r#"{"kye":"a"}"#, "/kye"),
            (r#"{"key":"a","key":"a"}"#, "/key"),
        ] {
            assert_eq!(place(json), at, "{json}");
        }
    }

    #[test]
    fn a_query_says_the_same_as_an_envelope() {
        let json = r#"{"fields":["/a","/b"],"for_ms":5,"on_conflict":"reject","until":null}"#;
        let given = read(Given::Json(&RawValue::from_string(json.to_owned()).unwrap())).unwrap();
        let pairs =
            [("unique.fields", "/a,/b"), ("unique.for_ms", "5"), ("unique.on_conflict", "reject")];
        let pairs: Vec<_> = pairs.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        assert_eq!(read_query(&pairs).unwrap(), given);
    }

    #[test]
    fn equal_values_are_equal_however_they_are_written() {
        for (one, other) in [
            (r#"{"a":1,"b":2}"#, r#" { "b" : 2.0 , "a" : 1e0 } "#),
            (r#"["ä"]"#, "[\"\\u00e4\"]"),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            ("0.1", "1e-1"),
            ("-0", "0"),
        ] {
            assert_eq!(canonical(one).unwrap(), canonical(other).unwrap(), "{one} {other}");
        }
        for (one, other) in [("1", "\"1\""), ("[1,2]", "[2,1]"), ("{}", "[]"), ("null", "false")] {
            assert_ne!(canonical(one).unwrap(), canonical(other).unwrap(), "{one} {other}");
        }
    }

    #[test]
    fn numbers_that_many_programs_change_are_refused() {
        for json in ["9007199254740992", "[-9007199254740993]", r#"{"a\"1":12345678901234567890}"#]
        {
            assert!(canonical(json).is_err(), "{json}");
        }
        for json in ["9007199254740991", r#""9007199254740993""#, "1e300", r#"{"9\\":[0.5,-1]}"#] {
            assert!(canonical(json).is_ok(), "{json}");
        }
    }
}
