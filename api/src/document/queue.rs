//! A queue and its counts.

use crunch_common::broker::{QueueSummary, WorkerSummary};
use crunch_common::time::whole_ms;
use serde::Serialize;
use utoipa::ToSchema;

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
        }
    }
}
