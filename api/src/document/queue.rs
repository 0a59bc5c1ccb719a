//! A queue and its counts.

use std::cmp::Reverse;

use crunch_common::broker::{Parked, QueueSummary, WorkerSummary};
use crunch_common::task::TaskName;
use crunch_common::time::whole_ms;
use serde::Serialize;
use utoipa::ToSchema;

/// How many tasks with parked jobs are listed: a client may name tasks that no worker has.
const MAX_PARKED: usize = 20;

/// A queue as an operator sees it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Queue)]
pub(crate) struct QueueDocument {
    name: String,
    paused: bool,
    counts: QueueCounts,
    /// Age of the oldest job that could run now.
    oldest_age_ms: Option<u64>,
    finished_last_minute: u64,
    /// How many live workers claim jobs from it.
    workers: usize,
    /// Those of its queued jobs that only a worker with their task can claim, since another one lacked it: by task, at most
    /// 20 tasks, those with most jobs.
    parked: Vec<ParkedDocument>,
}

/// Jobs of a queue that wait for a worker with their task.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ParkedJobs)]
pub(crate) struct ParkedDocument {
    task: String,
    /// How many they are; one that ended meanwhile may be counted for some seconds.
    jobs: u64,
    /// Age of the oldest one.
    oldest_age_ms: Option<u64>,
    /// How many live workers that claim from the queue have the task, and can run it now.
    workers: usize,
}

/// How many jobs of a queue are in which state.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueueCounts {
    queued: u64,
    scheduled: u64,
    retrying: u64,
    running: u64,
    failed: u64,
}

/// What a purge did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PurgeReport {
    /// How many jobs were canceled.
    pub(crate) count: u64,
    /// What the queue has now: running and retrying jobs continue, failed ones stay, and new ones may have arrived.
    pub(crate) left: QueueCounts,
}

impl QueueCounts {
    pub(crate) const fn of(queue: &QueueSummary) -> Self {
        Self {
            queued: queue.queued,
            scheduled: queue.scheduled,
            retrying: queue.retrying,
            running: queue.running,
            failed: queue.failed,
        }
    }
}

impl QueueDocument {
    pub(crate) fn new(queue: &QueueSummary, workers: &[WorkerSummary]) -> Self {
        let serves_it = |worker: &&WorkerSummary| worker.claims_from(&queue.name);
        Self {
            name: queue.name.to_string(),
            paused: queue.paused,
            counts: QueueCounts::of(queue),
            oldest_age_ms: queue.oldest_age.map(whole_ms),
            finished_last_minute: queue.finished_last_minute,
            workers: workers.iter().filter(serves_it).count(),
            parked: parked(queue, workers),
        }
    }
}

fn parked(queue: &QueueSummary, workers: &[WorkerSummary]) -> Vec<ParkedDocument> {
    let mut all: Vec<_> = queue.parked.iter().collect();
    all.sort_by_key(|(_, parked)| Reverse(parked.jobs));
    let document = |(task, parked): (&TaskName, &Parked)| ParkedDocument {
        task: task.to_string(),
        jobs: parked.jobs,
        oldest_age_ms: parked.oldest_age.map(whole_ms),
        workers: workers.iter().filter(|it| it.claims_from(&queue.name) && it.runs(task)).count(),
    };
    all.into_iter().take(MAX_PARKED).map(document).collect()
}
