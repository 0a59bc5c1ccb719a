//! The jobs that run now: their reports are collected here, and cancellations stop them. From here it is also determined
//! for how long heartbeats extend their leases.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crunch_common::broker::{LeaseKey, Report};
use crunch_consumer::Leases;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::JobContext;
use crate::stop::{STOP_GRACE, Stop, StopReason};

/// One running job.
#[derive(Debug)]
struct Running {
    context: JobContext,
    stop: Stop,
}

/// All running jobs.
#[derive(Debug, Default)]
pub(crate) struct RunningJobs {
    leases: Arc<Leases>,
    jobs: Mutex<Jobs>,
    /// How many run, without those that ended.
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Jobs {
    running: HashMap<LeaseKey, Running>,
    /// Why all must stop: set once, when the worker releases what still runs.
    stopping: Option<StopReason>,
}

/// How long after its hard deadline and the grace period of a stop a lease is still in heartbeats: the executor needs a
/// moment to settle.
const SETTLING_MARGIN: Duration = Duration::from_secs(5);

/// After this time the lease is not extended any more, even if the slot hangs: the job continues elsewhere.
fn abandoned_at(ends: Instant) -> Instant {
    ends + STOP_GRACE + SETTLING_MARGIN
}

impl RunningJobs {
    /// Returns the leases, for heartbeats.
    pub(crate) fn leases(&self) -> Arc<Leases> {
        self.leases.clone()
    }

    pub(crate) fn enter(&self, key: LeaseKey, context: JobContext, stop: Stop, ends: Instant) {
        let mut jobs = self.jobs.lock();
        if let Some(reason) = jobs.stopping {
            stop.fire(reason);
        }
        jobs.running.insert(key, Running { context, stop });
        self.leases.hold(key, abandoned_at(ends));
        self.publish_count(jobs.running.len());
    }

    /// Changes the end of an attempt whose time begins now, later than expected.
    pub(crate) fn will_end(&self, key: LeaseKey, ends: Instant) {
        self.leases.hold(key, abandoned_at(ends));
    }

    /// Records the end of an attempt. Its lease is held until the outcome is in Redis, so that an outage does not cost
    /// it: until the attempt would have been abandoned, or for as long as the transfer of the outcome may take.
    pub(crate) fn ended(&self, key: LeaseKey, transfer_time: Duration) {
        self.leases.prolong(key, Instant::now() + transfer_time);
        self.remove(key);
    }

    /// Records the end of an attempt whose lease is lost.
    pub(crate) fn lost(&self, key: LeaseKey) {
        self.leases.forget(key);
        self.remove(key);
    }

    fn remove(&self, key: LeaseKey) {
        let mut jobs = self.jobs.lock();
        jobs.running.remove(&key);
        self.publish_count(jobs.running.len());
    }

    /// Waiters wait for the last job to end; they need not be woken for the others.
    fn publish_count(&self, running: usize) {
        self.count.send_if_modified(|count| {
            *count = running;
            running == 0
        });
    }

    /// Returns how many run, without those that ended.
    pub(crate) fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Waits until no job runs.
    pub(crate) async fn idle(&self) {
        // The sender lives as long as this value.
        let _ = self.count.subscribe().wait_for(|&count| count == 0).await;
    }

    /// Returns what handlers reported and Redis has not confirmed.
    pub(crate) fn unconfirmed(&self) -> Vec<(JobContext, Report)> {
        let jobs = self.jobs.lock();
        let report = |(&key, job): (&LeaseKey, &Running)| {
            Some((job.context.clone(), job.context.unconfirmed(key)?))
        };
        jobs.running.iter().filter_map(report).collect()
    }

    /// Asks the handler of exactly that claim to stop; a later claim of the same job continues.
    pub(crate) fn stop(&self, key: LeaseKey, reason: StopReason) {
        if let Some(job) = self.jobs.lock().running.get(&key) {
            job.stop.fire(reason);
        }
    }

    /// Asks all running jobs to stop, and all that start later.
    pub(crate) fn stop_all(&self, reason: StopReason) {
        let mut jobs = self.jobs.lock();
        jobs.stopping = Some(reason);
        jobs.running.values().for_each(|job| job.stop.fire(reason));
    }
}

/// Asks all running jobs to stop when it is dropped.
#[derive(Debug)]
pub(crate) struct StopOnDrop(pub(crate) Arc<RunningJobs>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop_all(StopReason::Shutdown);
    }
}
