//! A compiled schema. Never fetches anything, and takes time linear in a value's size for every pattern.

use std::fmt::{self, Write};

use jsonschema::{Draft, PatternOptions, ValidationError};
use serde_json::Value;

use super::InvalidSchema;

/// No more violations than this are told of one value: enough to mend it, and bounded whatever is sent.
pub const MAX_VIOLATIONS: usize = 20;
/// Of a larger value, in bytes, only the first violation is told: the library gathers all there are before it hands out
/// one, at 300 bytes each, and eight megabytes of wrong numbers would take a gigabyte.
const MAX_SURVEYED: usize = 64 * 1024;
/// The longest detail, in bytes. Details may name members of the value, and whatever the schema lists.
const MAX_DETAIL: usize = 300;
/// The longest pointer, in bytes. A longer one is cut behind a whole segment: it then leads to what is around the place.
const MAX_POINTER: usize = 1024;

/// A schema that is ready to check values.
#[derive(Debug)]
pub struct Validator(jsonschema::Validator);

/// What is wrong with a value, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// JSON Pointer (RFC 6901) into the value.
    pub pointer: String,
    /// What is wrong. Never the value itself.
    pub detail: String,
}

impl Validator {
    pub(super) fn new(schema: &Value) -> Result<Self, InvalidSchema> {
        // Patterns are a worker's, the texts they are held against anybody's: an engine that backtracks could be made to
        // hang. The linear one lacks look-around and back-references; schemas with them are refused.
        let options = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .with_pattern_options(PatternOptions::regex());
        options.build(schema).map(Self).map_err(|error| not_a_schema(&error))
    }

    /// Checks a JSON text that was found to be whole.
    ///
    /// # Errors
    /// What is wrong, at most [`MAX_VIOLATIONS`] of it; of a value beyond 64 KiB the first.
    pub fn check(&self, json: &[u8]) -> Result<(), Vec<Violation>> {
        let value: Value = serde_json::from_slice(json).map_err(|error| {
            vec![Violation { pointer: String::new(), detail: format!("cannot be read: {error}") }]
        })?;
        if json.len() > MAX_SURVEYED {
            return self.0.validate(&value).map_err(|error| vec![told(&error)]);
        }
        if self.0.is_valid(&value) {
            return Ok(());
        }
        Err(self.0.iter_errors(&value).take(MAX_VIOLATIONS).map(|error| told(&error)).collect())
    }
}

fn told(error: &ValidationError<'_>) -> Violation {
    let pointer = error.instance_path().to_string();
    Violation { pointer: bounded_pointer(pointer), detail: detail(error) }
}

/// What the library says, without the value.
fn detail(error: &ValidationError<'_>) -> String {
    let mut text = Bounded(String::new());
    let whole = write!(text, "{}", error.masked_with("the value")).is_ok();
    let ellipsis = if whole { "" } else { "\u{2026}" };
    format!("{}{ellipsis}", text.0)
}

fn bounded_pointer(mut pointer: String) -> String {
    if pointer.len() > MAX_POINTER {
        let end = (0..=MAX_POINTER).rev().find(|&at| pointer.as_bytes().get(at) == Some(&b'/'));
        pointer.truncate(end.unwrap_or(0));
    }
    pointer
}

/// Text that takes no more than [`MAX_DETAIL`] bytes, so that what is too long is not even made.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MAX_DETAIL - self.0.len();
        let fits = text.floor_char_boundary(room);
        self.0.push_str(&text[..fits]);
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

fn not_a_schema(error: &ValidationError<'_>) -> InvalidSchema {
    let place = bounded_pointer(error.instance_path().to_string());
    let colon = if place.is_empty() { "" } else { ": " };
    let mut reason = Bounded(String::new());
    // A reason that is cut is still one.
    let _cut = write!(reason, "{error}");
    InvalidSchema::NotSchema { place: format!("{place}{colon}"), reason: reason.0 }
}
