//! Reads query strings strictly, so that nothing a client sends is ignored.

use std::collections::HashSet;
use std::fmt;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::nearest::nearest_stem;
use crate::problem::{INVALID_PARAMETER, Problem};

/// Returns the pairs of a query string in their order, decoded (`application/x-www-form-urlencoded`).
pub(crate) fn pairs(query: &str) -> Result<Vec<(String, String)>, Problem> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let decode = |text| decoded(text).ok_or_else(|| invalid(name, "expected UTF-8"));
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

fn decoded(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8().ok().map(Into::into)
}

/// Writes a query string that [`pairs`] reads back.
pub(crate) fn encoded<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let parts = pairs.map(|(name, value)| format!("{}={}", encode(name), encode(value)));
    parts.collect::<Vec<_>>().join("&")
}

/// Returns the first name that occurs twice: it is ambiguous which of the two is meant.
pub(crate) fn repeated<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = HashSet::new();
    names.find(|&name| !seen.insert(name))
}

/// 400 that names an unknown parameter, and the nearest known one.
pub(crate) fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Problem {
    let known: Vec<_> = known.collect();
    let mut detail = "there is no such query parameter here".to_owned();
    if let Some(nearest) = nearest_stem(name, known.iter().copied()) {
        detail += &format!("; did you mean {nearest}?");
    }
    match known.as_slice() {
        [] => detail += ", and no other",
        known if detail.ends_with('?') => detail += &format!(" Known: {}", known.join(", ")),
        known => detail += &format!("; known: {}", known.join(", ")),
    }
    invalid(name, detail)
}

/// 400 that names the parameter.
pub(crate) fn invalid(name: &str, detail: impl fmt::Display) -> Problem {
    Problem::new(INVALID_PARAMETER, format!("{name}: {detail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_as_it_was_encoded() {
        let query = [("a b", "ä&=+%"), ("", ""), ("x", "/?#")];
        let text = encoded(query.into_iter());
        let read = pairs(&text).unwrap();
        let read: Vec<_> = read.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        assert_eq!(read, query);
    }

    #[test]
    fn what_browsers_and_tools_write_is_understood() {
        let read = pairs("&a=1+2&b&c=%zz&a=%2B&").unwrap();
        let read: Vec<_> = read.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        assert_eq!(read, [("a", "1 2"), ("b", ""), ("c", "%zz"), ("a", "+")]);
        assert_eq!(repeated(read.into_iter().map(|(name, _)| name)), Some("a"));
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        assert!(pairs("a=%ff").is_err() && pairs("%c3%28=1").is_err());
    }
}
