//! Carries one large result to Redis, beside the exchanges, so that a slow line keeps nobody else's job from being settled or
//! claimed.
//!
//! Until the result is there its job holds its slot, which bounds how much waits in memory, and its lease is kept.

use std::sync::Arc;

use crunch_common::broker::{Broker, Error, Exchange, LeaseKey, Settled};
use crunch_common::job::Partition;

use super::Reachability;
use crate::JobContext;
use crate::executor::Executor;
use crate::metrics;

/// A settlement on its way.
pub(super) struct Upload {
    pub(super) broker: Broker,
    pub(super) partition: Partition,
    pub(super) executor: Arc<Executor>,
    pub(super) key: LeaseKey,
    /// Brings the settlement and nothing else.
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
                    redis.back();
                    let settled = settled.first().copied().unwrap_or(Settled::Unknown);
                    return note(&self.executor, self.key, settled);
                }
                // A worker that was reclaimed while it lives: its jobs run elsewhere.
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
        tracing::error!(job.id = %self.key.id, %error, "the outcome of this job cannot be settled: its lease will end");
        self.executor.running.forget(self.key);
    }
}

/// Notes what became of a settlement.
pub(super) fn note(executor: &Executor, key: LeaseKey, settled: Settled) {
    executor.running.forget(key);
    match settled {
        Settled::Done => {}
        Settled::Stale => {
            metrics::stale();
            tracing::warn!(job.id = %key.id, epoch = %key.epoch, "stale: another attempt holds the job, this outcome is dropped");
        }
        Settled::Unknown => {
            tracing::warn!(job.id = %key.id, "the job is gone, its outcome is dropped");
        }
    }
}
