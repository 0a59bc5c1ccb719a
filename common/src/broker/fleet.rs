//! The operators' view of workers. Read-only.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use redis::{Cmd, Value};

use super::connection::Call;
use super::error::Error;
use super::functions::Function;
use super::heartbeat::{WorkerInfo, WorkerState};
use super::keys::Keys;
use super::record::{LastOptions, Spec, State};
use super::transfer::MinRate;
use super::worker_id::WorkerId;
use super::{Broker, reply};
use crate::job::{JobId, Partition};
use crate::queue::QueueName;
use crate::task::TaskName;
use crate::time::Timestamp;

/// A worker as shown to operators.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerSummary {
    /// Its id.
    pub id: WorkerId,
    /// Its description.
    pub info: WorkerInfo,
    /// What an operator requested last, if anything.
    pub wanted: Option<WorkerState>,
    /// Slots that run a job.
    pub busy: u64,
    /// Time of its last heartbeat.
    pub seen_at: Timestamp,
    /// The jobs it ran at its last heartbeat.
    pub running: Vec<RunningJob>,
}

impl WorkerSummary {
    /// Whether it claims jobs from a queue: not one that is quiet or stops.
    #[must_use]
    pub fn claims_from(&self, queue: &QueueName) -> bool {
        self.info.state == WorkerState::Running && self.info.queues.contains(queue)
    }

    /// Whether it has a task, and its machine can run it now.
    #[must_use]
    pub fn runs(&self, task: &TaskName) -> bool {
        self.info.tasks.contains(task) && !self.info.suspended.iter().any(|it| it.task == *task)
    }
}

/// A job that a worker runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningJob {
    /// The job.
    pub id: JobId,
    /// Its task.
    pub task: TaskName,
    /// Its queue.
    pub queue: QueueName,
    /// When this attempt started.
    pub started_at: Option<Timestamp>,
}

/// How many workers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetSize {
    /// All of them.
    pub workers: usize,
    /// Those that claim from a queue, of several the one with the fewest.
    pub of_queues: usize,
}

/// Some workers, by id.
#[derive(Debug, Clone)]
pub struct WorkerPage {
    /// The workers.
    pub items: Vec<WorkerSummary>,
    /// The next page starts after this one; `None` at the end.
    pub next: Option<WorkerId>,
}

/// Maximum number of workers that are counted: each is some kilobytes to read. Those with the newest heartbeats come
/// first.
const MAX_COUNTED: usize = 5000;
/// Maximum number of workers in the list: the ids of all are read for each page, 4 MB of them.
const MAX_LISTED: usize = 100_000;
/// Workers whose queues are read for an estimate.
const SAMPLE: usize = 20;
/// Workers read in one round trip: each may have a description of some kilobytes.
const WORKERS_PER_ROUND_TRIP: usize = 100;
/// Running jobs read in one round trip: about a millisecond of Redis' time.
const JOBS_PER_ROUND_TRIP: usize = 500;
/// Estimated sizes of an id, a worker with the jobs it runs, and a running job, for time limits of transfers: rather
/// too large. Silence ends a read sooner.
const ID_BYTES: u64 = 64;
const WORKER_BYTES: u64 = 64 * 1024;
const JOB_BYTES: u64 = 40 * 1024;

impl Broker {
    /// Returns a page of the workers with a heartbeat in the last 30 s, and the jobs they run, by id: those after
    /// `after`. Of other workers only the ids are read.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn workers(
        &self,
        after: Option<WorkerId>,
        limit: usize,
    ) -> Result<WorkerPage, Error> {
        let mut ids = BTreeSet::new();
        for partition in self.partitions() {
            ids.extend(self.worker_ids(self.settings.keys(partition), MAX_LISTED).await?);
        }
        let mut ids: Vec<_> = match after {
            Some(after) => ids.range((Bound::Excluded(after), Bound::Unbounded)).copied().collect(),
            None => ids.into_iter().collect(),
        };
        let more = ids.len() > limit;
        ids.truncate(limit);
        let mut workers = BTreeMap::new();
        for partition in self.partitions() {
            self.read_workers(self.settings.keys(partition), &ids, true, &mut workers).await?;
        }
        let next = if more { ids.pop() } else { None };
        Ok(WorkerPage { items: workers.into_values().collect(), next })
    }

    /// Returns one worker and the jobs it runs, if it sent a heartbeat in the last 30 s.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn worker(&self, id: WorkerId) -> Result<Option<WorkerSummary>, Error> {
        let mut workers = BTreeMap::new();
        for partition in self.partitions() {
            self.read_workers(self.settings.keys(partition), &[id], true, &mut workers).await?;
        }
        Ok(workers.remove(&id))
    }

    /// Requests what a worker does from now on. Returns whether there is such a worker.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable; retry.
    pub async fn steer(&self, id: WorkerId, wanted: WorkerState) -> Result<bool, Error> {
        let arguments = |command: &mut Cmd| {
            command.arg(id.to_string()).arg(wanted.as_str());
        };
        let call = Call::new(Function::Steer, Partition::default());
        Ok(reply::integer(&self.link.call(call, arguments).await?)? == 1)
    }

    /// Returns the workers with a heartbeat in the last 30 s, without the jobs they run, by id: up to 5000, those with
    /// the newest heartbeats.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn fleet(&self) -> Result<Vec<WorkerSummary>, Error> {
        let mut workers = BTreeMap::new();
        for partition in self.partitions() {
            let keys = self.settings.keys(partition);
            let ids = self.worker_ids(keys, MAX_COUNTED).await?;
            self.read_workers(keys, &ids, false, &mut workers).await?;
        }
        Ok(workers.into_values().collect())
    }

    /// Returns how large the fleet is. How many of the workers claim from these queues is estimated by the share of those
    /// with the newest heartbeats, so that it costs as much in a large fleet.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn fleet_size(&self, queues: &[QueueName]) -> Result<FleetSize, Error> {
        // All workers send their heartbeats there.
        let keys = self.settings.keys(Partition::default());
        let mut pipeline = redis::pipe();
        pipeline.cmd("ZCARD").arg(keys.workers());
        let count =
            self.pages.read(keys.partition(), &pipeline, ID_BYTES, MinRate::ForCaller).await?;
        let workers = reply::unsigned(&count[0])? as usize;
        let ids = self.worker_ids(keys, SAMPLE).await?;
        let sample = self.workers_in(keys, &ids, false).await?;
        let claim_from = |queue: &QueueName| {
            sample.iter().filter(|(worker, _)| worker.claims_from(queue)).count()
        };
        let fewest = queues.iter().map(claim_from).min().unwrap_or(0);
        let of_queues = (workers * fewest).div_ceil(sample.len().max(1));
        Ok(FleetSize { workers, of_queues })
    }

    /// Returns the ids of up to `max` workers, those with the newest heartbeats.
    async fn worker_ids(&self, keys: &Keys, max: usize) -> Result<Vec<WorkerId>, Error> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("ZRANGE").arg(keys.workers()).arg(0).arg(max - 1).arg("REV");
        let bytes = max as u64 * ID_BYTES;
        let ids = self
            .pages
            .read(keys.partition(), &pipeline, bytes, MinRate::ForCaller)
            .await?
            .swap_remove(0);
        let ids = reply::array(ids)?;
        ids.into_iter().map(reply::parsed).collect()
    }

    /// Adds the data of one partition about workers. Of what several partitions know, the newest counts.
    async fn read_workers(
        &self,
        keys: &Keys,
        ids: &[WorkerId],
        with_jobs: bool,
        workers: &mut BTreeMap<WorkerId, WorkerSummary>,
    ) -> Result<(), Error> {
        for ids in ids.chunks(WORKERS_PER_ROUND_TRIP) {
            for (worker, running) in self.workers_in(keys, ids, with_jobs).await? {
                let running = self.running_jobs(keys, &running).await?;
                let entry = workers.entry(worker.id).or_insert_with(|| worker.clone());
                if worker.seen_at > entry.seen_at {
                    let running = std::mem::take(&mut entry.running);
                    let wanted = entry.wanted.or(worker.wanted);
                    *entry = WorkerSummary { running, wanted, ..worker };
                }
                entry.running.extend(running);
            }
        }
        Ok(())
    }

    /// Returns the data of one partition about some workers, and which of its jobs they run.
    async fn workers_in(
        &self,
        keys: &Keys,
        ids: &[WorkerId],
        with_jobs: bool,
    ) -> Result<Vec<(WorkerSummary, Vec<JobId>)>, Error> {
        let fields: &[&str] = if with_jobs {
            &["info", "busy", "seen", "wanted", "running"]
        } else {
            &["info", "busy", "seen", "wanted"]
        };
        let mut pipeline = redis::pipe();
        for &id in ids {
            pipeline.cmd("HMGET").arg(keys.worker(id)).arg(fields);
        }
        let bytes = ids.len() as u64 * WORKER_BYTES;
        let partition = keys.partition();
        let replies = self.pages.read(partition, &pipeline, bytes, MinRate::ForCaller).await?;
        let replies = ids.iter().zip(replies);
        replies.filter_map(|(&id, reply)| read_worker(id, reply).transpose()).collect()
    }

    async fn running_jobs(&self, keys: &Keys, ids: &[JobId]) -> Result<Vec<RunningJob>, Error> {
        let mut jobs = Vec::with_capacity(ids.len());
        for ids in ids.chunks(JOBS_PER_ROUND_TRIP) {
            let mut pipeline = redis::pipe();
            for &id in ids {
                pipeline.cmd("HMGET").arg(keys.job(id)).arg(&["state", "spec"]);
            }
            let bytes = ids.len() as u64 * JOB_BYTES;
            let partition = keys.partition();
            let replies = self.pages.read(partition, &pipeline, bytes, MinRate::ForCaller).await?;
            for (&id, reply) in ids.iter().zip(replies) {
                jobs.extend(read_running(id, reply)?);
            }
        }
        Ok(jobs)
    }
}

/// `None` if the job no longer exists.
fn read_running(id: JobId, reply: Value) -> Result<Option<RunningJob>, Error> {
    let [state, spec] = reply::fields(reply)?;
    if state == Value::Nil || spec == Value::Nil {
        return Ok(None);
    }
    let state = State::read(&reply::text(state)?)?;
    let Spec { task, .. } = Spec::read(&reply::text(spec)?, &mut LastOptions::default())?;
    Ok(Some(RunningJob { id, task, queue: state.queue, started_at: state.started_at }))
}

fn read_worker(id: WorkerId, value: Value) -> Result<Option<(WorkerSummary, Vec<JobId>)>, Error> {
    let mut values = reply::array(value)?.into_iter();
    let mut next =
        || values.next().ok_or_else(|| Error::unreadable("worker record with too few fields"));
    let (info, busy, seen, wanted) = (next()?, next()?, next()?, next()?);
    if info == Value::Nil {
        return Ok(None);
    }
    let Ok(info) = serde_json::from_slice(&reply::bytes(info)?) else {
        return Ok(None);
    };
    let running = values.next().map(reply::text).transpose()?.unwrap_or_default();
    let running = running.lines().filter_map(|id| id.parse().ok()).collect();
    let seen_at = Timestamp::from_unix_ms(reply::unsigned(&seen)?);
    let wanted = reply::text(wanted).ok().and_then(|word| WorkerState::named(&word));
    let busy = reply::unsigned(&busy)?;
    Ok(Some((WorkerSummary { id, info, wanted, busy, seen_at, running: Vec::new() }, running)))
}
