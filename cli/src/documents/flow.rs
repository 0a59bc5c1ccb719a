//! Who runs when: groups of a queue, limits and schedules.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A group of a queue, and the rule that applies to it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Group {
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    pub(crate) state: String,
    pub(crate) next_start_at: Option<Timestamp>,
    pub(crate) own_rule: bool,
    pub(crate) queued: u64,
    pub(crate) running: u64,
    pub(crate) next_age_ms: Option<u64>,
    #[serde(flatten)]
    pub(crate) rule: Rule,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Rule {
    pub(crate) weight: f64,
    pub(crate) concurrency: Option<u64>,
    pub(crate) rate: Option<Rate>,
    pub(crate) max_queued: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Rate {
    pub(crate) starts: u64,
    pub(crate) per_ms: u64,
    pub(crate) burst: u64,
}

/// The limit of a queue, and what it does now.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Limit {
    pub(crate) concurrency: Option<u64>,
    pub(crate) rate: Option<Rate>,
    #[serde(default)]
    pub(crate) limits: Vec<String>,
    pub(crate) running: u64,
    pub(crate) state: String,
    pub(crate) next_start_at: Option<Timestamp>,
    #[serde(default)]
    pub(crate) held_by: Option<String>,
}

/// A limit that queues may share.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct SharedLimit {
    pub(crate) name: String,
    pub(crate) concurrency: Option<u64>,
    pub(crate) rate: Option<Rate>,
    pub(crate) queues: Vec<String>,
    pub(crate) running: u64,
    pub(crate) state: String,
    pub(crate) next_start_at: Option<Timestamp>,
}

/// A page of groups.
#[derive(Debug, Deserialize)]
pub(crate) struct GroupPage {
    pub(crate) items: Vec<Group>,
    /// The rule for each group without one, as the API wrote it.
    pub(crate) each: Option<Box<RawValue>>,
}

/// A schedule.
#[derive(Debug, Deserialize)]
pub(crate) struct Schedule {
    pub(crate) name: String,
    pub(crate) spec: ScheduleSpec,
    pub(crate) status: String,
    pub(crate) paused: Option<SchedulePause>,
    pub(crate) next_runs: Vec<Timestamp>,
    pub(crate) runs: Vec<ScheduleRun>,
    pub(crate) submitted: u64,
    pub(crate) skipped: u64,
    pub(crate) missed: u64,
}

/// What a schedule is.
#[derive(Debug, Deserialize)]
pub(crate) struct ScheduleSpec {
    pub(crate) task: String,
    pub(crate) cron: Option<String>,
    pub(crate) every_ms: Option<u64>,
    pub(crate) time_zone: Option<String>,
}

/// Why a schedule is paused.
#[derive(Debug, Deserialize)]
pub(crate) struct SchedulePause {
    pub(crate) code: String,
    pub(crate) reason: String,
}

/// What became of a tick.
#[derive(Debug, Deserialize)]
pub(crate) struct ScheduleRun {
    pub(crate) tick: Timestamp,
}
