//! Lines of cron: five fields, or six with seconds first. The crate `croner` parses and computes them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Zoned;
use serde::{Deserialize, Serialize};

/// Longer lines are a mistake, and each is parsed at every read of its schedule.
const MAX_BYTES: usize = 256;
/// The years in which ticks are searched: a line whose dates never come is searched through all of them.
const YEARS: &str = "1970-2199";
/// Short names of usual lines.
const NICKNAMES: [(&str, &str); 6] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];
/// The fields of a line with six, and what each accepts.
const FIELDS: [(&str, &str); 6] = [
    ("second", "0 to 59, lists such as 0,30, ranges such as 0-9, and steps such as */15"),
    ("minute", "0 to 59, lists such as 0,30, ranges such as 0-9, and steps such as */15"),
    ("hour", "0 to 23, lists such as 8,20, ranges such as 8-17, and steps such as */6"),
    (
        "day of the month",
        "1 to 31, lists, ranges and steps, L for the last day, and 15W for the weekday nearest to the 15th",
    ),
    (
        "month",
        "1 to 12 or JAN to DEC, lists such as 1,7, ranges such as 6-8, and steps such as */3",
    ),
    (
        "day of the week",
        "0 to 7 (0 and 7 are Sunday) or SUN to SAT, lists, ranges and steps, 1#2 for the second Monday, and 5L for the last Friday",
    ),
];

/// A line of cron.
///
/// ```
/// use crunch_common::schedule::CronLine;
///
/// assert_eq!("30 2 * * MON-FRI".parse::<CronLine>().unwrap().as_str(), "30 2 * * MON-FRI");
/// let error = "30 25 * * *".parse::<CronLine>().unwrap_err().to_string();
/// assert!(error.starts_with("the hour \"25\" is wrong: expected 0 to 23"), "{error}");
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CronLine {
    text: Arc<str>,
    cron: Arc<Cron>,
}

/// Why a text is not a line of cron.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCron {
    /// It has another number of fields.
    #[error(
        "expected 5 fields (minute, hour, day of the month, month, day of the week), 6 with seconds first, or one of @hourly, @daily, @weekly, @monthly, @yearly; it has {fields}"
    )]
    FieldCount {
        /// How many it has.
        fields: usize,
    },
    /// One field is wrong.
    #[error("the {name} {text:?} is wrong: expected {expected}")]
    Field {
        /// Which one.
        name: &'static str,
        /// What it contains.
        text: String,
        /// What it accepts.
        expected: &'static str,
    },
    /// It is too long.
    #[error("expected at most {MAX_BYTES} bytes")]
    TooLong,
}

impl CronLine {
    /// The line as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the first time after another that fits, in the zone of that time. A time of day that a zone leaves out on one
    /// day is its first instant after the gap; one that comes twice is the first of them. Lines with ranges or steps of
    /// hours or minutes follow the clock instead: nothing in a gap, and both times.
    ///
    /// # Errors
    /// If it is not found: there is none, or the gap is longer than two hours.
    pub(super) fn next_after(&self, time: &Zoned) -> Result<Zoned, CronError> {
        self.cron.find_next_occurrence(time, false)
    }

    /// Returns the first time that fits, from this one on.
    pub(super) fn next_from(&self, time: &Zoned) -> Result<Zoned, CronError> {
        self.cron.find_next_occurrence(time, true)
    }
}

impl FromStr for CronLine {
    type Err = InvalidCron;

    fn from_str(text: &str) -> Result<Self, InvalidCron> {
        if text.len() > MAX_BYTES {
            return Err(InvalidCron::TooLong);
        }
        let nickname = NICKNAMES.iter().find(|(name, _)| text.trim().eq_ignore_ascii_case(name));
        let line = nickname.map_or(text, |(_, line)| line);
        let mut fields: Vec<_> = line.split_whitespace().collect();
        if !(5..=6).contains(&fields.len()) {
            return Err(InvalidCron::FieldCount { fields: fields.len() });
        }
        if fields.len() == 5 {
            fields.insert(0, "0");
        }
        let cron = parse(&fields).ok_or_else(|| wrong_field(&fields))?;
        Ok(Self { text: text.trim().into(), cron: cron.into() })
    }
}

fn parse(fields: &[&str]) -> Option<Cron> {
    let parser = CronParser::builder().seconds(Seconds::Required).year(Year::Required).build();
    // A nickname here would replace the whole line.
    let has_nickname = fields.iter().any(|field| field.contains('@'));
    parser.parse(&format!("{} {YEARS}", fields.join(" "))).ok().filter(|_| !has_nickname)
}

/// Returns the first field that is wrong by itself.
fn wrong_field(fields: &[&str]) -> InvalidCron {
    let is_wrong = |at: usize| {
        let mut alone = ["*"; 6];
        alone[at] = fields[at];
        parse(&alone).is_none()
    };
    let at = (0..6).find(|&at| is_wrong(at)).unwrap_or_default();
    let (name, expected) = FIELDS[at];
    InvalidCron::Field { name, text: fields[at].to_owned(), expected }
}

impl TryFrom<String> for CronLine {
    type Error = InvalidCron;

    fn try_from(text: String) -> Result<Self, InvalidCron> {
        text.parse()
    }
}

impl From<CronLine> for String {
    fn from(line: CronLine) -> Self {
        (*line.text).to_owned()
    }
}

impl PartialEq for CronLine {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for CronLine {}

impl fmt::Debug for CronLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CronLine({:?})", self.text)
    }
}

impl fmt::Display for CronLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_five_or_six_fields_or_a_short_name() {
        for line in [
            "* * * * *",
            "0 2 * * *",
            "*/10 * * * * *",
            "30 2 L * *",
            "0 9 15W * *",
            "0 9 * JAN-MAR,dec mon#2",
            "0 0 ? * 5L",
            "@daily",
            " @Hourly ",
        ] {
            assert!(line.parse::<CronLine>().is_ok(), "{line}");
        }
        for (line, fields) in [("", 0), ("* * * *", 4), ("0 0 * * * * 2027", 7), ("@reboot", 1)] {
            let error = line.parse::<CronLine>().unwrap_err();
            assert_eq!(error, InvalidCron::FieldCount { fields }, "{line}");
        }
        assert_eq!("*".repeat(257).parse::<CronLine>(), Err(InvalidCron::TooLong));
    }

    #[test]
    fn the_field_that_is_wrong_is_named_with_what_it_accepts() {
        for (line, field, text) in [
            ("60 * * * *", "minute", "60"),
            ("* 24 * * *", "hour", "24"),
            ("60 * * * * *", "second", "60"),
            ("* * 0 * *", "day of the month", "0"),
            ("* * 32 * *", "day of the month", "32"),
            ("* * * 13 *", "month", "13"),
            ("* * * FOO *", "month", "FOO"),
            ("* * * * 8", "day of the week", "8"),
            ("* * * * MON#6", "day of the week", "MON#6"),
            ("5-1 * * * *", "minute", "5-1"),
            ("*/0 * * * *", "minute", "*/0"),
            ("@daily * * * *", "minute", "@daily"),
            ("ä * * * *", "minute", "ä"),
        ] {
            match line.parse::<CronLine>() {
                Err(InvalidCron::Field { name, text: found, .. }) => {
                    assert_eq!((name, &*found), (field, text), "{line}");
                }
                other => panic!("{line}: {other:?}"),
            }
        }
    }
}
