//! The members of the API's documents that are shown. Unknown members are ignored, so that an older program can read the
//! answers of a newer API; a program with `--json` gets all of them.

mod flow;
mod unique;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::clock;
use crate::error::{Error, Problem};
pub(crate) use flow::{Group, GroupPage, Limit, Rate, Rule, Schedule, SharedLimit};
pub(crate) use unique::Unique;

/// Reads an item of a list.
pub(crate) fn read<T: DeserializeOwned>(document: &RawValue) -> Result<T, Error> {
    Ok(serde_json::from_str(document.get())?)
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) task: String,
    pub(crate) queue: String,
    pub(crate) priority: String,
    #[serde(default)]
    pub(crate) group: Option<String>,
    #[serde(default)]
    pub(crate) unique: Option<Unique>,
    pub(crate) status: String,
    pub(crate) progress: Option<f64>,
    pub(crate) progress_message: Option<String>,
    pub(crate) worker: Option<String>,
    pub(crate) attempt: u32,
    pub(crate) max_attempts: u32,
    /// An API of an earlier version does not have it.
    #[serde(default)]
    pub(crate) snoozes: u32,
    pub(crate) created_at: Timestamp,
    pub(crate) run_at: Option<Timestamp>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) payload_size: u64,
    pub(crate) result_size: Option<u64>,
    pub(crate) error: Option<JobError>,
    pub(crate) error_group: Option<String>,
    pub(crate) waiting_for: Option<WaitingFor>,
    #[serde(default)]
    pub(crate) metadata: BTreeMap<String, String>,
}

impl Job {
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.status.as_str(), "succeeded" | "failed" | "canceled")
    }

    /// Why it failed or waits; else how far it is.
    pub(crate) fn note(&self) -> String {
        match (&self.error, &self.waiting_for, &self.progress_message) {
            (Some(error), _, _) => format!("{}: {}", error.code, error.message),
            (None, Some(waiting), _) if waiting.reason == "snooze" => match self.snoozes {
                1 => "was put off by its handler".to_owned(),
                times => format!("was put off by its handler, {times} times so far"),
            },
            (None, Some(WaitingFor { reason, detail: Some(holder) }), _) if reason == "lock" => {
                format!("waits for the end of job {holder}, which holds its lock")
            }
            (None, Some(waiting), _) => match &waiting.detail {
                Some(detail) => format!("waits for {}: {detail}", waiting.reason),
                None => format!("waits for {}", waiting.reason),
            },
            (None, None, Some(message)) if self.status == "running" => message.clone(),
            _ => String::new(),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct JobError {
    pub(crate) code: String,
    pub(crate) message: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct WaitingFor {
    pub(crate) reason: String,
    pub(crate) detail: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) number: u32,
    pub(crate) worker: Option<String>,
    /// An API of an earlier version does not have it.
    #[serde(default)]
    pub(crate) host: Option<String>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) outcome: String,
    pub(crate) error: Option<JobError>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct LogLine {
    pub(crate) number: u64,
    pub(crate) attempt: u32,
    pub(crate) at: Timestamp,
    pub(crate) line: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Queue {
    pub(crate) name: String,
    pub(crate) paused: bool,
    pub(crate) counts: Counts,
    pub(crate) oldest_age_ms: Option<u64>,
    pub(crate) finished_last_minute: u64,
    pub(crate) workers: u64,
    /// An API of an earlier version does not have it.
    #[serde(default)]
    pub(crate) parked: Vec<Parked>,
}

/// Queued jobs that only a worker with their task can claim.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Parked {
    pub(crate) task: String,
    pub(crate) jobs: u64,
    pub(crate) oldest_age_ms: Option<u64>,
    pub(crate) workers: u64,
}

impl Queue {
    /// How long its queued jobs take at the rate of the last minute, if no more arrive; `None` if none ended.
    pub(crate) fn empty_in(&self) -> Option<Duration> {
        let ms =
            self.counts.queued.saturating_mul(60_000).checked_div(self.finished_last_minute)?;
        Some(Duration::from_millis(ms))
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Counts {
    pub(crate) queued: u64,
    pub(crate) scheduled: u64,
    pub(crate) retrying: u64,
    pub(crate) running: u64,
    pub(crate) failed: u64,
}

impl Counts {
    pub(crate) fn total(&self) -> u64 {
        self.queued + self.scheduled + self.retrying + self.running + self.failed
    }
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Worker {
    /// An API of an earlier version has neither.
    #[serde(default)]
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) wanted: Option<String>,
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) host: String,
    pub(crate) pid: u32,
    pub(crate) version: String,
    pub(crate) tasks: Vec<String>,
    pub(crate) queues: Vec<String>,
    pub(crate) slots: u64,
    pub(crate) busy: u64,
    pub(crate) started_at: Timestamp,
    pub(crate) seen_at: Timestamp,
    #[serde(default)]
    pub(crate) running: Vec<RunningJob>,
    #[serde(default)]
    pub(crate) suspended: Vec<Suspended>,
    #[serde(default)]
    pub(crate) servers: Vec<Server>,
}

/// A job that a worker runs.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RunningJob {
    pub(crate) id: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Suspended {
    pub(crate) task: String,
    pub(crate) reason: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) processes: u64,
    pub(crate) ready: u64,
    pub(crate) problem: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Task {
    pub(crate) name: String,
    pub(crate) queue: String,
    pub(crate) description: String,
    pub(crate) accepts: Vec<String>,
    pub(crate) content_type: String,
    pub(crate) timeout_ms: u64,
    pub(crate) max_attempts: u32,
    pub(crate) priority: String,
    pub(crate) max_payload: u64,
    pub(crate) payload_schema: Option<Value>,
    pub(crate) result_schema: Option<Value>,
    /// An API of an earlier version does not have it.
    #[serde(default)]
    pub(crate) unique: Option<Unique>,
    pub(crate) workers: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ErrorGroup {
    pub(crate) id: String,
    pub(crate) queue: Option<String>,
    pub(crate) task: Option<String>,
    pub(crate) error: JobError,
    pub(crate) first_at: Timestamp,
    pub(crate) last_at: Timestamp,
    pub(crate) failures: u64,
    pub(crate) failed_jobs: u64,
}

/// A part of the history: each list has a number for each step.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct History {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
    pub(crate) attempts: Vec<AttemptSeries>,
    pub(crate) queues: Vec<QueueSeries>,
}

impl History {
    /// How long it is, so far.
    pub(crate) fn minutes(&self) -> f64 {
        (self.to.min(clock::now()).duration_since(self.from).as_secs_f64() / 60.0).max(1.0)
    }
}

/// How the attempts of a task in a queue ended; without names those of all others.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct AttemptSeries {
    pub(crate) queue: Option<String>,
    pub(crate) task: Option<String>,
    pub(crate) succeeded: Vec<u64>,
    pub(crate) failed: Vec<u64>,
    pub(crate) retried: Vec<u64>,
    pub(crate) canceled: Vec<u64>,
    pub(crate) p50_ms: Option<u64>,
    pub(crate) p90_ms: Option<u64>,
    pub(crate) p99_ms: Option<u64>,
}

impl AttemptSeries {
    pub(crate) fn name(&self) -> (Option<String>, Option<String>) {
        (self.task.clone(), self.queue.clone())
    }

    /// How many attempts ended in each step, in whatever way.
    pub(crate) fn ended(&self) -> impl Iterator<Item = u64> {
        let all = [&self.succeeded, &self.failed, &self.retried, &self.canceled];
        (0..self.succeeded.len())
            .map(move |step| all.iter().filter_map(|counts| counts.get(step)).sum())
    }

    pub(crate) fn total(&self) -> u64 {
        self.ended().sum()
    }
}

/// How deep a queue was; null where nothing looked.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct QueueSeries {
    pub(crate) queue: Option<String>,
    pub(crate) queued: Vec<Option<u64>>,
    pub(crate) delayed: Vec<Option<u64>>,
    pub(crate) running: Vec<Option<u64>>,
    pub(crate) failed: Vec<Option<u64>>,
    pub(crate) oldest_age_ms: Vec<Option<u64>>,
}

/// A node of Redis.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Node {
    pub(crate) address: Option<String>,
    pub(crate) problem: Option<String>,
    pub(crate) server: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) role: Option<String>,
    pub(crate) replicas: Option<u64>,
    pub(crate) clients: Option<u64>,
    pub(crate) max_clients: Option<u64>,
    pub(crate) used_memory: Option<u64>,
    pub(crate) max_memory: Option<u64>,
    pub(crate) memory_policy: Option<String>,
    pub(crate) append_only: Option<bool>,
    pub(crate) disk_ok: Option<bool>,
    pub(crate) round_trip_ms: Option<f64>,
}

/// What a bulk action did.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Acted {
    pub(crate) matched: u64,
    pub(crate) changed: u64,
    pub(crate) next_cursor: Option<String>,
    pub(crate) search: Option<Search>,
    /// An API of an earlier version does not have it.
    #[serde(default)]
    pub(crate) failures: Vec<FailureCount>,
}

/// How many of the jobs failed with an error of that kind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FailureCount {
    pub(crate) error: ErrorKind,
    pub(crate) jobs: u64,
}

/// What the first jobs of a list have in common.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Summary {
    pub(crate) jobs: u64,
    pub(crate) more: bool,
    pub(crate) failures: Vec<FailureCount>,
    pub(crate) values: Vec<LabelValue>,
    pub(crate) slowest: Vec<Job>,
    pub(crate) lost: Vec<Job>,
}

/// The jobs with a value of a label; `None` for those without.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct LabelValue {
    pub(crate) value: Option<String>,
    pub(crate) jobs: u64,
    pub(crate) failures: Vec<FailureCount>,
}

/// A kind of error, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ErrorKind {
    pub(crate) id: String,
    pub(crate) task: Option<String>,
    pub(crate) code: String,
    pub(crate) message: String,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let task = self.task.as_deref().unwrap_or("several tasks");
        write!(f, "{task}: {}: {}", self.code, self.message)
    }
}

/// How jobs with labels were searched.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Search {
    by: String,
    looked_at: u64,
    of: Option<u64>,
}

impl Search {
    pub(crate) fn is_by_index(&self) -> bool {
        self.by == "index"
    }
}

impl Acted {
    /// Adds a later step of the same action.
    pub(crate) fn add(&mut self, step: Self) {
        self.matched += step.matched;
        self.changed += step.changed;
        let before = self.search.take().map_or(0, |search| search.looked_at);
        self.search =
            step.search.map(|search| Search { looked_at: before + search.looked_at, ..search });
        for failure in step.failures {
            match self.failures.iter_mut().find(|it| it.error.id == failure.error.id) {
                Some(sum) => sum.jobs += failure.jobs,
                None => self.failures.push(failure),
            }
        }
        self.failures.sort_by_key(|failure| std::cmp::Reverse(failure.jobs));
    }
}

/// The outcome of submitted lines.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Lines {
    pub(crate) accepted: u64,
    /// For how many another job stands. An API of an earlier version does not have it.
    #[serde(default)]
    pub(crate) existing: u64,
    pub(crate) refused: u64,
    pub(crate) errors: Vec<LineError>,
}

/// A line that was rejected.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "RawLineError")]
pub(crate) struct LineError {
    pub(crate) line: u64,
    pub(crate) problem: Problem,
    /// The problem as the API sent it.
    pub(crate) document: Value,
}

#[derive(Debug, Deserialize)]
struct RawLineError {
    line: u64,
    problem: Value,
}

impl TryFrom<RawLineError> for LineError {
    type Error = serde_json::Error;

    fn try_from(RawLineError { line, problem }: RawLineError) -> Result<Self, Self::Error> {
        Ok(Self { line, problem: Problem::deserialize(&problem)?, document: problem })
    }
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct OperatorAction {
    pub(crate) at: Timestamp,
    pub(crate) key: Option<String>,
    pub(crate) address: Option<String>,
    pub(crate) action: String,
    pub(crate) queue: Option<String>,
    #[serde(default)]
    pub(crate) group: Option<String>,
    #[serde(default)]
    pub(crate) schedule: Option<String>,
    #[serde(default)]
    pub(crate) limit: Option<String>,
    pub(crate) job: Option<String>,
    pub(crate) worker: Option<String>,
    pub(crate) filter: Option<String>,
    #[serde(default)]
    pub(crate) error: Option<ErrorKind>,
    pub(crate) count: Option<u64>,
}
