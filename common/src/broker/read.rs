//! Looking: one job by id, and the tasks that were declared. Never changes anything.

use redis::aio::ConnectionLike;
use redis::{Pipeline, Value};
use serde::Deserialize;

use super::error::{Error, classify};
use super::lease::WorkerId;
use super::record::{self, JobRecord, Lookup, PAYLOAD_LARGE};
use super::reply::{self, server_errors};
use super::transfer::MinRate;
use super::{Broker, CALL_DEADLINE};
use crate::job::{JobError, JobId, Payload};
use crate::task::TaskDescriptor;
use crate::time::Timestamp;

/// One attempt of a job that did not succeed, or the current or last one.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// Which charged attempt it was, from 1. A run that was released or lost is not charged: its number comes again.
    pub number: u32,
    /// Who ran it.
    pub worker: Option<WorkerId>,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// When it ended; `None` while it runs.
    pub finished_at: Option<Timestamp>,
    /// How it ended: `running`, `succeeded`, `failed`, `canceled`, `released`, `lost`, `unheard` or
    /// `healed`.
    pub outcome: String,
    /// Why, if it failed.
    pub error: Option<JobError>,
}

impl Broker {
    /// Whether an id can name a job of this key space at all.
    pub(crate) fn holds(&self, id: JobId) -> bool {
        id.partition().number() < self.settings.partitions
    }

    /// Reads a job. One round trip.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn job(&self, id: JobId) -> Result<Lookup<JobRecord>, Error> {
        Ok(self.job_and(id, &[]).await?.0)
    }

    /// As [`Broker::job`], without the result: what it takes to know whose job it is.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn job_without_result(&self, id: JobId) -> Result<Lookup<JobRecord>, Error> {
        Ok(self.fields_and(id, record::WITHOUT_RESULT, &[]).await?.0)
    }

    /// Reads a job and its result, however large. The result is there only if the job succeeded. One round trip; a large
    /// result takes a second one, on a connection of its own and for as long as bytes arrive.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn result(&self, id: JobId) -> Result<Lookup<(JobRecord, Option<Payload>)>, Error> {
        let (mut job, mut more) = self.job_and(id, &[]).await?;
        if let Some(bytes) = large_result(&job) {
            (job, more) = self.large_and(id, &record::FIELDS, "result_large", bytes).await?;
        }
        job.try_map(|job| {
            let large =
                more.pop().filter(|value| *value != Value::Nil).map(reply::bytes).transpose()?;
            let result = job.result.as_ref().and_then(|summary| {
                let bytes = summary.inline.clone().or(large)?;
                Some(Payload { bytes, content_type: summary.content_type.clone() })
            });
            Ok((job, result))
        })
    }

    /// Reads a job's payload; `None` if it was forgotten to make room when the job succeeded. One round trip; a large one
    /// takes a second, on a connection of its own and for as long as bytes arrive.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn payload(&self, id: JobId) -> Result<Lookup<Option<Payload>>, Error> {
        let fields = record::WITHOUT_RESULT;
        let (mut job, mut more, bytes) = self.payload_or_size(id).await?;
        if bytes > 0 {
            (job, more) = self.large_and(id, fields, PAYLOAD_LARGE, bytes).await?;
        }
        job.try_map(|job| {
            let payload = more.into_iter().find(|value| *value != Value::Nil);
            let bytes = payload.map(reply::bytes).transpose()?;
            Ok(bytes.map(|bytes| Payload { bytes, content_type: job.options.content_type }))
        })
    }

    /// Reads a job with its payload if that is small, and the size of a large one.
    async fn payload_or_size(
        &self,
        id: JobId,
    ) -> Result<(Lookup<JobRecord>, Vec<Value>, u64), Error> {
        if !self.holds(id) {
            return Ok((Lookup::Unknown, Vec::new(), 0));
        }
        let mut pipeline = self.ask_for(id, record::WITHOUT_RESULT, &["payload"]);
        let key = self.settings.keys(id.partition()).job(id);
        pipeline.cmd("HSTRLEN").arg(key).arg(PAYLOAD_LARGE);
        let [fields, size] = reply::fields(Value::Array(self.link.read(&pipeline).await?))?;
        let (job, more) = split(id, record::WITHOUT_RESULT.len(), fields)?;
        Ok((job, more, reply::unsigned(&size)?))
    }

    /// Reads a job and one field of about so many bytes, in one step.
    async fn large_and(
        &self,
        id: JobId,
        fields: &[&str],
        large: &str,
        bytes: u64,
    ) -> Result<(Lookup<JobRecord>, Vec<Value>), Error> {
        let pipeline = self.ask_for(id, fields, &[large]);
        let mut values = self.bulk.read(&pipeline, bytes, MinRate::ForCaller).await?;
        split(id, fields.len(), values.swap_remove(0))
    }

    /// Reads a job's last attempts, oldest first: up to ten that did not succeed, and the current or last one.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn attempts(&self, id: JobId) -> Result<Lookup<Vec<Attempt>>, Error> {
        let (job, mut more) = self.fields_and(id, record::WITHOUT_RESULT, &["history"]).await?;
        job.try_map(|job| attempts_of(&job, more.pop().unwrap_or(Value::Nil)))
    }

    pub(crate) async fn job_and(
        &self,
        id: JobId,
        more: &[&str],
    ) -> Result<(Lookup<JobRecord>, Vec<Value>), Error> {
        self.fields_and(id, &record::FIELDS, more).await
    }

    async fn fields_and(
        &self,
        id: JobId,
        fields: &[&str],
        more: &[&str],
    ) -> Result<(Lookup<JobRecord>, Vec<Value>), Error> {
        if !self.holds(id) {
            return Ok((Lookup::Unknown, Vec::new()));
        }
        let pipeline = self.ask_for(id, fields, more);
        split(id, fields.len(), self.link.read(&pipeline).await?.swap_remove(0))
    }

    fn ask_for(&self, id: JobId, fields: &[&str], more: &[&str]) -> Pipeline {
        let mut pipeline = redis::pipe();
        pipeline.cmd("HMGET").arg(self.settings.keys(id.partition()).job(id)).arg(fields).arg(more);
        pipeline
    }

    /// Reads jobs of any partitions for a list, which does not show their results, in the given order.
    pub(crate) async fn listed(&self, ids: &[JobId]) -> Result<Vec<Lookup<JobRecord>>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::pipe();
        for &id in ids {
            let key = self.settings.keys(id.partition()).job(id);
            pipeline.cmd("HMGET").arg(&key).arg(record::WITHOUT_RESULT);
            pipeline.cmd("HSTRLEN").arg(&key).arg("result");
        }
        let bytes = ids.len() as u64 * LISTED_BYTES;
        let values = self.pages.read(&pipeline, bytes, MinRate::ForCaller).await?;
        let read = |(&id, values): (&JobId, &[Value])| {
            record::read_without_result(id, values[0].clone(), reply::unsigned(&values[1])?)
        };
        ids.iter().zip(values.chunks_exact(2)).map(read).collect()
    }

    /// Another number after each change of a declared task; `None` if none was declared. Whoever has read the tasks need not
    /// read them again while it stays the same.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn tasks_version(&self) -> Result<Option<u64>, Error> {
        let keys = self.settings.keys(crate::job::Partition::default());
        let value = self.link.read(redis::pipe().cmd("GET").arg(keys.tasks_version())).await?;
        let version = value.into_iter().next().filter(|value| *value != Value::Nil);
        version.as_ref().map(reply::unsigned).transpose()
    }

    /// Tasks that a worker declared in the last 30 days, by name. Two round trips, the second for as long as bytes arrive.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn tasks(&self) -> Result<Vec<TaskDescriptor>, Error> {
        let keys = self.settings.keys(crate::job::Partition::default());
        let count = self.link.read(redis::pipe().cmd("ZCARD").arg(keys.tasks_seen())).await?;
        let count = count.first().map_or(Ok(0), reply::unsigned)?;
        let mut ask = redis::pipe();
        ask.cmd("HVALS").arg(keys.tasks());
        let values = self.pages.read(&ask, count * TASK_BYTES, MinRate::ForCaller).await?;
        let mut tasks = Vec::new();
        for value in values
            .into_iter()
            .map(reply::array)
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .flatten()
        {
            // A descriptor that a later version wrote in another shape is passed over, not an error for all.
            tasks.extend(serde_json::from_slice::<TaskDescriptor>(&reply::bytes(value)?).ok());
        }
        tasks.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tasks)
    }

    /// Sends commands over the pool, as one round trip.
    pub(crate) async fn pooled(&self, pipeline: &Pipeline) -> Result<Vec<Value>, Error> {
        if pipeline.cmd_iter().next().is_none() {
            return Ok(Vec::new());
        }
        let to_error = |error| classify(&std::sync::Arc::new(error)).1;
        // The step connection has loaded the library and checked the key space: operators come after it.
        self.link.open().await?;
        let ask = async {
            let mut connection = self
                .pool
                .get()
                .await
                .map_err(|error| Error::Unavailable { reason: error.to_string() })?;
            let count = pipeline.cmd_iter().count();
            let values = connection.req_packed_commands(pipeline, 0, count).await;
            values.and_then(|values| server_errors(values, |_| false)).map_err(to_error)
        };
        tokio::time::timeout(CALL_DEADLINE, ask).await.map_err(|_| Error::timed_out())?
    }
}

/// What a declared task takes, as far as time for its way is concerned: two schemas of usual size. Silence ends a read sooner.
const TASK_BYTES: u64 = 64 * 1024;
/// What a job takes at most in a list, as far as time for its way is concerned: labels of 32 KiB, and the rest.
const LISTED_BYTES: u64 = 40 * 1024;

/// The size of a job's result if it did not come with the record.
fn large_result(job: &Lookup<JobRecord>) -> Option<u64> {
    let Lookup::Found(job) = job else { return None };
    job.result.as_ref().filter(|result| result.inline.is_none()).map(|result| result.size)
}

/// The record in the first fields, and the others.
fn split(
    id: JobId,
    fields: usize,
    values: Value,
) -> Result<(Lookup<JobRecord>, Vec<Value>), Error> {
    let mut values = reply::array(values)?;
    if values.len() < fields {
        return Err(Error::unreadable("a job with too few fields"));
    }
    let more = values.split_off(fields);
    Ok((record::read(id, Value::Array(values))?, more))
}

/// A line of the history that the functions keep.
#[derive(Deserialize)]
struct PastAttempt {
    attempt: u32,
    worker: String,
    started_at_ms: u64,
    finished_at_ms: u64,
    outcome: String,
    error: Option<JobError>,
}

/// Up to ten attempts of a job, from its field `history` and its own.
pub(crate) fn attempts_of(job: &JobRecord, history: Value) -> Result<Vec<Attempt>, Error> {
    let history = Some(history).filter(|value| *value != Value::Nil);
    let history = history.map(reply::text).transpose()?;
    let past = history.iter().flat_map(|text| text.lines()).map(past_attempt);
    let mut attempts: Vec<_> = past.collect::<Result<_, _>>()?;
    attempts.extend(current_attempt(job));
    attempts.drain(..attempts.len().saturating_sub(10));
    Ok(attempts)
}

fn past_attempt(line: &str) -> Result<Attempt, Error> {
    let past: PastAttempt = serde_json::from_str(line)
        .map_err(|error| Error::unreadable(format!("an attempt: {error}")))?;
    Ok(Attempt {
        number: past.attempt,
        worker: past.worker.parse().ok(),
        started_at: Some(Timestamp::from_unix_ms(past.started_at_ms)),
        finished_at: Some(Timestamp::from_unix_ms(past.finished_at_ms)),
        outcome: past.outcome,
        error: past.error,
    })
}

/// The attempt that runs, or that ended the job.
fn current_attempt(job: &JobRecord) -> Option<Attempt> {
    let at_work = job.status == crate::job::Status::Running || job.status.is_terminal();
    (at_work && job.started_at.is_some()).then(|| Attempt {
        number: job.attempt,
        worker: job.worker,
        started_at: job.started_at,
        finished_at: job.finished_at,
        outcome: job.status.as_str().to_owned(),
        error: job.error.clone().filter(|_| job.status.is_terminal()),
    })
}
