//! Parsers for the replies of Redis: the few types that the functions use, each converted to a value or a readable
//! error.

use std::sync::Arc;

use bytes::Bytes;
use redis::{RedisError, Value};

use super::error::Error;

/// Returns the elements of an array.
pub(crate) fn array(value: Value) -> Result<Vec<Value>, Error> {
    match value {
        Value::Array(values) => Ok(values),
        other => Err(Error::unreadable(format!("expected an array, got {}", type_of(&other)))),
    }
}

/// Returns the elements of an array of exactly `N`.
pub(crate) fn fields<const N: usize>(value: Value) -> Result<[Value; N], Error> {
    let values = array(value)?;
    let got = values.len();
    values.try_into().map_err(|_| Error::unreadable(format!("expected {N} elements, got {got}")))
}

/// Parses a whole number, sent as a number or as text.
pub(crate) fn integer(value: &Value) -> Result<i64, Error> {
    let parsed = match value {
        Value::Int(number) => Some(*number),
        Value::BulkString(bytes) => {
            std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok())
        }
        _ => None,
    };
    parsed.ok_or_else(|| {
        Error::unreadable(format!("expected a whole number, got {}", type_of(value)))
    })
}

/// Parses a whole number that is not negative.
pub(crate) fn unsigned(value: &Value) -> Result<u64, Error> {
    u64::try_from(integer(value)?)
        .map_err(|_| Error::unreadable("expected a number that is not negative"))
}

/// Parses the reply of `TIME`, as Unix milliseconds.
pub(crate) fn time_ms(time: Value) -> Result<u64, Error> {
    let [seconds, micros] = fields(time)?;
    Ok(unsigned(&seconds)? * 1000 + unsigned(&micros)? / 1000)
}

/// Returns the bytes of a string.
pub(crate) fn bytes(value: Value) -> Result<Bytes, Error> {
    match value {
        Value::BulkString(bytes) => Ok(bytes.into()),
        other => Err(Error::unreadable(format!("expected bytes, got {}", type_of(&other)))),
    }
}

/// Parses text as `T`.
pub(crate) fn parsed<T: std::str::FromStr>(value: Value) -> Result<T, Error> {
    parse(&text(value)?)
}

/// Like [`parsed`], for a text.
pub(crate) fn parse<T: std::str::FromStr>(text: &str) -> Result<T, Error> {
    text.parse().map_err(|_| Error::unreadable(format!("unexpected value {text:?}")))
}

/// Parses a word, where `-` means none.
pub(crate) fn optional<T: std::str::FromStr>(word: &str) -> Result<Option<T>, Error> {
    (word != "-").then(|| parse(word)).transpose()
}

/// Returns UTF-8 text.
pub(crate) fn text(value: Value) -> Result<String, Error> {
    match value {
        Value::BulkString(bytes) => {
            String::from_utf8(bytes).map_err(|_| Error::unreadable("text is not UTF-8"))
        }
        Value::SimpleString(text) => Ok(text),
        Value::Int(number) => Ok(number.to_string()),
        other => Err(Error::unreadable(format!("expected text, got {}", type_of(&other)))),
    }
}

/// Names the type of a value; never its content, which may be a payload.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nothing",
        Value::Int(_) => "a number",
        Value::BulkString(_) | Value::SimpleString(_) => "text",
        Value::Array(_) => "an array",
        _ => "another type",
    }
}

/// Returns the first error that Redis sent inside a reply, except those that are expected.
pub(crate) fn server_errors(
    values: Vec<Value>,
    expected: impl Fn(&Arc<RedisError>) -> bool,
) -> Result<Vec<Value>, RedisError> {
    let extract = |value: Value| match &value {
        Value::ServerError(error) if expected(&Arc::new(error.clone().into())) => Ok(value),
        _ => value.extract_error(),
    };
    values.into_iter().map(extract).collect()
}
