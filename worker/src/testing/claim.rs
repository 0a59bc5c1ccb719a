//! The job that a worker would have claimed, without a queue from which to claim it.

use std::sync::atomic::{AtomicU64, Ordering};

use crunch_common::broker::{ClaimedJob, Epoch};
use crunch_common::job::JobOptions;
use crunch_common::time::Timestamp;

use super::Attempt;

impl Attempt {
    /// Returns the job as a worker would claim it now.
    pub(super) fn claim(&self) -> ClaimedJob {
        let (task, now) = (&self.task.descriptor, Timestamp::now());
        ClaimedJob {
            id: self.id,
            epoch: next_epoch(now),
            queue: task.queue.clone(),
            priority: task.priority,
            task: task.name.clone(),
            attempt: self.number,
            options: JobOptions {
                max_attempts: task.max_attempts,
                timeout: task.timeout,
                deadline: None,
                start_within: None,
                unique: None,
                backoff: task.backoff,
                content_type: self.payload.content_type.clone(),
                payload_size: self.payload.bytes.len() as u64,
                metadata: self.metadata.clone(),
                group: self.group.clone(),
                trace: None,
            },
            payload: self.payload.clone(),
            created_at: now,
            due_at: now,
            claimed_at: now,
        }
    }
}

/// Returns an epoch as Redis would: the time in milliseconds, or one more than the last epoch if that is later.
fn next_epoch(now: Timestamp) -> Epoch {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let next = |last: u64| now.unix_ms().max(last + 1);
    let update = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
    Epoch::new(update.map_or_else(next, next))
}
