//! Sends one large result to Redis, separately from the exchanges, so that a slow connection does not keep other jobs
//! from being settled or claimed.
//!
//! Until the result has arrived its job occupies its slot, which bounds how much waits in memory, and its lease is
//! extended.

use std::sync::Arc;
use std::time::Duration;

use crunch_common::broker::{Broker, Error, Exchange, LeaseKey, Settled};
use crunch_common::job::Partition;
use crunch_common::telemetry::LogLimit;

use crate::{Leases, Reachability, Runner, Slot};

/// A settlement in transfer.
pub(crate) struct Upload<R> {
    pub(crate) broker: Broker,
    pub(crate) partition: Partition,
    pub(crate) leases: Arc<Leases>,
    pub(crate) runner: Arc<R>,
    pub(crate) lease: LeaseKey,
    /// Carries the settlement and nothing else.
    pub(crate) exchange: Exchange,
    /// Occupied until this value is dropped.
    pub(crate) _slot: Option<Arc<Slot>>,
}

impl<R: Runner> Upload<R> {
    /// Sends it until it is answered, or Redis cannot answer it.
    pub(crate) async fn run(self) {
        let mut reachability = Reachability::of("large result");
        let (mut given_up, mut unreadable) = (0, 0);
        loop {
            match self.broker.settle_apart(self.partition, &self.exchange, given_up).await {
                Ok(settled) => {
                    reachability.succeeded();
                    let settled = settled.first().copied().unwrap_or(Settled::Unknown);
                    return record(&self.leases, &*self.runner, self.lease, settled);
                }
                // The worker was reclaimed while it lives: its jobs run elsewhere.
                Err(error @ Error::StaleExchange) => return self.cannot_settle(&error),
                Err(error) if !error.is_transient() && unreadable > 0 => {
                    return self.cannot_settle(&error);
                }
                Err(error) => {
                    given_up += 1;
                    unreadable += usize::from(!error.is_transient());
                    tokio::time::sleep(reachability.failed(&error)).await;
                }
            }
        }
    }

    fn cannot_settle(&self, error: &Error) {
        tracing::error!(job.id = %self.lease.id, %error, "cannot settle the outcome of this job; it runs again when its lease expires");
        self.leases.forget(self.lease);
    }
}

/// Clients determine how many jobs they delete while they run.
static DELETED: LogLimit = LogLimit::new(Duration::from_secs(10));

/// Applies the answer to a settlement.
pub(crate) fn record(leases: &Leases, runner: &impl Runner, lease: LeaseKey, settled: Settled) {
    leases.forget(lease);
    match settled {
        Settled::Done => {}
        Settled::Stale => {
            tracing::warn!(job.id = %lease.id, epoch = %lease.epoch, "stale outcome dropped: another attempt holds the job");
        }
        Settled::Unknown => {
            if let Some(left_out) = DELETED.admit() {
                tracing::warn!(job.id = %lease.id, left_out, "outcome dropped: the job was deleted");
            }
        }
    }
    runner.settled(lease, settled);
}
