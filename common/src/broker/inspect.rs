//! Looking: one job by id, and the people's view of tasks, queues and workers. Never changes anything.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{Pipeline, Value};
use serde::Deserialize;

use super::connection::server_errors;
use super::depth::Depth;
use super::error::{Error, classify};
use super::heartbeat::WorkerInfo;
use super::lease::WorkerId;
use super::record::{self, JobRecord, Lookup, PAYLOAD_LARGE};
use super::{Broker, CALL_DEADLINE, reply};
use crate::job::{JobError, JobId, Payload};
use crate::queue::QueueName;
use crate::task::{TaskDescriptor, TaskName};
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

/// A queue as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSummary {
    /// Its name.
    pub name: QueueName,
    /// Whether nothing is handed out.
    pub paused: bool,
    /// Jobs that could be claimed now.
    pub queued: u64,
    /// Jobs that wait for their time.
    pub scheduled: u64,
    /// Jobs that wait for their next attempt.
    pub retrying: u64,
    /// Jobs in flight.
    pub running: u64,
    /// Dead letters.
    pub failed: u64,
    /// Age of the oldest job that could be claimed now.
    pub oldest_age: Option<Duration>,
    /// Jobs that ended in the last minute, give or take ten seconds.
    pub finished_last_minute: u64,
}

/// A worker as an operator sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerSummary {
    /// Its id.
    pub id: WorkerId,
    /// Who it is.
    pub info: WorkerInfo,
    /// Slots that run a job.
    pub busy: u64,
    /// Its last beat.
    pub seen_at: Timestamp,
    /// What it ran at its last beat.
    pub running: Vec<RunningJob>,
}

/// A job that a worker runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningJob {
    /// The job.
    pub id: JobId,
    /// What it does.
    pub task: TaskName,
    /// Where it waited.
    pub queue: QueueName,
    /// When this attempt started.
    pub started_at: Option<Timestamp>,
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

    /// Reads a job and its result, however large. The result is there only if the job succeeded. One round trip.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn result(&self, id: JobId) -> Result<Lookup<(JobRecord, Option<Payload>)>, Error> {
        let (job, mut more) = self.job_and(id, &["result_large"]).await?;
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

    /// Reads a job's payload; `None` if it was forgotten to make room when the job succeeded. One round trip.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn payload(&self, id: JobId) -> Result<Lookup<Option<Payload>>, Error> {
        let (job, more) = self.job_and(id, &["payload", PAYLOAD_LARGE]).await?;
        job.try_map(|job| {
            let payload = more.into_iter().find(|value| *value != Value::Nil);
            let bytes = payload.map(reply::bytes).transpose()?;
            Ok(bytes.map(|bytes| Payload { bytes, content_type: job.options.content_type }))
        })
    }

    /// Reads a job's last attempts, oldest first: up to ten that did not succeed, and the current or last one.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn attempts(&self, id: JobId) -> Result<Lookup<Vec<Attempt>>, Error> {
        let (job, mut more) = self.job_and(id, &["history"]).await?;
        job.try_map(|job| attempts_of(&job, more.pop().unwrap_or(Value::Nil)))
    }

    pub(crate) async fn job_and(
        &self,
        id: JobId,
        more: &[&str],
    ) -> Result<(Lookup<JobRecord>, Vec<Value>), Error> {
        if !self.holds(id) {
            return Ok((Lookup::Unknown, Vec::new()));
        }
        let mut pipeline = redis::pipe();
        pipeline
            .cmd("HMGET")
            .arg(self.settings.keys(id.partition()).job(id))
            .arg(&record::FIELDS)
            .arg(more);
        let mut values = reply::array(self.link.read(&pipeline).await?.swap_remove(0))?;
        let more = values.split_off(record::FIELDS.len());
        Ok((record::read(id, Value::Array(values))?, more))
    }

    /// Reads many jobs of any partitions at once, in the given order.
    pub(crate) async fn jobs(&self, ids: &[JobId]) -> Result<Vec<Lookup<JobRecord>>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::pipe();
        for &id in ids {
            pipeline
                .cmd("HMGET")
                .arg(self.settings.keys(id.partition()).job(id))
                .arg(&record::FIELDS);
        }
        let values = self.pooled(&pipeline).await?;
        ids.iter().zip(values).map(|(&id, value)| record::read(id, value)).collect()
    }

    /// Tasks that a worker declared in the last 30 days, by name.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn tasks(&self) -> Result<Vec<TaskDescriptor>, Error> {
        let keys = self.settings.keys(crate::job::Partition::default());
        let values = self.link.read(redis::pipe().cmd("HVALS").arg(keys.tasks())).await?;
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

    /// Queues that were used or served in the last hour, or hold anything, by name.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn queues(&self) -> Result<Vec<QueueSummary>, Error> {
        let mut queues: BTreeMap<QueueName, QueueSummary> = BTreeMap::new();
        for partition in self.partitions() {
            let keys = self.settings.keys(partition);
            let mut index = redis::pipe();
            index
                .cmd("ZRANGE")
                .arg(keys.queues())
                .arg(0)
                .arg(-1)
                .cmd("SMEMBERS")
                .arg(keys.paused())
                .cmd("TIME");
            let [names, paused, time] = reply::fields(Value::Array(self.pooled(&index).await?))?;
            let now = reply::time_ms(time)?;
            let paused: Vec<String> =
                reply::array(paused)?.into_iter().map(reply::text).collect::<Result<_, _>>()?;
            for name in reply::array(names)? {
                let name: QueueName = reply::parsed(name)?;
                let part = self
                    .queue_in(
                        &keys,
                        &name,
                        now,
                        paused.iter().any(|paused| paused == name.as_str()),
                    )
                    .await?;
                queues.entry(name).and_modify(|sum| merge(sum, &part)).or_insert(part);
            }
        }
        Ok(queues.into_values().collect())
    }

    async fn queue_in(
        &self,
        keys: &super::Keys,
        name: &QueueName,
        now: u64,
        paused: bool,
    ) -> Result<QueueSummary, Error> {
        let mut ask = redis::pipe();
        Depth::ask(&mut ask, keys, name);
        ask.cmd("MGET");
        for bucket in now / 10_000 - 5..=now / 10_000 {
            ask.arg(keys.ended(name, bucket));
        }
        let values = self.pooled(&ask).await?;
        let depth = Depth::read(&values[..Depth::REPLIES], now)?;
        let retrying = self.retrying(keys, name, depth.delayed).await?;
        let ended = reply::array(values[Depth::REPLIES].clone())?;
        Ok(QueueSummary {
            name: name.clone(),
            paused,
            queued: depth.queued,
            running: depth.running,
            failed: depth.failed,
            scheduled: depth.delayed.saturating_sub(retrying),
            retrying,
            oldest_age: depth.oldest_age,
            finished_last_minute: ended
                .iter()
                .filter_map(|count| reply::unsigned(count).ok())
                .sum(),
        })
    }

    /// How many of the delayed jobs wait for a retry: counted among the first thousand, estimated beyond.
    async fn retrying(
        &self,
        keys: &super::Keys,
        name: &QueueName,
        delayed: u64,
    ) -> Result<u64, Error> {
        const COUNTED: u64 = 1000;
        if delayed == 0 {
            return Ok(0);
        }
        let mut first = redis::pipe();
        first.cmd("ZRANGE").arg(keys.delayed(name)).arg(0).arg(COUNTED - 1);
        let ids = reply::array(self.pooled(&first).await?.swap_remove(0))?;
        let mut ask = redis::pipe();
        for id in ids.iter().cloned().filter_map(|id| reply::parsed(id).ok()) {
            ask.cmd("HGET").arg(keys.job(id)).arg("state");
        }
        let states = self.pooled(&ask).await?;
        let retrying = states.iter().filter(
            |state| matches!(state, Value::BulkString(state) if state.starts_with(b"retrying ")),
        );
        Ok(retrying.count() as u64 * delayed / delayed.clamp(1, COUNTED))
    }

    /// Workers that beat in the last 30 s, in the order of their last beat.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn workers(&self) -> Result<Vec<WorkerSummary>, Error> {
        let mut workers: BTreeMap<String, WorkerSummary> = BTreeMap::new();
        for partition in self.partitions() {
            let keys = self.settings.keys(partition);
            let mut index = redis::pipe();
            index.cmd("ZRANGE").arg(keys.workers()).arg(0).arg(-1);
            let ids = reply::array(self.pooled(&index).await?.swap_remove(0))?;
            let mut ask = redis::pipe();
            let ids: Vec<WorkerId> =
                ids.into_iter().map(reply::parsed).collect::<Result<_, _>>()?;
            for &id in &ids {
                ask.cmd("HMGET").arg(keys.worker(id)).arg(&["info", "busy", "seen", "running"]);
            }
            for (id, value) in ids.iter().zip(self.pooled(&ask).await?) {
                let Some((mut worker, running)) = read_worker(*id, value)? else {
                    continue;
                };
                worker.running = self.running_jobs(&running).await?;
                let known = workers
                    .entry(id.to_string())
                    .or_insert_with(|| WorkerSummary { running: Vec::new(), ..worker.clone() });
                known.running.append(&mut worker.running);
            }
        }
        Ok(workers.into_values().collect())
    }

    async fn running_jobs(&self, ids: &[JobId]) -> Result<Vec<RunningJob>, Error> {
        let jobs = self.jobs(ids).await?.into_iter().filter_map(|lookup| match lookup {
            Lookup::Found(job) => {
                let JobRecord { id, task, queue, started_at, .. } = job;
                Some(RunningJob { id, task, queue, started_at })
            }
            Lookup::Gone(_) | Lookup::Unknown => None,
        });
        Ok(jobs.collect())
    }

    /// Sends commands over the pool, as one round trip.
    pub(crate) async fn pooled(&self, pipeline: &Pipeline) -> Result<Vec<Value>, Error> {
        if pipeline.cmd_iter().next().is_none() {
            return Ok(Vec::new());
        }
        let heard = |error| classify(&std::sync::Arc::new(error)).1;
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
            values.and_then(|values| server_errors(values, |_| false)).map_err(heard)
        };
        tokio::time::timeout(CALL_DEADLINE, ask).await.map_err(|_| Error::timed_out())?
    }
}

fn merge(sum: &mut QueueSummary, part: &QueueSummary) {
    sum.paused |= part.paused;
    sum.queued += part.queued;
    sum.scheduled += part.scheduled;
    sum.retrying += part.retrying;
    sum.running += part.running;
    sum.failed += part.failed;
    sum.oldest_age = sum.oldest_age.max(part.oldest_age);
    sum.finished_last_minute += part.finished_last_minute;
}

fn read_worker(id: WorkerId, value: Value) -> Result<Option<(WorkerSummary, Vec<JobId>)>, Error> {
    let [info, busy, seen, running] = reply::fields(value)?;
    if info == Value::Nil {
        return Ok(None);
    }
    let Ok(info) = serde_json::from_slice(&reply::bytes(info)?) else {
        return Ok(None);
    };
    let running = reply::text(running)?.lines().filter_map(|id| id.parse().ok()).collect();
    let seen_at = Timestamp::from_unix_ms(reply::unsigned(&seen)?);
    Ok(Some((
        WorkerSummary { id, info, busy: reply::unsigned(&busy)?, seen_at, running: Vec::new() },
        running,
    )))
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
