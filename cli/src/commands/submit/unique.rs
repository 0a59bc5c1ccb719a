//! What a job is unique by: the options of that, as query parameters and as a member of a body.

use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value, json};

use super::ms;
use crate::format::parse_duration;

/// The options of which one makes a job unique; the others need it.
const BY: &str = "unique_by";
/// What happens to a job whose lock another one holds, unless it says so.
const EXISTING: &str = "existing";

/// What a submission may say of its uniqueness.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "What the job is unique by")]
pub(super) struct Unique {
    /// Unique by the whole payload: while this job holds its lock, another one with the same payload is not simply added
    #[arg(long = "unique", id = "unique_payload", group = BY)]
    by_payload: bool,
    /// Unique by this text
    #[arg(long = "unique-key", id = "unique_key", value_name = "TEXT", group = BY)]
    key: Option<String>,
    /// Unique by these places of the payload, JSON Pointers such as /customer,/day
    #[arg(long = "unique-fields", id = "unique_fields", value_name = "POINTER,…", value_delimiter = ',',
        group = BY)]
    fields: Vec<String>,
    /// Hold the lock until the job starts, or until it ends. Default: its end; its start with --on-conflict replace
    #[arg(long = "unique-until", id = "unique_until", value_name = "WHEN", requires = BY,
        value_parser = ["start", "end"], conflicts_with = "unique_for")]
    until: Option<String>,
    /// Hold the lock for this time from the submission instead, whatever becomes of the job
    #[arg(long = "unique-for", id = "unique_for", value_name = "DURATION", requires = BY,
        value_parser = parse_duration)]
    time: Option<Duration>,
    /// If another job holds the lock: get that job, be refused, replace it while it waits, or follow it. Default: existing
    #[arg(long, value_name = "WHAT", requires = BY,
        value_parser = [EXISTING, "reject", "replace", "keep_latest"])]
    on_conflict: Option<String>,
    /// With --on-conflict replace: how long a delayed job may wait, however often it is replaced
    #[arg(long, value_name = "DURATION", requires = BY, value_parser = parse_duration)]
    max_wait: Option<Duration>,
}

impl Unique {
    /// The members that the API expects, by their names; none if the job is not unique.
    fn values(&self) -> Vec<(&'static str, Value)> {
        if !self.by_payload && self.key.is_none() && self.fields.is_empty() {
            return Vec::new();
        }
        let all = [
            ("key", json!(self.key)),
            (
                "fields",
                Some(&self.fields).filter(|it| !it.is_empty()).map_or(Value::Null, |it| json!(it)),
            ),
            ("until", json!(self.until)),
            ("for_ms", ms(self.time)),
            // A query without any member would not make the job unique.
            ("on_conflict", json!(self.on_conflict.as_deref().unwrap_or(EXISTING))),
            ("max_wait_ms", ms(self.max_wait)),
        ];
        all.into_iter().filter(|(_, value)| !value.is_null()).collect()
    }

    /// As query parameters.
    pub(super) fn parameters(&self) -> impl Iterator<Item = (String, String)> {
        let text = |value: Value| match value {
            Value::String(text) => text,
            Value::Array(_) => self.fields.join(","),
            other => other.to_string(),
        };
        self.values().into_iter().map(move |(name, value)| (format!("unique.{name}"), text(value)))
    }

    /// As the member of a body, if the job is unique.
    pub(super) fn member(&self) -> Option<Value> {
        let members: Map<_, _> =
            self.values().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        (!members.is_empty()).then_some(Value::Object(members))
    }

    /// Whether a job that is answered in place of a new one has the payload of that.
    pub(super) fn replaces(&self) -> bool {
        self.on_conflict.as_deref().is_some_and(|it| ["replace", "keep_latest"].contains(&it))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Submit {
        #[command(flatten)]
        unique: Unique,
    }

    fn parse(words: &str) -> Result<Unique, clap::Error> {
        let words = ["submit"].into_iter().chain(words.split_whitespace());
        Submit::try_parse_from(words).map(|submit| submit.unique)
    }

    #[test]
    fn a_body_and_a_query_say_the_same() {
        for (words, member, query) in [
            ("", Value::Null, ""),
            ("--unique", json!({ "on_conflict": "existing" }), "on_conflict=existing"),
            (
                "--unique-key a --unique-until start",
                json!({ "key": "a", "until": "start", "on_conflict": "existing" }),
                "key=a until=start on_conflict=existing",
            ),
            (
                "--unique-fields /a,/b --unique-for 2s --on-conflict reject",
                json!({ "fields": ["/a", "/b"], "for_ms": 2000, "on_conflict": "reject" }),
                "fields=/a,/b for_ms=2000 on_conflict=reject",
            ),
            (
                "--unique --on-conflict replace --max-wait 1m",
                json!({ "on_conflict": "replace", "max_wait_ms": 60_000 }),
                "on_conflict=replace max_wait_ms=60000",
            ),
        ] {
            let unique = parse(words).unwrap();
            assert_eq!(unique.member().unwrap_or_default(), member, "{words}");
            let parameters = unique.parameters();
            let parameters = parameters
                .map(|(name, value)| format!("{}={value}", name.strip_prefix("unique.").unwrap()));
            assert_eq!(parameters.collect::<Vec<_>>().join(" "), query, "{words}");
        }
    }

    #[test]
    fn no_option_alone_makes_a_job_unique() {
        for words in
            ["--unique-until end", "--unique-for 1s", "--on-conflict reject", "--max-wait 1s"]
        {
            assert!(parse(words).is_err(), "{words}");
            assert!(parse(&format!("{words} --unique")).is_ok(), "{words}");
        }
    }

    #[test]
    fn contradictions_are_rejected() {
        for words in [
            "--unique --unique-key a",
            "--unique-key a --unique-fields /a",
            "--unique --unique-until end --unique-for 1s",
            "--unique --on-conflict ignore",
        ] {
            assert!(parse(words).is_err(), "{words}");
        }
    }
}
