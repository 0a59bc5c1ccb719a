//! Sends one large result to Redis, separately from the exchanges, so that a slow connection does not keep other jobs
//! from being settled or claimed.
//!
//! Until the result has arrived its job occupies its slot, which bounds how much waits in memory, and its lease is
//! extended.

use std::sync::Arc;

use crunch_common::broker::{Broker, Error, Exchange, LeaseKey, Settled};
use crunch_common::job::Partition;

use super::Reachability;
use crate::JobContext;
use crate::executor::Executor;
use crate::metrics;

/// A settlement in transfer.
pub(super) struct Upload {
    pub(super) broker: Broker,
    pub(super) partition: Partition,
    pub(super) executor: Arc<Executor>,
    pub(super) key: LeaseKey,
    /// Carries the settlement and nothing else.
    pub(super) exchange: Exchange,
    /// Dropped with this value: then the slot is idle.
    pub(super) _context: Option<JobContext>,
}

impl Upload {
    /// Sends it until it is answered, or Redis cannot answer it.
    pub(super) async fn run(self) {
        let mut redis = Reachability::of("large result");
        let (mut given_up, mut unreadable) = (0, 0);
        loop {
            match self.broker.settle_apart(self.partition, &self.exchange, given_up).await {
                Ok(settled) => {
                    redis.succeeded();
                    let settled = settled.first().copied().unwrap_or(Settled::Unknown);
                    return note(&self.executor, self.key, settled);
                }
                // The worker was reclaimed while it lives: its jobs run elsewhere.
                Err(error @ Error::StaleExchange) => return self.cannot_settle(&error),
                Err(error) if !error.is_transient() && unreadable > 0 => {
                    return self.cannot_settle(&error);
                }
                Err(error) => {
                    given_up += 1;
                    unreadable += usize::from(!error.is_transient());
                    tokio::time::sleep(redis.failed(&error)).await;
                }
            }
        }
    }

    fn cannot_settle(&self, error: &Error) {
        tracing::error!(job.id = %self.key.id, %error, "cannot settle the outcome of this job; it runs again when its lease expires");
        self.executor.running.forget(self.key);
    }
}

/// Applies the answer to a settlement.
pub(super) fn note(executor: &Executor, key: LeaseKey, settled: Settled) {
    executor.running.forget(key);
    match settled {
        Settled::Done => {}
        Settled::Stale => {
            metrics::stale();
            tracing::warn!(job.id = %key.id, epoch = %key.epoch, "stale outcome dropped: another attempt holds the job");
        }
        Settled::Unknown => {
            tracing::warn!(job.id = %key.id, "outcome dropped: the job was deleted");
        }
    }
}
