//! Which jobs a list shows and a bulk verb acts on.

use std::fmt;

use clap::Args;
use jiff::Timestamp;

use crate::client::Request;
use crate::completion;
use crate::format::{parse_label, parse_past};

/// The filters of `GET /jobs` and `POST /jobs/actions`.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Filters")]
pub(super) struct Filter {
    /// Only jobs with this status
    #[arg(long, value_name = "STATUS", value_parser = STATUSES)]
    pub(super) status: Option<String>,
    /// Only jobs of this task
    #[arg(long, value_name = "TASK", add = clap_complete::ArgValueCandidates::new(completion::tasks))]
    pub(super) task: Option<String>,
    /// Only jobs of this queue
    #[arg(long, value_name = "QUEUE", add = clap_complete::ArgValueCandidates::new(completion::queues))]
    pub(super) queue: Option<String>,
    /// Only failed jobs whose error is of this kind, an id of `crunch errors`
    #[arg(long, value_name = "ID")]
    pub(super) error: Option<String>,
    /// Only jobs created since: 1h (ago), or an RFC 3339 time
    #[arg(long, value_name = "TIME", value_parser = parse_past)]
    pub(super) since: Option<Timestamp>,
    /// Only jobs created before: 1h (ago), or an RFC 3339 time
    #[arg(long, value_name = "TIME", value_parser = parse_past)]
    pub(super) before: Option<Timestamp>,
    /// Only jobs that ended since: 1h (ago), or an RFC 3339 time
    #[arg(long, value_name = "TIME", value_parser = parse_past)]
    pub(super) ended_since: Option<Timestamp>,
    /// Only jobs that ended before: 1h (ago), or an RFC 3339 time
    #[arg(long, value_name = "TIME", value_parser = parse_past)]
    pub(super) ended_before: Option<Timestamp>,
    /// Only jobs with this label; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(super) metadata: Vec<(String, String)>,
    /// How jobs with labels are found: by the index of a label, or by looking at all jobs
    #[arg(long, value_name = "HOW", value_parser = ["index", "scan"], requires = "metadata")]
    pub(super) search: Option<String>,
}

const STATUSES: [&str; 7] =
    ["scheduled", "queued", "running", "retrying", "succeeded", "failed", "canceled"];

impl Filter {
    /// The failed jobs of a queue.
    pub(super) fn of_queue(queue: &str, status: &str) -> Self {
        let (queue, status) = (Some(queue.to_owned()), Some(status.to_owned()));
        Self { queue, status, ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        let texts = [&self.status, &self.task, &self.queue, &self.error];
        let times = [self.since, self.before, self.ended_since, self.ended_before];
        let has_times = times.iter().any(Option::is_some);
        texts.iter().all(|text| text.is_none()) && !has_times && self.metadata.is_empty()
    }

    /// The same without jobs that were created at this time or later.
    pub(super) fn created_before(&self, time: Timestamp) -> Self {
        let before = self.before.map_or(time, |before| before.min(time));
        Self { before: Some(before), ..self.clone() }
    }

    /// Adds the filters to a request.
    pub(super) fn apply(&self, request: Request) -> Request {
        let labels = self.metadata.iter();
        labels
            .fold(request, |request, (key, value)| request.query(&format!("metadata.{key}"), value))
            .query_if("search", self.search.as_ref())
            .query_if("status", self.status.as_ref())
            .query_if("task", self.task.as_ref())
            .query_if("queue", self.queue.as_ref())
            .query_if("error", self.error.as_ref())
            .query_if("created_after", self.since.as_ref())
            .query_if("created_before", self.before.as_ref())
            .query_if("finished_after", self.ended_since.as_ref())
            .query_if("finished_before", self.ended_before.as_ref())
    }
}

/// As it is given on the command line.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = [self.since, self.before, self.ended_since, self.ended_before];
        let [since, before, ended_since, ended_before] =
            times.map(|time| time.map(|it| it.to_string()));
        let all = [
            ("queue", &self.queue),
            ("task", &self.task),
            ("status", &self.status),
            ("error", &self.error),
            ("since", &since),
            ("before", &before),
            ("ended-since", &ended_since),
            ("ended-before", &ended_before),
            ("search", &self.search),
        ];
        let given = all
            .iter()
            .filter_map(|(name, value)| value.as_ref().map(|value| format!("--{name} {value}")));
        let labels = self.metadata.iter().map(|(key, value)| format!("--metadata {key}={value}"));
        f.write_str(&given.chain(labels).collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_shown_as_it_is_given() {
        let filter = Filter::of_queue("mail", "failed");
        assert_eq!(filter.to_string(), "--queue mail --status failed");
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let (early, late) = (time("2026-11-30T10:00:00Z"), time("2026-11-30T11:00:00Z"));
        let pinned = filter.created_before(late);
        assert_eq!(pinned.to_string(), format!("{filter} --before {late}"));
        assert_eq!(pinned.created_before(early).before, Some(early));
        assert_eq!(
            Filter { before: Some(early), ..filter }.created_before(late).before,
            Some(early)
        );
    }
}
