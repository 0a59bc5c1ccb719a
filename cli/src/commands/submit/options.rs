//! The options of a submission, as query parameters and as members of a body.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::ms;
use super::unique::Unique;
use crate::client::Request;
use crate::completion;
use crate::format::{parse_duration, parse_label, parse_time};

/// What a submission may say beside its payload.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Options of the job")]
pub(super) struct Options {
    /// Where it waits. Default: the task's queue
    #[arg(long, value_name = "QUEUE", add = clap_complete::ArgValueCandidates::new(completion::queues))]
    queue: Option<String>,
    /// Its order within the queue
    #[arg(long, value_name = "WHICH", value_parser = ["low", "normal", "high", "urgent"])]
    priority: Option<String>,
    /// The group in whose turns it is claimed, such as a customer. Default: the task's, or none
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Run no earlier than this time (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = parse_time, conflicts_with = "delay")]
    at: Option<Timestamp>,
    /// Run no earlier than after this time
    #[arg(long = "in", id = "delay", value_name = "DURATION", value_parser = parse_duration)]
    delay: Option<Duration>,
    /// How long one attempt may take
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// How long after its submission the job is useful
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    deadline: Option<Duration>,
    /// Within which time the job must start, from its submission or the end of its delay; else it is canceled
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    start_within: Option<Duration>,
    /// How many attempts there are, the first included
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// How long the job is kept once it has ended
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    retention: Option<Duration>,
    /// What the job must be safe from before it is accepted: memory, fsync, replica or fsync,replica
    #[arg(long, value_name = "WHAT")]
    durability: Option<String>,
    /// A label; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_label)]
    metadata: Vec<(String, String)>,
    /// The URL that is notified when the job ends
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,
    #[command(flatten)]
    pub(super) unique: Unique,
}

impl Options {
    /// The options that are one value, by their names in the API.
    fn values(&self) -> Vec<(&'static str, Value)> {
        let all = [
            ("queue", json!(self.queue)),
            ("priority", json!(self.priority)),
            ("group", json!(self.group)),
            ("run_at", json!(self.at.map(|at| at.to_string()))),
            ("delay_ms", ms(self.delay)),
            ("timeout_ms", ms(self.timeout)),
            ("deadline_ms", ms(self.deadline)),
            ("start_within_ms", ms(self.start_within)),
            ("max_attempts", json!(self.max_attempts)),
            ("retention_ms", ms(self.retention)),
            ("durability", json!(self.durability)),
        ];
        all.into_iter().filter(|(_, value)| !value.is_null()).collect()
    }

    /// As query parameters.
    pub(super) fn apply(&self, mut request: Request) -> Request {
        for (name, value) in self.values() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            request = request.query(name, &text);
        }
        for (key, value) in &self.metadata {
            request = request.query(&format!("metadata.{key}"), value);
        }
        for (name, value) in self.unique.parameters() {
            request = request.query(&name, &value);
        }
        request.query_if("webhook.url", self.webhook.as_ref())
    }

    /// As members of a body, without braces.
    pub(super) fn members(&self, task: &str) -> String {
        let mut members = Map::new();
        members.insert("task".to_owned(), json!(task));
        members.extend(self.values().into_iter().map(|(name, value)| (name.to_owned(), value)));
        if !self.metadata.is_empty() {
            let labels = self.metadata.iter().map(|(key, value)| (key.clone(), json!(value)));
            members.insert("metadata".to_owned(), Value::Object(labels.collect()));
        }
        if let Some(url) = &self.webhook {
            members.insert("webhook".to_owned(), json!({ "url": url }));
        }
        if let Some(unique) = self.unique.member() {
            members.insert("unique".to_owned(), unique);
        }
        let text = Value::Object(members).to_string();
        text[1..text.len() - 1].to_owned()
    }

    /// Whether any is given.
    pub(super) fn is_empty(&self) -> bool {
        self.values().is_empty()
            && self.metadata.is_empty()
            && self.webhook.is_none()
            && self.unique.member().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_members_of_a_body_have_the_names_of_the_api() {
        let options = Options {
            queue: Some("q".to_owned()),
            group: Some("g/1".to_owned()),
            delay: Some(Duration::from_secs(5)),
            metadata: vec![("a".to_owned(), "\"b".to_owned())],
            webhook: Some("https://a".to_owned()),
            ..Options::default()
        };
        let body: Value = serde_json::from_str(&format!("{{{}}}", options.members("t"))).unwrap();
        let expected = json!({ "task": "t", "queue": "q", "group": "g/1", "delay_ms": 5000,
            "metadata": { "a": "\"b" }, "webhook": { "url": "https://a" } });
        assert_eq!(body, expected);
    }
}
