//! A schedule.

use crunch_common::broker::{Pause, ScheduleRecord, ScheduledBy};
use crunch_common::schedule::{Rule, ZONES_VERSION};
use crunch_common::time::{Timestamp, whole_ms};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::words::{MissedWord, OverlapWord, ScheduleOriginWord, ScheduleStatusWord};
use crate::json;

/// How many of its next runs are shown of one schedule.
pub(crate) const NEXT_RUNS: usize = 10;

/// A schedule, and what became of its ticks.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Schedule)]
pub(crate) struct ScheduleDocument {
    pub(crate) name: String,
    /// What it is: the body of a `PUT`, with its defaults.
    spec: ScheduleSpecDocument,
    #[schema(value_type = ScheduleStatusWord)]
    pub(crate) status: &'static str,
    /// Null unless it is paused.
    paused: Option<PauseDocument>,
    /// Where it comes from.
    #[schema(value_type = ScheduleOriginWord)]
    origin: &'static str,
    /// The name of the API key that made it; null where no key is required, and of a file.
    key: Option<String>,
    /// The queue of its jobs.
    queue: String,
    /// The group of its jobs.
    group: Option<String>,
    /// When its next jobs are submitted: ten of them, in a list one. Empty if it is paused or has ended.
    #[schema(value_type = Vec<String>)]
    pub(crate) next_runs: Vec<Timestamp>,
    /// What became of its newest ten ticks, the newest first.
    runs: Vec<ScheduleRunDocument>,
    /// The tick whose job is submitted when the last one has ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    buffered: Option<Timestamp>,
    /// Ticks of the past that are made up for.
    backfill: Option<BackfillDocument>,
    /// Since when a tick that is due has waited because there was no room for its job; null if none does.
    held: Option<HeldDocument>,
    /// How many jobs were submitted.
    submitted: u64,
    /// How many ticks were skipped, because the job of an earlier one had not ended.
    skipped: u64,
    /// How many ticks were missed, and not made up for.
    missed: u64,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    changed_at: Timestamp,
}

/// What a schedule is: the body of a `PUT`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ScheduleSpec)]
struct ScheduleSpecDocument {
    task: String,
    /// Null in a list, and if not every JSON parser could read it.
    #[schema(value_type = Option<serde_json::Value>)]
    payload: Option<Box<RawValue>>,
    /// The options of its jobs.
    #[schema(value_type = Option<serde_json::Value>)]
    job: Option<Box<RawValue>>,
    cron: Option<String>,
    every_ms: Option<u64>,
    /// Null with an interval.
    time_zone: Option<String>,
    jitter_ms: u64,
    #[schema(value_type = Option<String>, format = DateTime)]
    start_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    end_at: Option<Timestamp>,
    #[schema(value_type = MissedWord)]
    missed: &'static str,
    missed_at_most: u32,
    missed_within_ms: u64,
    #[schema(value_type = OverlapWord)]
    overlap: &'static str,
}

/// Why a schedule is paused.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SchedulePause)]
struct PauseDocument {
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// `requested`: an operator did it. `misfit`: its payload does not fit its task any more. `task`: no worker declares its
    /// task. `key`: the key that made it is not valid any more. `moved`: its jobs belong to another partition. `uncomputable`: its
    /// next tick cannot be computed. `unreadable`: it was stored by a later version. A later version may add codes.
    code: String,
    /// Human-readable.
    reason: String,
}

/// What became of a tick.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ScheduleRun)]
struct ScheduleRunDocument {
    #[schema(value_type = String, format = DateTime)]
    tick: Timestamp,
    /// When that was decided.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// `submitted`, `skipped` or `buffered`.
    outcome: String,
    /// Null if there is none.
    #[schema(format = "uuid")]
    job: Option<String>,
}

/// Ticks of the past that are made up for, one job at a time.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Backfill)]
struct BackfillDocument {
    #[schema(value_type = String, format = DateTime)]
    next: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    last: Timestamp,
    left: u64,
}

/// Why a tick that is due waits.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HeldTick)]
struct HeldDocument {
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// `full`, `queue-full`, `group-full` or `too-many-queues`.
    reason: &'static str,
}

/// The schedule and the tick that a job was submitted for.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ScheduledBy)]
pub(crate) struct ScheduledByDocument {
    name: String,
    #[schema(value_type = String, format = DateTime)]
    tick: Timestamp,
}

/// Some schedules.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SchedulePage {
    pub(crate) items: Vec<ScheduleDocument>,
    /// Pass it as `cursor` for the next page; null at the end.
    pub(crate) next_cursor: Option<String>,
    /// The version of the IANA database of time zones, such as `2026f`.
    pub(crate) time_zones: &'static str,
}

impl SchedulePage {
    pub(crate) fn new(items: Vec<ScheduleDocument>, next_cursor: Option<String>) -> Self {
        Self { items, next_cursor, time_zones: ZONES_VERSION }
    }
}

impl ScheduleDocument {
    pub(crate) fn new(record: ScheduleRecord) -> Self {
        let (next_runs, payload) = (next_runs(&record, NEXT_RUNS), record.payload.to_vec());
        let mut document = Self { next_runs, ..Self::listed(record) };
        document.spec.payload = json::readable(payload).ok();
        document
    }

    /// Creates an item of a list: without the payload, and with one next run.
    pub(crate) fn listed(record: ScheduleRecord) -> Self {
        let status = status_of(&record);
        let run = |run: crunch_common::broker::ScheduleRun| ScheduleRunDocument {
            tick: run.tick,
            at: run.at,
            outcome: run.outcome,
            job: run.job.map(|id| id.to_string()),
        };
        Self {
            next_runs: next_runs(&record, 1),
            spec: ScheduleSpecDocument::of(&record),
            name: record.name.to_string(),
            status,
            paused: record.paused.map(PauseDocument::from),
            origin: record.origin.as_str(),
            key: record.spec.owner.map(|owner| owner.name),
            queue: record.spec.queue.to_string(),
            group: record.spec.group.map(|group| group.to_string()),
            runs: record.runs.into_iter().map(run).collect(),
            buffered: record.buffered,
            backfill: record.backfill.map(|it| BackfillDocument {
                next: it.next,
                last: it.last,
                left: it.left,
            }),
            held: record.held.map(|(since, code)| HeldDocument { since, reason: reason(code) }),
            submitted: record.submitted,
            skipped: record.skipped,
            missed: record.missed,
            created_at: record.created_at,
            changed_at: record.changed_at,
        }
    }
}

/// Returns whether a schedule is active, paused or has ended.
pub(crate) fn status_of(record: &ScheduleRecord) -> &'static str {
    let pending = record.next.is_some() || record.buffered.is_some() || record.backfill.is_some();
    match record.paused {
        Some(_) => "paused",
        None if pending => "active",
        None => "ended",
    }
}

/// Returns when the next jobs of a schedule are submitted.
pub(crate) fn next_runs(record: &ScheduleRecord, most: usize) -> Vec<Timestamp> {
    if record.paused.is_some() {
        return Vec::new();
    }
    let after = |tick: &Timestamp| record.timing.next_after(*tick).ok().flatten();
    let ticks = std::iter::successors(record.next, after).take(most);
    ticks.map(|tick| record.timing.due(&record.name, tick)).collect()
}

/// Names a code of `enqueue`, as problems do.
pub(crate) const fn reason(code: i64) -> &'static str {
    match code {
        3 => "queue-full",
        4 => "too-many-queues",
        5 => "group-full",
        _ => "full",
    }
}

impl ScheduleSpecDocument {
    fn of(record: &ScheduleRecord) -> Self {
        let (cron, every_ms) = match &record.timing.rule {
            Rule::Cron(line) => (Some(line.to_string()), None),
            Rule::Every(interval) => (None, Some(whole_ms(*interval))),
        };
        let time_zone = cron.as_ref().map(|_| record.timing.time_zone.to_string());
        Self {
            task: record.spec.task.to_string(),
            payload: None,
            job: json::readable(record.spec.job.clone().into_bytes()).ok(),
            cron,
            every_ms,
            time_zone,
            jitter_ms: whole_ms(record.timing.jitter),
            start_at: record.timing.start_at,
            end_at: record.timing.end_at,
            missed: record.spec.missed.policy.as_str(),
            missed_at_most: record.spec.missed.at_most,
            missed_within_ms: whole_ms(record.spec.missed.within),
            overlap: record.spec.overlap.as_str(),
        }
    }
}

impl From<Pause> for PauseDocument {
    fn from(Pause { at, code, reason }: Pause) -> Self {
        Self { at, code, reason }
    }
}

impl From<ScheduledBy> for ScheduledByDocument {
    fn from(by: ScheduledBy) -> Self {
        Self { name: by.name.to_string(), tick: by.tick }
    }
}
