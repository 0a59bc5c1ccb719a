//! A compiled schema. Never fetches anything, and no check takes more than its budget of steps and memory.
//!
//! Whether a value fits is asked in the form that the library answers cheaply: it remembers what it found where references
//! recurse. Violations are collected afterwards, in the form that explores every branch below every branch, as far as the
//! budget for that goes.

use std::fmt::{self, Write};

use jsonschema::{Draft, PatternOptions, ValidationError};
use serde_json::Value;

use super::measure::longest_pointer;
use super::meter::{Budget, Exhausted, Metered, MeteredJson, within};
use super::patterns;
use super::prices::Prices;
use super::{InvalidSchema, door};

/// No more violations than this are told of one value: enough to mend it, and bounded whatever is sent.
pub const MAX_VIOLATIONS: usize = 20;
/// Of a larger value, in bytes, only the first violation is told: the library gathers all there are before it hands out
/// one, at 400 bytes each, and eight megabytes of wrong numbers would take a gigabyte.
const MAX_SURVEYED: usize = 64 * 1024;
/// Steps that every check may take, and more for each byte of the value: at most 40 ms for 64 KiB. A schema that asks for fifty
/// looks at everything in the value is well within.
const STEPS: u64 = 2_000_000;
const STEPS_PER_BYTE: u64 = 24;
/// Violations are collected within as many steps as this times those of the answer, and at least [`EXPLAIN_STEPS`]; never within
/// more than the answer has left over, but for those.
const EXPLAIN_FACTOR: u64 = 4;
const EXPLAIN_STEPS: u64 = 500_000;
/// The first violation alone is looked for within so many steps, if all of them were too many.
const FIRST_STEPS: u64 = 200_000;
/// Bytes of violations under construction: room for all there can be in 64 KiB, unless their pointers are very long.
const EXPLAIN_MEMORY: u64 = 24 * 1024 * 1024;
/// A check of a value of at most [`BRIEF_BYTES`] within this many steps takes less than a millisecond.
const BRIEF_STEPS: u64 = 60_000;
/// Reading a value takes 10 to 30 microseconds a kilobyte.
const BRIEF_BYTES: usize = 16 * 1024;
/// What is said of a value whose violations cannot be told apart within the budget.
const NO_ALTERNATIVE: &str = "the value fits none of the alternatives that the schema allows";
/// What is said of a value for which it cannot even be known whether it fits.
const TOO_MUCH_WORK: &str =
    "checking the value against the schema takes more steps than are allowed; send less at once";
/// The longest detail, in bytes. Details may name members of the value, and whatever the schema lists.
const MAX_DETAIL: usize = 300;
/// The longest pointer, in bytes. A longer one is cut behind a whole segment: it then leads to what is around the place.
const MAX_POINTER: usize = 1024;

/// A schema that is ready to check values.
#[derive(Debug)]
pub struct Validator {
    compiled: jsonschema::Validator<MeteredJson>,
    prices: Prices,
}

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
        let options = jsonschema::options_for::<MeteredJson>()
            .with_draft(Draft::Draft202012)
            .with_pattern_options(
                PatternOptions::regex()
                    .size_limit(patterns::COMPILED_BYTES)
                    .dfa_size_limit(patterns::CACHE_BYTES),
            );
        let prices = Prices::of(schema)?;
        let compiled = options.build(schema).map_err(|error| not_a_schema(&error))?;
        Ok(Self { compiled, prices })
    }

    /// Checks a JSON text that was found to be whole. Takes up to 50 ms for 64 KiB, and more for a larger one.
    ///
    /// # Errors
    /// What is wrong, at most [`MAX_VIOLATIONS`] of it; of a value beyond 64 KiB the first.
    pub fn check(&self, json: &[u8]) -> Result<(), Vec<Violation>> {
        let value = read(json)?;
        let budget = self.budget(&value, STEPS + STEPS_PER_BYTE * json.len() as u64);
        let Ok((fits, steps)) = within(budget, || self.compiled.is_valid(Metered(&value))) else {
            return Err(vec![at_the_top(TOO_MUCH_WORK)]);
        };
        if fits {
            return Ok(());
        }
        let left = (budget.steps - steps).min(EXPLAIN_FACTOR * steps);
        let budget = Budget { steps: EXPLAIN_STEPS.max(left), ..budget };
        let budget_of_one = Budget { steps: FIRST_STEPS, ..budget };
        let all = (json.len() <= MAX_SURVEYED).then(|| self.all(&value, budget).ok()).flatten();
        let found = all.or_else(|| self.first(&value, budget_of_one).ok());
        Err(found.unwrap_or_else(|| vec![at_the_top(NO_ALTERNATIVE)]))
    }

    /// Checks a JSON text as [`Validator::check`] does if that takes less than a millisecond; `None` if it may take longer.
    #[must_use]
    pub fn check_briefly(&self, json: &[u8]) -> Option<Result<(), Vec<Violation>>> {
        if json.len() > BRIEF_BYTES {
            return None;
        }
        let value = match read(json) {
            Ok(value) => value,
            Err(unreadable) => return Some(Err(unreadable)),
        };
        let budget = self.budget(&value, BRIEF_STEPS);
        let (fits, steps) = within(budget, || self.compiled.is_valid(Metered(&value))).ok()?;
        if fits {
            return Some(Ok(()));
        }
        let budget = Budget { steps: budget.steps - steps, ..budget };
        self.all(&value, budget).ok().map(Err)
    }

    /// How many steps the answer takes whether a value fits; `None` if more than there are.
    #[cfg(test)]
    pub(super) fn steps(&self, json: &[u8]) -> Option<u64> {
        let value = read(json).ok()?;
        let budget = self.budget(&value, STEPS + STEPS_PER_BYTE * json.len() as u64);
        within(budget, || self.compiled.is_valid(Metered(&value))).ok().map(|(_, steps)| steps)
    }

    fn budget(&self, value: &Value, steps: u64) -> Budget {
        let ways = (1 + door::depth(value) as u64) * self.prices.way;
        let paths = longest_pointer(value) + ways;
        Budget { steps, memory: EXPLAIN_MEMORY, paths, prices: self.prices }
    }

    fn all(&self, value: &Value, budget: Budget) -> Result<Vec<Violation>, Exhausted> {
        let collect = || {
            let errors = self.compiled.iter_errors(Metered(value));
            errors.take(MAX_VIOLATIONS).map(|error| told(&error)).collect()
        };
        within(budget, collect).map(|(found, _)| found)
    }

    fn first(&self, value: &Value, budget: Budget) -> Result<Vec<Violation>, Exhausted> {
        let first = || self.compiled.validate(Metered(value)).err().map(|error| told(&error));
        within(budget, first).map(|(found, _)| found.into_iter().collect())
    }
}

fn read(json: &[u8]) -> Result<Value, Vec<Violation>> {
    serde_json::from_slice(json)
        .map_err(|error| vec![at_the_top(&format!("cannot be read: {error}"))])
}

fn at_the_top(detail: &str) -> Violation {
    Violation { pointer: String::new(), detail: detail.to_owned() }
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
