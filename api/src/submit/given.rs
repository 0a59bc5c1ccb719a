//! A value from a client, as JSON or as text in a query string, and why it may be rejected.

use std::str::FromStr;

use serde_json::value::RawValue;

use super::names;
use crate::json::{Members, pointer_segment};
use crate::nearest::nearest_stem;
use crate::problem::{Problem, Violation};
use crate::query;

/// A value as given. It is never coerced: what does not parse as the expected type is rejected.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Given<'a> {
    /// In an envelope.
    Json(&'a RawValue),
    /// In a query string.
    Text(&'a str),
}

impl<'a> Given<'a> {
    pub(super) fn is_null(self) -> bool {
        matches!(self, Self::Json(raw) if raw.get() == "null")
    }

    pub(super) fn text(self) -> Option<String> {
        match self {
            Self::Json(raw) => serde_json::from_str(raw.get()).ok(),
            Self::Text(text) => Some(text.to_owned()),
        }
    }

    pub(super) fn parsed<T: FromStr>(self, expected: &str) -> Result<T, Rejection> {
        let parsed = self.text().and_then(|text| text.parse().ok());
        parsed.ok_or_else(|| rejected(format!("expected {expected}")))
    }

    pub(super) fn whole(self) -> Option<u64> {
        let text = match self {
            Self::Json(raw) => raw.get(),
            Self::Text(text) => text,
        };
        text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
    }

    /// Returns the text of a string; a number or a boolean exactly as written.
    pub(super) fn scalar(self) -> Option<String> {
        match self {
            Self::Json(raw) if raw.get().starts_with(['{', '[', 'n']) => None,
            Self::Json(raw) if !raw.get().starts_with('"') => Some(raw.get().to_owned()),
            given => given.text(),
        }
    }

    pub(super) fn members(self) -> Option<Members<'a>> {
        match self {
            Self::Json(raw) => Members::of(raw.get()),
            Self::Text(_) => None,
        }
    }
}

/// Why a value was not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// There is no option with this name.
    Unknown,
    /// The value is invalid; the pointer refers to the place inside it.
    Wrong { pointer: String, detail: String },
}

pub(super) fn rejected(detail: impl Into<String>) -> Rejection {
    Rejection::Wrong { pointer: String::new(), detail: detail.into() }
}

impl Rejection {
    pub(super) fn at(self, place: &str) -> Self {
        match self {
            Self::Wrong { pointer, detail } => {
                Self::Wrong { pointer: format!("{place}{pointer}"), detail }
            }
            Self::Unknown => Self::Unknown,
        }
    }

    /// Returns an entry of a 422, for the member `name` of the object at `base`.
    pub(super) fn into_violation(self, base: &str, name: &str) -> Violation {
        let member = format!("{base}{}", pointer_segment(name));
        match self {
            Self::Unknown => {
                let mut detail = format!("there is no member {name:?} here");
                if let Some(nearest) = nearest_stem(name, names::members()) {
                    detail += &format!("; did you mean {nearest}?");
                }
                Violation::new(member, detail)
            }
            Self::Wrong { pointer, detail } => Violation::new(member + &pointer, detail),
        }
    }

    /// Returns a 400, for the query parameter `name`.
    pub(super) fn into_problem(self, name: &str) -> Problem {
        match self {
            Self::Unknown => query::unknown(name, names::parameters()),
            Self::Wrong { detail, .. } => query::invalid(name, detail),
        }
    }
}
