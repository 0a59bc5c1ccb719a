//! What a submission may say beside its payload: the same names as members of an envelope and as query parameters.

use std::time::Duration;

use crunch_common::broker::Start;
use crunch_common::job::{MAX_ATTEMPTS_LIMIT, MAX_DURATION, Metadata, Priority};
use crunch_common::queue::QueueName;
use crunch_common::time::{Timestamp, whole_ms};
use serde_json::Value;

use crate::idempotency::Key;
use crate::problem::{INVALID_PARAMETER, Problem, Violation};

/// What was said; `None` leaves it to the task.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) queue: Option<QueueName>,
    pub(crate) priority: Option<Priority>,
    pub(crate) start: Option<Start>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) retention: Option<Duration>,
    pub(crate) key: Option<Key>,
    pub(crate) metadata: Metadata,
}

/// Why a value was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no option of that name.
    Unknown,
    /// The value does not fit; says what would. The pointer leads to the place inside the value.
    Wrong { pointer: String, expected: String },
}

fn wrong(expected: impl Into<String>) -> Refusal {
    Refusal::Wrong { pointer: String::new(), expected: expected.into() }
}

impl Options {
    /// Takes one option; `null` leaves it unsaid.
    pub(crate) fn set(&mut self, name: &str, value: &Value) -> Result<(), Refusal> {
        if value.is_null() && KNOWN.contains(&name) {
            return Ok(());
        }
        match name {
            "queue" => self.queue = Some(parsed(value, "a queue name: 1 to 64 of a-z 0-9 _ . -")?),
            "priority" => self.priority = Some(parsed(value, "low, normal, high or urgent")?),
            "delay_ms" => self.start_at(Start::After(duration(value, 0)?))?,
            "run_at" => self.start_at(Start::At(run_at(value)?))?,
            "timeout_ms" => self.timeout = Some(duration(value, 1)?),
            "deadline_ms" => self.deadline = Some(duration(value, 1)?),
            "max_attempts" => self.max_attempts = Some(attempts(value)?),
            "retention_ms" => self.retention = Some(duration(value, 0)?),
            "idempotency_key" => self.key = Some(key(value)?),
            "metadata" => self.metadata = metadata(value)?,
            "webhook" => return Err(wrong("is not supported yet")),
            _ => return Err(Refusal::Unknown),
        }
        Ok(())
    }

    /// Reads the options of a query string. Numbers are written as digits, metadata as `metadata.<key>=<value>`.
    pub(crate) fn from_query(query: &str) -> Result<Self, Problem> {
        let mut options = Self::default();
        for (name, text) in pairs(query) {
            let refused = match name.strip_prefix("metadata.") {
                Some(label) => label_of(&mut options.metadata, label, &Value::String(text.clone())),
                // Waiting is not offered yet, so every answer is 202; what is asked must still make sense.
                None if name == "wait" => {
                    text.parse::<u32>().map(|_| ()).map_err(|_| wrong("whole seconds"))
                }
                None if name == "metadata" || name == "webhook" => Err(Refusal::Unknown),
                None => options.set(&name, &typed(&name, &text)),
            };
            refused.map_err(|refusal| invalid_parameter(&name, &refusal))?;
        }
        Ok(options)
    }

    fn start_at(&mut self, start: Start) -> Result<(), Refusal> {
        match self.start.replace(start) {
            None => Ok(()),
            Some(_) => Err(wrong("only one of delay_ms and run_at")),
        }
    }
}

const KNOWN: [&str; 11] = [
    "queue",
    "priority",
    "delay_ms",
    "run_at",
    "timeout_ms",
    "deadline_ms",
    "max_attempts",
    "retention_ms",
    "idempotency_key",
    "metadata",
    "webhook",
];

/// The pairs of a query string, decoded.
pub(crate) fn pairs(query: &str) -> Vec<(String, String)> {
    actix_web::web::Query::<Vec<(String, String)>>::from_query(query)
        .map(actix_web::web::Query::into_inner)
        .unwrap_or_default()
}

fn typed(name: &str, text: &str) -> Value {
    let number = name.ends_with("_ms") || name == "max_attempts";
    text.parse::<u64>().ok().filter(|_| number).map_or_else(|| Value::from(text), Value::from)
}

fn invalid_parameter(name: &str, refusal: &Refusal) -> Problem {
    let detail = match refusal {
        Refusal::Unknown => format!("there is no query parameter {name:?} here"),
        Refusal::Wrong { expected, .. } => format!("{name}: expected {expected}"),
    };
    Problem::new(INVALID_PARAMETER, detail)
}

impl Refusal {
    /// As an entry of a 422, for the member of that name.
    pub(crate) fn into_violation(self, name: &str) -> Violation {
        let member = pointer_segment(name);
        match self {
            Self::Unknown => Violation::new(member, format!("there is no member {name:?} here")),
            Self::Wrong { pointer, expected } if expected.starts_with("is ") => {
                Violation::new(format!("{member}{pointer}"), format!("{name} {expected}"))
            }
            Self::Wrong { pointer, expected } => {
                Violation::new(format!("{member}{pointer}"), format!("expected {expected}"))
            }
        }
    }
}

/// One segment of a JSON Pointer.
fn pointer_segment(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn parsed<T: std::str::FromStr>(value: &Value, expected: &str) -> Result<T, Refusal> {
    value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| wrong(expected))
}

fn duration(value: &Value, least: u64) -> Result<Duration, Refusal> {
    let most = whole_ms(MAX_DURATION);
    let ms = value.as_u64().filter(|ms| (least..=most).contains(ms));
    ms.map(Duration::from_millis)
        .ok_or_else(|| wrong(format!("whole milliseconds from {least} to {most}")))
}

fn run_at(value: &Value) -> Result<Timestamp, Refusal> {
    let latest = Timestamp::now().unix_ms() + whole_ms(MAX_DURATION);
    let time: Timestamp =
        parsed(value, "an RFC 3339 time with an offset, such as 2026-11-22T13:40:54.426Z")?;
    if time.unix_ms() > latest {
        return Err(wrong("a time within a year"));
    }
    Ok(time)
}

fn attempts(value: &Value) -> Result<u32, Refusal> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number
        .filter(|number| (1..=MAX_ATTEMPTS_LIMIT).contains(number))
        .ok_or_else(|| wrong(format!("a whole number from 1 to {MAX_ATTEMPTS_LIMIT}")))
}

fn key(value: &Value) -> Result<Key, Refusal> {
    let key = value.as_str().and_then(|text| Key::parse(text).ok());
    key.ok_or_else(|| wrong("1 to 255 visible ASCII characters"))
}

fn metadata(value: &Value) -> Result<Metadata, Refusal> {
    let members = value.as_object().ok_or_else(|| wrong("an object"))?;
    let mut metadata = Metadata::default();
    for (label, value) in members {
        label_of(&mut metadata, label, value)?;
    }
    Ok(metadata)
}

/// Sets one label; numbers and booleans are kept as their text.
fn label_of(metadata: &mut Metadata, label: &str, value: &Value) -> Result<(), Refusal> {
    let at = |expected: &str| Refusal::Wrong {
        pointer: pointer_segment(label),
        expected: expected.to_owned(),
    };
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            return Err(at("a string, a number or a boolean"));
        }
    };
    metadata.insert(label.to_owned(), text).map_err(|error| at(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_the_same_as_an_envelope() {
        let options = Options::from_query("queue=a.b&priority=high&delay_ms=500&max_attempts=2&metadata.size=7&metadata.x%20y=%C3%A4").unwrap();
        assert_eq!(options.queue.unwrap().as_str(), "a.b");
        assert_eq!(options.priority, Some(Priority::High));
        assert_eq!(options.start, Some(Start::After(Duration::from_millis(500))));
        assert_eq!(options.max_attempts, Some(2));
        assert_eq!(options.metadata.get("size"), Some("7"));
        assert_eq!(options.metadata.get("x y"), Some("ä"));
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        let cases = [
            "queue=A",
            "priority=1",
            "delay_ms=-1",
            "delay_ms=1.5",
            "max_attempts=0",
            "max_attempts=101",
            "timeout_ms=0",
            "run_at=tomorrow",
            "nonsense=1",
            "metadata=1",
            "webhook=x",
            "wait=x",
            "delay_ms=1&run_at=2026-11-22T13:40:54Z",
            "metadata.=1",
            "retention_ms=99999999999999",
        ];
        for query in cases {
            let problem = Options::from_query(query).unwrap_err();
            assert_eq!(problem.kind, INVALID_PARAMETER, "{query}");
        }
    }
}
