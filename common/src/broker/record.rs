//! A job as it is read from Redis, without its payload.

use bytes::Bytes;
use redis::Value;

use super::ErrorGroupId;
use super::error::Error;
use super::lease::Epoch;
use super::reply;
use super::scheduled_by::ScheduledBy;
use super::worker_id::WorkerId;
use crate::job::{ContentType, JobError, JobId, JobOptions, Priority, Status};
use crate::queue::QueueName;
use crate::task::TaskName;
use crate::time::Timestamp;

/// All data of a job except its payload and a large result.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRecord {
    /// Its id.
    pub id: JobId,
    /// Its task.
    pub task: TaskName,
    /// Its queue.
    pub queue: QueueName,
    /// Its priority within the queue.
    pub priority: Priority,
    /// Its status.
    pub status: Status,
    /// How it is run.
    pub options: JobOptions,
    /// Incremented with every change.
    pub version: u64,
    /// Charged attempts, the current one included.
    pub attempt: u32,
    /// How often its lease expired because the worker was silent or dead.
    pub losses: u32,
    /// How often its handler put it off since it was submitted or run again by hand.
    pub snoozes: u32,
    /// The current or last claim.
    pub epoch: Option<Epoch>,
    /// The worker of that claim.
    pub worker: Option<WorkerId>,
    /// Whether its cancellation was requested.
    pub cancel_requested: bool,
    /// Its progress, 0 to 1.
    pub progress: Option<f64>,
    /// What it does now.
    pub progress_message: Option<String>,
    /// When Redis accepted it.
    pub created_at: Timestamp,
    /// When it is or was due to start, if it had to wait for a time.
    pub run_at: Option<Timestamp>,
    /// When the current or last attempt started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When it will be deleted.
    pub expires_at: Option<Timestamp>,
    /// Why it failed or was canceled, or why its last attempt failed.
    pub error: Option<JobError>,
    /// The group of the error with which it failed.
    pub error_group: Option<ErrorGroupId>,
    /// The schedule and the tick that it was submitted for.
    pub schedule: Option<ScheduledBy>,
    /// What it waits for besides its turn, if a worker released it.
    pub waiting_for: Option<WaitingFor>,
    /// Its result.
    pub result: Option<ResultSummary>,
}

/// Why a runnable job does not run, through no fault of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingFor {
    /// `worker_with_task`, `newer_worker`, `machine`, `receiver`, `snooze`, `lock`; a later version may have others.
    pub reason: String,
    /// Further details, for operators.
    pub detail: Option<String>,
}

impl WaitingFor {
    /// For the end of the job that holds its lock.
    pub(super) fn lock_of(holder: JobId) -> Self {
        Self { reason: "lock".to_owned(), detail: Some(holder.to_string()) }
    }

    /// Parses `<how often> <reason> <detail>`, as `lua/settle.lua` writes it.
    fn read(text: &str) -> Option<Self> {
        let mut words = text.splitn(3, ' ').skip(1);
        let reason = words.next()?.to_owned();
        let detail = words.next().filter(|detail| !detail.is_empty()).map(str::to_owned);
        Some(Self { reason, detail })
    }

    /// Whether a job with that status waits for it: a parked job is in a ready list, any other is retried later.
    fn applies_in(&self, status: Status) -> bool {
        let parked = self.reason == "worker_with_task" && self.detail.is_some();
        status == Status::Scheduled || (parked && status == Status::Queued)
    }
}

/// What is known about a result without fetching it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultSummary {
    /// The result itself, if it is JSON of at most [`crate::job::INLINE_RESULT_MAX_BYTES`].
    pub inline: Option<Bytes>,
    /// Its size in bytes.
    pub size: u64,
    /// Its content type.
    pub content_type: ContentType,
}

/// Why a job does not exist anymore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tombstone {
    /// It was deleted by request.
    Deleted,
    /// It had ended, and was deleted early because Redis was nearly full.
    Trimmed,
}

/// The result of a lookup by id.
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup<T> {
    /// The job exists.
    Found(T),
    /// The job existed, not long ago.
    Gone(Tombstone),
    /// The job does not exist, and no tombstone of it is left.
    Unknown,
}

impl<T> Lookup<T> {
    /// Converts what was found.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn try_map<U, E>(self, f: impl FnOnce(T) -> Result<U, E>) -> Result<Lookup<U>, E> {
        match self {
            Self::Found(found) => f(found).map(Lookup::Found),
            Self::Gone(how) => Ok(Lookup::Gone(how)),
            Self::Unknown => Ok(Lookup::Unknown),
        }
    }
}

/// The fields of a job's hash for a [`JobRecord`], in the order [`read`] expects; `result` is the last, so that
/// [`WITHOUT_RESULT`] is the same without it. `result_large`, `payload`, `payload_large` and `history` are not
/// included: they are read only on request.
pub(crate) const FIELDS: [&str; 17] = [
    "tombstone",
    "state",
    "spec",
    "priority",
    "losses",
    "snoozes",
    "cancel_requested",
    "progress",
    "progress_message",
    "run_at",
    "waiting_for",
    "error",
    "error_group",
    "schedule",
    "result_size",
    "result_type",
    "result",
];

/// The same fields for callers that do not need the result: it may have 64 KiB, a hundred times as much as all others.
pub(crate) const WITHOUT_RESULT: &[&str] = FIELDS.split_at(FIELDS.len() - 1).0;

/// The field of a payload that is too large to pass through a function; others are in `payload`.
pub(crate) const PAYLOAD_LARGE: &str = "payload_large";

/// What changes during every job's life: the words of the field `state`, which `lua/core.lua` writes.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) status: Status,
    pub(crate) version: u64,
    pub(crate) queue: QueueName,
    pub(crate) attempt: u32,
    pub(crate) epoch: Option<Epoch>,
    pub(crate) worker: Option<WorkerId>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) expires_at: Option<Timestamp>,
}

impl State {
    pub(crate) fn read(text: &str) -> Result<Self, Error> {
        let words: Vec<_> = text.split(' ').collect();
        let Ok([status, version, queue, attempt, epoch, worker, started, finished, expires]) =
            <[&str; 9]>::try_from(words)
        else {
            return Err(Error::unreadable(format!("invalid state of a job: {text:?}")));
        };
        let time = |word| Ok(reply::optional(word)?.map(Timestamp::from_unix_ms));
        Ok(Self {
            status: reply::parse(status)?,
            version: reply::parse(version)?,
            queue: reply::parse(queue)?,
            attempt: reply::parse(attempt)?,
            epoch: reply::optional(epoch)?.map(Epoch::new),
            worker: reply::optional(worker)?,
            started_at: time(started)?,
            finished_at: time(finished)?,
            expires_at: time(expires)?,
        })
    }
}

/// The submission: the field `spec`, which changes only if another submission replaces a job that waits.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) created_at: Timestamp,
    pub(crate) task: TaskName,
    pub(crate) options: JobOptions,
}

impl Spec {
    pub(crate) fn read(text: &str, last: &mut LastOptions) -> Result<Self, Error> {
        let mut parts = text.splitn(3, ' ');
        let mut next = || parts.next().ok_or_else(|| Error::unreadable("incomplete spec of a job"));
        Ok(Self {
            created_at: Timestamp::from_unix_ms(reply::parse(next()?)?),
            task: reply::parse(next()?)?,
            options: last.read(next()?)?,
        })
    }
}

/// The options that were parsed last: those of the next job are usually the same, and need not be parsed again.
#[derive(Debug, Default)]
pub(crate) struct LastOptions(Option<(String, JobOptions)>);

impl LastOptions {
    fn read(&mut self, text: &str) -> Result<JobOptions, Error> {
        if let Some((last, options)) = &self.0
            && last == text
        {
            return Ok(options.clone());
        }
        let options: JobOptions = serde_json::from_str(text)
            .map_err(|error| Error::unreadable(format!("options of a job: {error}")))?;
        self.0 = Some((text.to_owned(), options.clone()));
        Ok(options)
    }
}

/// Parses the reply of `HMGET job …FIELDS`, or of [`WITHOUT_RESULT`]: then the result has no `inline`, and a size only
/// if the job has the field `result_size`.
pub(crate) fn read(id: JobId, value: Value) -> Result<Lookup<JobRecord>, Error> {
    let mut fields = Fields(reply::array(value)?);
    if fields.0.len() < WITHOUT_RESULT.len() {
        return Err(Error::unreadable("job record with too few fields"));
    }
    match fields.parsed::<String>("tombstone")?.as_deref() {
        Some("trimmed") => return Ok(Lookup::Gone(Tombstone::Trimmed)),
        Some(_) => return Ok(Lookup::Gone(Tombstone::Deleted)),
        None => {}
    }
    let Some(state) = fields.take("state") else {
        return Ok(Lookup::Unknown);
    };
    let state = State::read(&reply::text(state)?)?;
    let spec = Spec::read(&fields.required::<String>("spec")?, &mut LastOptions::default())?;
    let error =
        fields.parsed::<String>("error")?.map(|json| serde_json::from_str(&json)).transpose();
    // The field remains when the job runs again; it is valid only while the job is scheduled or parked.
    let waiting_for = fields.parsed::<String>("waiting_for")?.as_deref().and_then(WaitingFor::read);
    let record = JobRecord {
        id,
        task: spec.task,
        queue: state.queue,
        priority: fields.parsed("priority")?.unwrap_or_default(),
        status: state.status,
        options: spec.options,
        version: state.version,
        attempt: state.attempt,
        losses: fields.parsed("losses")?.unwrap_or(0),
        snoozes: fields.parsed("snoozes")?.unwrap_or(0),
        epoch: state.epoch,
        worker: state.worker,
        cancel_requested: fields.take("cancel_requested").is_some(),
        progress: fields.parsed("progress")?,
        progress_message: fields.parsed("progress_message")?,
        created_at: spec.created_at,
        run_at: fields.time("run_at")?,
        started_at: state.started_at,
        finished_at: state.finished_at,
        expires_at: state.expires_at,
        error: error.map_err(|error| Error::unreadable(format!("error of job {id}: {error}")))?,
        error_group: fields.parsed("error_group")?,
        schedule: fields.parsed::<String>("schedule")?.as_deref().and_then(ScheduledBy::read),
        waiting_for: waiting_for.filter(|waiting| waiting.applies_in(state.status)),
        result: fields.result()?,
    };
    Ok(Lookup::Found(record))
}

/// Parses the reply of `HMGET job …WITHOUT_RESULT`; `inline_size` is the size of an inline result, or 0 if there is
/// none.
pub(crate) fn read_without_result(
    id: JobId,
    value: Value,
    inline_size: u64,
) -> Result<Lookup<JobRecord>, Error> {
    read(id, value)?.try_map(|mut job| {
        if job.status == Status::Succeeded && job.result.is_none() && inline_size > 0 {
            let content_type = ContentType::default();
            job.result = Some(ResultSummary { inline: None, size: inline_size, content_type });
        }
        Ok(job)
    })
}

/// The values of [`FIELDS`], by name; one that was not requested is absent.
struct Fields(Vec<Value>);

impl Fields {
    fn index(name: &str) -> usize {
        FIELDS.iter().position(|&field| field == name).expect("only names of FIELDS are requested")
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let value = std::mem::replace(self.0.get_mut(Self::index(name))?, Value::Nil);
        (!matches!(value, Value::Nil)).then_some(value)
    }

    fn parsed<T: std::str::FromStr>(&mut self, name: &str) -> Result<Option<T>, Error> {
        self.take(name).map(reply::parsed).transpose()
    }

    fn required<T: std::str::FromStr>(&mut self, name: &str) -> Result<T, Error> {
        self.parsed(name)?.ok_or_else(|| Error::unreadable(format!("{name} is missing")))
    }

    fn time(&mut self, name: &str) -> Result<Option<Timestamp>, Error> {
        Ok(self.parsed(name)?.map(Timestamp::from_unix_ms))
    }

    /// The size of an inline result is the length of its text.
    fn result(&mut self) -> Result<Option<ResultSummary>, Error> {
        let inline = self.take("result").map(reply::bytes).transpose()?;
        let size = self.parsed("result_size")?;
        let size = size.or_else(|| inline.as_ref().map(|bytes| bytes.len() as u64));
        let content_type = self.parsed("result_type")?.unwrap_or_default();
        Ok(size.map(|size| ResultSummary { inline, size, content_type }))
    }
}
