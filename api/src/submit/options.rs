//! The options of a submission besides its payload: the same names as members of an envelope and as query parameters.

use std::time::Duration;

use crunch_common::broker::{Durability, ScheduledBy, Start};
use crunch_common::job::{
    GroupName, MAX_ATTEMPTS_LIMIT, MAX_DURATION, Metadata, Priority, TraceContext, Unique,
};
use crunch_common::queue::QueueName;
use crunch_common::time::{Timestamp, whole_ms};

use serde_json::value::RawValue;

use super::given::{Given, Rejection, rejected};
use super::names::{NAMES, UNIQUE};
use super::{unique, webhook};
use crate::idempotency::IdempotencyKey;
use crate::json::pointer_segment;
use crate::prefer::WAIT;
use crate::problem::{Problem, Violation};
use crate::query;
use crate::webhook::WebhookRequest;

/// The given options; for `None` the task decides.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) queue: Option<QueueName>,
    pub(crate) priority: Option<Priority>,
    pub(crate) group: Option<GroupName>,
    pub(crate) unique: Option<Unique>,
    pub(crate) start: Option<Start>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) start_within: Option<Duration>,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) retention: Option<Duration>,
    pub(crate) durability: Option<Durability>,
    pub(crate) key: Option<IdempotencyKey>,
    pub(crate) metadata: Metadata,
    /// From the headers of the request; not an option with a name.
    pub(crate) trace: Option<TraceContext>,
    pub(crate) webhook: Option<WebhookRequest>,
    /// The schedule and the tick that the job is for; not an option with a name.
    pub(crate) schedule: Option<ScheduledBy>,
}

impl Options {
    /// Whether an option has this name.
    pub(crate) fn is_option(name: &str) -> bool {
        NAMES.contains(&name)
    }

    /// Sets one option of an object; `base` is the JSON pointer of the object.
    pub(crate) fn set_member(
        &mut self,
        name: &str,
        raw: &RawValue,
        base: &str,
    ) -> Result<(), Violation> {
        let set = self.set(name, Given::Json(raw));
        set.map_err(|rejection| rejection.into_violation(base, name))
    }

    /// Sets one option; `null` leaves it unset.
    pub(crate) fn set(&mut self, name: &str, value: Given<'_>) -> Result<(), Rejection> {
        if !NAMES.contains(&name) {
            return Err(Rejection::Unknown);
        }
        if value.is_null() {
            return Ok(());
        }
        match name {
            "queue" => self.queue = Some(queue(value)?),
            "priority" => self.priority = Some(value.parsed("low, normal, high or urgent")?),
            "group" => self.group = Some(value.parsed(GROUP_NAME)?),
            "unique" => self.unique = Some(unique::read(value)?),
            "delay_ms" => self.start_at(Start::After(duration(value, 0)?))?,
            "run_at" => self.start_at(Start::At(run_at(value)?))?,
            "timeout_ms" => self.timeout = Some(duration(value, 1)?),
            "deadline_ms" => self.deadline = Some(duration(value, 1)?),
            "start_within_ms" => self.start_within = Some(duration(value, 1)?),
            "max_attempts" => self.max_attempts = Some(attempts(value)?),
            "retention_ms" => self.retention = Some(duration(value, 0)?),
            "durability" => {
                self.durability = Some(value.parsed("memory, fsync, replica, or fsync,replica")?);
            }
            "idempotency_key" => self.key = Some(key(value)?),
            "metadata" => self.metadata = metadata(value)?,
            _ => self.webhook = Some(webhook::read(value)?),
        }
        Ok(())
    }

    /// Parses the options in a query string. Numbers are written as digits, metadata as `metadata.<key>=<value>`.
    pub(crate) fn from_query(query: &str) -> Result<Self, Problem> {
        let mut pairs = query::pairs(query)?;
        // It is an option of the answer, not of the job.
        pairs.retain(|(name, _)| name != WAIT);
        if let Some(name) = query::repeated(pairs.iter().map(|(name, _)| name.as_str())) {
            return Err(query::invalid(name, "is given twice"));
        }
        let mut options = Self::default();
        for (name, text) in &pairs {
            let outcome = match name.split_once('.') {
                Some(("metadata", label)) => {
                    set_label(&mut options.metadata, label, Given::Text(text))
                }
                // Both parts are read together, with the first one.
                Some(("webhook", "url" | "events")) if options.webhook.is_some() => Ok(()),
                Some(("webhook", "url" | "events")) => {
                    webhook::read_query(&pairs).map(|wanted| options.webhook = Some(wanted))
                }
                // The same.
                Some(("unique", _)) if UNIQUE.contains(&name.as_str()) => match options.unique {
                    Some(_) => Ok(()),
                    None => unique::read_query(&pairs).map(|unique| options.unique = Some(unique)),
                },
                None if name == "unique" => {
                    Err(rejected("write unique.key=<text> or unique.fields=<pointer>,…"))
                }
                None if name == "metadata" => Err(rejected("write metadata.<key>=<value>")),
                None if name == "webhook" => Err(rejected("write webhook.url=<URL>")),
                _ => options.set(name, Given::Text(text)),
            };
            outcome.map_err(|rejection| rejection.into_problem(name))?;
        }
        Ok(options)
    }

    fn start_at(&mut self, start: Start) -> Result<(), Rejection> {
        match self.start.replace(start) {
            None => Ok(()),
            Some(_) => Err(rejected("only one of delay_ms and run_at may be given")),
        }
    }
}

pub(super) const GROUP_NAME: &str = "1 to 128 bytes of text without control characters";

fn queue(value: Given<'_>) -> Result<QueueName, Rejection> {
    let queue: QueueName = value.parsed("a queue name: 1 to 64 of a-z 0-9 _ . -")?;
    if queue.is_reserved() {
        return Err(rejected("is reserved for Crunch: nothing can be submitted to it"));
    }
    Ok(queue)
}

fn duration(value: Given<'_>, min: u64) -> Result<Duration, Rejection> {
    let max = whole_ms(MAX_DURATION);
    let ms = value.whole().filter(|ms| (min..=max).contains(ms));
    let expected = || rejected(format!("expected whole milliseconds from {min} to {max}"));
    ms.map(Duration::from_millis).ok_or_else(expected)
}

fn run_at(value: Given<'_>) -> Result<Timestamp, Rejection> {
    let latest = Timestamp::now().unix_ms() + whole_ms(MAX_DURATION);
    let time: Timestamp =
        value.parsed("an RFC 3339 time with an offset, such as 2026-11-22T13:40:54.426Z")?;
    if time.unix_ms() > latest {
        return Err(rejected("expected a time within a year"));
    }
    Ok(time)
}

fn attempts(value: Given<'_>) -> Result<u32, Rejection> {
    let number = value.whole().and_then(|number| u32::try_from(number).ok());
    number
        .filter(|number| (1..=MAX_ATTEMPTS_LIMIT).contains(number))
        .ok_or_else(|| rejected(format!("expected a whole number from 1 to {MAX_ATTEMPTS_LIMIT}")))
}

fn key(value: Given<'_>) -> Result<IdempotencyKey, Rejection> {
    let key = value.text().and_then(|text| IdempotencyKey::parse(&text).ok());
    key.ok_or_else(|| rejected("expected 1 to 255 visible ASCII characters"))
}

fn metadata(value: Given<'_>) -> Result<Metadata, Rejection> {
    let members = value.members().ok_or_else(|| rejected("expected an object"))?;
    if let Some(label) = members.repeated() {
        return Err(rejected("is given twice").at(&pointer_segment(label)));
    }
    let mut metadata = Metadata::default();
    for (label, raw) in members.all {
        set_label(&mut metadata, &label, Given::Json(raw))?;
    }
    Ok(metadata)
}

/// Sets one label; numbers and booleans are stored as they were written.
fn set_label(metadata: &mut Metadata, label: &str, value: Given<'_>) -> Result<(), Rejection> {
    let wrong = |detail: &str| rejected(detail).at(&pointer_segment(label));
    let text = value.scalar().ok_or_else(|| wrong("expected a string, a number or a boolean"))?;
    metadata.insert(label.to_owned(), text).map_err(|error| wrong(&error.to_string()))
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
            "queue=crunch.webhooks",
            "webhook.events=job.failed",
            "webhook.url=ftp://example.com/",
            "webhook.events=failed&webhook.url=https://example.com/",
            "webhook.nonsense=1",
            "priority=1",
            "group=",
            "group=a%0Ab",
            "delay_ms=-1",
            "delay_ms=1.5",
            "max_attempts=0",
            "max_attempts=101",
            "timeout_ms=0",
            "run_at=tomorrow",
            "nonsense=1",
            "metadata=1",
            "webhook=x",
            "queue=a&queue=a",
            "delay_ms=%2B5",
            "delay_ms=1&run_at=2026-11-22T13:40:54Z",
            "metadata.=1",
            "retention_ms=99999999999999",
            "durability=disk",
        ];
        for query in cases {
            let problem = Options::from_query(query).unwrap_err();
            let name = query.split('=').next().unwrap_or_default();
            assert_eq!(problem.kind, crate::problem::INVALID_PARAMETER, "{query}");
            assert!(problem.to_string().contains(name), "{problem}");
        }
    }
}
