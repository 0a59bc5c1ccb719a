//! Reads one job by id, and the declared tasks. Read-only.

use redis::{Pipeline, Value};
use serde::Deserialize;

use super::commands::Commands;
use super::error::Error;
use super::record::{self, JobRecord, Lookup, PAYLOAD_LARGE};
use super::transfer::MinRate;
use super::worker_id::WorkerId;
use super::{Broker, reply};
use crate::job::{JobError, JobId, Payload};
use crate::task::TaskDescriptor;
use crate::time::Timestamp;

/// One attempt of a job that did not succeed, or the current or last one.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// Number of the charged attempt, from 1. A run that was released or lost is not charged: the next run has the same
    /// number.
    pub number: u32,
    /// The worker that ran it.
    pub worker: Option<WorkerId>,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// When it ended; `None` while it runs.
    pub finished_at: Option<Timestamp>,
    /// How it ended: `running`, `succeeded`, `failed`, `canceled`, `released`, `snoozed`, `lost`, `unheard` or
    /// `healed`.
    pub outcome: String,
    /// Why, if it failed.
    pub error: Option<JobError>,
}

impl Broker {
    /// Whether a job of this key space can have that id.
    pub(crate) fn may_contain(&self, id: JobId) -> bool {
        id.partition().number() < self.settings.space.len()
    }

    /// Reads a job. One round trip.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn job(&self, id: JobId) -> Result<Lookup<JobRecord>, Error> {
        Ok(self.job_and_fields(id, &[]).await?.0)
    }

    /// Like [`Broker::job`], without the result: enough to check access to the job.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn job_without_result(&self, id: JobId) -> Result<Lookup<JobRecord>, Error> {
        Ok(self.read_fields(id, record::WITHOUT_RESULT, &[]).await?.0)
    }

    /// Reads a job and its result of any size. There is a result only if the job succeeded. One round trip; a large
    /// result takes a second one, on its own connection and for as long as bytes arrive.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn result(&self, id: JobId) -> Result<Lookup<(JobRecord, Option<Payload>)>, Error> {
        let (mut job, mut more) = self.job_and_fields(id, &[]).await?;
        if let Some(bytes) = large_result(&job) {
            (job, more) = self.large_field(id, &record::FIELDS, "result_large", bytes).await?;
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

    /// Reads a job's payload; `None` if it was deleted to free memory when the job succeeded. One round trip; a large
    /// payload takes a second one, on its own connection and for as long as bytes arrive.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn payload(&self, id: JobId) -> Result<Lookup<Option<Payload>>, Error> {
        let fields = record::WITHOUT_RESULT;
        let (mut job, mut more, bytes) = self.payload_or_size(id).await?;
        if bytes > 0 {
            (job, more) = self.large_field(id, fields, PAYLOAD_LARGE, bytes).await?;
        }
        job.try_map(|job| {
            let payload = more.into_iter().find(|value| *value != Value::Nil);
            let bytes = payload.map(reply::bytes).transpose()?;
            Ok(bytes.map(|bytes| Payload { bytes, content_type: job.options.content_type }))
        })
    }

    /// Reads a job with its payload if that is small, and the size of a large payload.
    async fn payload_or_size(
        &self,
        id: JobId,
    ) -> Result<(Lookup<JobRecord>, Vec<Value>, u64), Error> {
        if !self.may_contain(id) {
            return Ok((Lookup::Unknown, Vec::new(), 0));
        }
        let mut pipeline = self.read_command(id, record::WITHOUT_RESULT, &["payload"]);
        let key = self.settings.keys(id.partition()).job(id);
        pipeline.cmd("HSTRLEN").arg(key).arg(PAYLOAD_LARGE);
        let [fields, size] =
            reply::fields(Value::Array(self.link.read(id.partition(), &pipeline).await?))?;
        let (job, more) = split(id, record::WITHOUT_RESULT.len(), fields)?;
        Ok((job, more, reply::unsigned(&size)?))
    }

    /// Reads a job and one field of about this many bytes, in one step.
    async fn large_field(
        &self,
        id: JobId,
        fields: &[&str],
        large: &str,
        bytes: u64,
    ) -> Result<(Lookup<JobRecord>, Vec<Value>), Error> {
        let pipeline = self.read_command(id, fields, &[large]);
        let mut values =
            self.bulk.read(id.partition(), &pipeline, bytes, MinRate::ForCaller).await?;
        split(id, fields.len(), values.swap_remove(0))
    }

    /// Reads a job's last attempts, oldest first: those that did not succeed, and the current or last one; at most ten.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn attempts(&self, id: JobId) -> Result<Lookup<Vec<Attempt>>, Error> {
        let (job, mut more) = self.read_fields(id, record::WITHOUT_RESULT, &["history"]).await?;
        job.try_map(|job| attempts_of(&job, more.pop().unwrap_or(Value::Nil)))
    }

    /// Reads a job, and the fields `more`.
    pub(crate) async fn job_and_fields(
        &self,
        id: JobId,
        more: &[&str],
    ) -> Result<(Lookup<JobRecord>, Vec<Value>), Error> {
        self.read_fields(id, &record::FIELDS, more).await
    }

    async fn read_fields(
        &self,
        id: JobId,
        fields: &[&str],
        more: &[&str],
    ) -> Result<(Lookup<JobRecord>, Vec<Value>), Error> {
        if !self.may_contain(id) {
            return Ok((Lookup::Unknown, Vec::new()));
        }
        let pipeline = self.read_command(id, fields, more);
        split(id, fields.len(), self.link.read(id.partition(), &pipeline).await?.swap_remove(0))
    }

    fn read_command(&self, id: JobId, fields: &[&str], more: &[&str]) -> Pipeline {
        let mut pipeline = redis::pipe();
        pipeline.cmd("HMGET").arg(self.settings.keys(id.partition()).job(id)).arg(fields).arg(more);
        pipeline
    }

    /// Reads jobs of any partitions for a list, without their results, in the given order.
    pub(crate) async fn listed(&self, ids: &[JobId]) -> Result<Vec<Lookup<JobRecord>>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut commands = Commands::default();
        for &id in ids {
            let key = self.settings.keys(id.partition()).job(id);
            let pipeline = commands.at(id.partition());
            pipeline.cmd("HMGET").arg(&key).arg(record::WITHOUT_RESULT);
            pipeline.cmd("HSTRLEN").arg(&key).arg("result");
        }
        let bytes = ids.len() as u64 * LISTED_BYTES;
        let values = self.pages.read_all(&commands, bytes, MinRate::ForCaller).await?;
        let read = |(&id, values): (&JobId, &[Value])| {
            record::read_without_result(id, values[0].clone(), reply::unsigned(&values[1])?)
        };
        ids.iter().zip(values.chunks_exact(2)).map(read).collect()
    }

    /// Returns a number that changes with each change of a declared task; `None` if none was declared. A client that
    /// has read the tasks need not read them again while it is the same.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn tasks_version(&self) -> Result<Option<u64>, Error> {
        let keys = self.settings.keys(crate::job::Partition::default());
        let value = self
            .link
            .read(keys.partition(), redis::pipe().cmd("GET").arg(keys.tasks_version()))
            .await?;
        let version = value.into_iter().next().filter(|value| *value != Value::Nil);
        version.as_ref().map(reply::unsigned).transpose()
    }

    /// Returns the tasks that a worker declared in the last 30 days, by name. Two round trips, the second for as long
    /// as bytes arrive.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn tasks(&self) -> Result<Vec<TaskDescriptor>, Error> {
        let keys = self.settings.keys(crate::job::Partition::default());
        let count = self
            .link
            .read(keys.partition(), redis::pipe().cmd("ZCARD").arg(keys.tasks_seen()))
            .await?;
        let count = count.first().map_or(Ok(0), reply::unsigned)?;
        let mut pipeline = redis::pipe();
        pipeline.cmd("HVALS").arg(keys.tasks());
        let bytes = count * TASK_BYTES;
        let values =
            self.pages.read(keys.partition(), &pipeline, bytes, MinRate::ForCaller).await?;
        let mut tasks = Vec::new();
        for value in values
            .into_iter()
            .map(reply::array)
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .flatten()
        {
            // A descriptor that a later version wrote in another format is skipped; it is not an error for the others.
            tasks.extend(serde_json::from_slice::<TaskDescriptor>(&reply::bytes(value)?).ok());
        }
        tasks.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tasks)
    }
}

/// Assumed size of a declared task for the time limit of its transfer: two schemas of usual size. Silence ends a read
/// earlier.
const TASK_BYTES: u64 = 64 * 1024;
/// Maximum size of a job in a list, for the time limit of its transfer: labels of 32 KiB, and the rest.
const LISTED_BYTES: u64 = 40 * 1024;

/// The size of a job's result if the record does not contain it.
fn large_result(job: &Lookup<JobRecord>) -> Option<u64> {
    let Lookup::Found(job) = job else { return None };
    job.result.as_ref().filter(|result| result.inline.is_none()).map(|result| result.size)
}

/// Parses the record from the first `fields` values; returns it and the other values.
fn split(
    id: JobId,
    fields: usize,
    values: Value,
) -> Result<(Lookup<JobRecord>, Vec<Value>), Error> {
    let mut values = reply::array(values)?;
    if values.len() < fields {
        return Err(Error::unreadable("job record with too few fields"));
    }
    let more = values.split_off(fields);
    Ok((record::read(id, Value::Array(values))?, more))
}

/// A line of the field `history`, which the functions write.
#[derive(Deserialize)]
struct PastAttempt {
    attempt: u32,
    worker: String,
    started_at_ms: u64,
    finished_at_ms: u64,
    outcome: String,
    error: Option<JobError>,
}

/// Returns up to ten attempts of a job, from its field `history` and its current state.
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
        .map_err(|error| Error::unreadable(format!("attempt of a job: {error}")))?;
    Ok(Attempt {
        number: past.attempt,
        worker: past.worker.parse().ok(),
        started_at: Some(Timestamp::from_unix_ms(past.started_at_ms)),
        finished_at: Some(Timestamp::from_unix_ms(past.finished_at_ms)),
        outcome: past.outcome,
        error: past.error,
    })
}

/// The attempt that is running, or that ended the job.
fn current_attempt(job: &JobRecord) -> Option<Attempt> {
    let has_attempt = job.status == crate::job::Status::Running || job.status.is_terminal();
    (has_attempt && job.started_at.is_some()).then(|| Attempt {
        number: job.attempt,
        worker: job.worker,
        started_at: job.started_at,
        finished_at: job.finished_at,
        outcome: job.status.as_str().to_owned(),
        error: job.error.clone().filter(|_| job.status.is_terminal()),
    })
}
