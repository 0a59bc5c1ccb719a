//! A schedule as Redis stores it.

use std::fmt;

use bytes::Bytes;
use redis::Value;
use serde::{Deserialize, Serialize};

use crate::broker::error::Error;
use crate::broker::reply;
use crate::job::{GroupName, JobId};
use crate::queue::QueueName;
use crate::schedule::{Missed, Overlap, ScheduleName, Timing};
use crate::task::TaskName;
use crate::time::Timestamp;

crate::word_enum! {
    /// Where a schedule comes from.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum ScheduleOrigin {
        /// A request.
        Api = "api",
        /// The `tasks.toml` of a worker.
        File = "file",
    }
}

/// The API key that a schedule belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// What is submitted at each tick, and what becomes of ticks that meet others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleSpec {
    /// The task.
    pub task: TaskName,
    /// The queue of its jobs.
    pub queue: QueueName,
    /// The group of its jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
    /// The options of its jobs: a JSON object as a submission has it, without task and payload.
    pub job: String,
    /// What becomes of missed ticks.
    pub missed: Missed,
    /// What becomes of a tick while the job of an earlier one lives.
    pub overlap: Overlap,
    /// The API key that made it; `None` where no keys are needed, and of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
}

/// Why a schedule is paused, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Since when.
    pub at: Timestamp,
    /// A word: `requested` if an operator paused it.
    pub code: String,
    /// The reason.
    pub reason: String,
}

impl Pause {
    /// The code of a pause that an operator requested.
    pub const REQUESTED: &'static str = "requested";

    fn read(text: &str) -> Option<Self> {
        let mut words = text.splitn(3, ' ');
        let at = Timestamp::from_unix_ms(words.next()?.parse().ok()?);
        let code = words.next()?.to_owned();
        Some(Self { at, code, reason: words.next().unwrap_or_default().to_owned() })
    }

    pub(super) fn text(&self) -> String {
        format!("{} {} {}", self.at.unix_ms(), self.code, self.reason)
    }
}

/// Ticks of the past that are made up for, one job at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backfill {
    /// The next one.
    pub next: Timestamp,
    /// The last one.
    pub last: Timestamp,
    /// How many are left.
    pub left: u64,
}

impl Backfill {
    /// Parses the field.
    pub(super) fn read(text: &str) -> Option<Self> {
        let words: Vec<u64> = text.split(' ').map_while(|word| word.parse().ok()).collect();
        let [next, last, left] = words[..] else { return None };
        let time = Timestamp::from_unix_ms;
        Some(Self { next: time(next), last: time(last), left })
    }
}

impl fmt::Display for Backfill {
    /// Writes the field.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.next.unix_ms(), self.last.unix_ms(), self.left)
    }
}

/// What became of a tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleRun {
    /// The tick.
    pub tick: Timestamp,
    /// When that was decided.
    pub at: Timestamp,
    /// Its job; `None` if there is none.
    pub job: Option<JobId>,
    /// `submitted`, `skipped` or `buffered`.
    pub outcome: String,
}

impl ScheduleRun {
    fn read(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let mut time = || words.next()?.parse().ok().map(Timestamp::from_unix_ms);
        let (tick, at) = (time()?, time()?);
        Some(Self { tick, at, outcome: words.next()?.to_owned(), job: words.next()?.parse().ok() })
    }
}

/// A schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleRecord {
    /// Its name.
    pub name: ScheduleName,
    /// Grows with each change of what it is.
    pub version: u64,
    /// Where it comes from.
    pub origin: ScheduleOrigin,
    /// When its ticks are.
    pub timing: Timing,
    /// What is submitted at each.
    pub spec: ScheduleSpec,
    /// The payload of its jobs.
    pub payload: Bytes,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub changed_at: Timestamp,
    /// Its next tick.
    pub next: Option<Timestamp>,
    /// Why it is paused.
    pub paused: Option<Pause>,
    /// Since when its tick could not be submitted, and the code of `enqueue` that says why.
    pub held: Option<(Timestamp, i64)>,
    /// The last job of a tick.
    pub last_job: Option<JobId>,
    /// The tick that waits for the end of that job.
    pub buffered: Option<Timestamp>,
    /// Ticks of the past that are made up for.
    pub backfill: Option<Backfill>,
    /// How many ticks were submitted.
    pub submitted: u64,
    /// How many were skipped.
    pub skipped: u64,
    /// How many were missed, and not made up for.
    pub missed: u64,
    /// What became of the newest ten, the newest first.
    pub runs: Vec<ScheduleRun>,
}

/// The fields of its hash, in the order in which [`read`] expects them.
pub(super) const FIELDS: [&str; 17] = [
    "version",
    "origin",
    "timing",
    "spec",
    "payload",
    "created_at",
    "changed_at",
    "tick",
    "paused",
    "held",
    "last_job",
    "buffered",
    "backfill",
    "submitted",
    "skipped",
    "missed",
    "runs",
];

/// Writes what is stored as JSON.
pub(super) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("names, numbers and texts are JSON")
}

fn from_json<T: for<'de> Deserialize<'de>>(value: Value) -> Result<T, Error> {
    let bytes = reply::bytes(value)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::unreadable(format!("a schedule cannot be read: {error}")))
}

/// Parses the reply of `HMGET schedule …FIELDS`; `None` if there is none.
pub(super) fn read(name: &ScheduleName, reply: Value) -> Result<Option<ScheduleRecord>, Error> {
    let [
        version,
        origin,
        timing,
        spec,
        payload,
        created_at,
        changed_at,
        tick,
        paused,
        held,
        last_job,
        buffered,
        backfill,
        submitted,
        skipped,
        missed,
        runs,
    ] = reply::fields(reply)?;
    if version == Value::Nil {
        return Ok(None);
    }
    let text =
        |value: Value| if value == Value::Nil { Ok(String::new()) } else { reply::text(value) };
    let number = |value: &Value| if *value == Value::Nil { Ok(0) } else { reply::unsigned(value) };
    let time = |value: &Value| -> Result<Option<Timestamp>, Error> {
        let ms = if *value == Value::Nil { None } else { Some(reply::unsigned(value)?) };
        Ok(ms.map(Timestamp::from_unix_ms))
    };
    let held = text(held)?;
    let held = held.split_once(' ').and_then(|(since, code)| {
        Some((Timestamp::from_unix_ms(since.parse().ok()?), code.parse().ok()?))
    });
    Ok(Some(ScheduleRecord {
        name: name.clone(),
        version: reply::unsigned(&version)?,
        origin: reply::parsed(origin)?,
        timing: from_json(timing)?,
        spec: from_json(spec)?,
        payload: reply::bytes(payload)?,
        created_at: time(&created_at)?.unwrap_or(Timestamp::from_unix_ms(0)),
        changed_at: time(&changed_at)?.unwrap_or(Timestamp::from_unix_ms(0)),
        next: time(&tick)?,
        paused: Pause::read(&text(paused)?),
        held,
        last_job: text(last_job)?.parse().ok(),
        buffered: time(&buffered)?,
        backfill: Backfill::read(&text(backfill)?),
        submitted: number(&submitted)?,
        skipped: number(&skipped)?,
        missed: number(&missed)?,
        runs: text(runs)?.lines().filter_map(ScheduleRun::read).collect(),
    }))
}
