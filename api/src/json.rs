//! Whether bytes are one JSON value, without changing a byte of them.

use serde::de::IgnoredAny;

use crate::problem::{MALFORMED_JSON, Problem};

/// Deeper nesting serves nobody but an attacker on the handler's parser.
const MAX_DEPTH: usize = 64;

/// Checks that `bytes` are exactly one JSON value in UTF-8, nested at most 64 levels deep.
pub(crate) fn check(bytes: &[u8]) -> Result<(), Problem> {
    let malformed = |detail: String| Problem::new(MALFORMED_JSON, detail);
    if bytes.is_empty() {
        return Err(malformed("the body is empty".to_owned()));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| malformed(format!("not UTF-8 at byte {}", error.valid_up_to())))?;
    if deeper_than(text, MAX_DEPTH) {
        return Err(malformed(format!("nested deeper than {MAX_DEPTH} levels")));
    }
    serde_json::from_str::<IgnoredAny>(text)
        .map(|_| ())
        .map_err(|error| malformed(error.to_string()))
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
    fn anything_else_is_malformed() {
        let deep = format!("{}1{}", "[".repeat(65), "]".repeat(65));
        let bomb = "[".repeat(100_000);
        for bad in ["", " ", "{", "NaN", "1 2", "{\"a\":1,}", "nul", "'a'", &deep, &bomb] {
            assert!(check(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(check(b"\"\xff\"").is_err());
    }
}
