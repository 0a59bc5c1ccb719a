//! The jobs this worker holds now: heartbeats contain their leases, their reports are collected here, and cancellations
//! stop them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crunch_common::broker::{LeaseKey, Report};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::JobContext;

/// How long a handler may take to return after it was asked to stop. A command gets TERM, five seconds, then KILL: one
/// second more than that.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(6);

/// Why a handler is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// The job was canceled.
    Canceled,
    /// The attempt took longer than its timeout.
    TimedOut,
    /// The job's deadline has passed.
    DeadlineExceeded,
    /// The worker shuts down.
    Shutdown,
    /// The lease was lost: Redis would reject the outcome.
    LeaseLost,
}

/// Asks one handler to stop; the first reason is kept.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    token: CancellationToken,
    reason: Arc<OnceLock<StopReason>>,
}

impl Stop {
    pub(crate) fn fire(&self, reason: StopReason) {
        // The reason must be set before any task can see the token fire.
        let _first_stays = self.reason.set(reason);
        self.token.cancel();
    }

    pub(crate) fn reason(&self) -> Option<StopReason> {
        self.reason.get().copied()
    }

    pub(crate) fn token(&self) -> &CancellationToken {
        &self.token
    }
}

/// One running job.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) context: JobContext,
    pub(crate) stop: Stop,
    /// After this time its lease is not in heartbeats any more, even if its slot hangs: the job continues elsewhere.
    pub(crate) abandoned_at: Instant,
}

/// All running jobs.
#[derive(Debug, Default)]
pub(crate) struct RunningJobs {
    jobs: Mutex<Jobs>,
    /// How many run, without those that ended.
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Jobs {
    running: HashMap<LeaseKey, Running>,
    /// Why all must stop: set once, when the worker releases what still runs.
    stopping: Option<StopReason>,
    /// Ended jobs whose outcome is not in Redis yet: their leases are held until these times.
    settling: HashMap<LeaseKey, Instant>,
}

/// How long after its hard deadline and the grace of a stop a lease is still in heartbeats: the executor needs a moment
/// to settle.
const SETTLING_MARGIN: Duration = Duration::from_secs(5);

fn abandoned_at(ends: Instant) -> Instant {
    ends + STOP_GRACE + SETTLING_MARGIN
}

impl RunningJobs {
    pub(crate) fn enter(&self, key: LeaseKey, context: JobContext, stop: Stop, ends: Instant) {
        let abandoned_at = abandoned_at(ends);
        let mut jobs = self.lock();
        if let Some(reason) = jobs.stopping {
            stop.fire(reason);
        }
        jobs.running.insert(key, Running { context, stop, abandoned_at });
        self.publish_count(jobs.running.len());
    }

    /// Changes the end of an attempt whose time begins now, later than expected.
    pub(crate) fn will_end(&self, key: LeaseKey, ends: Instant) {
        if let Some(job) = self.lock().running.get_mut(&key) {
            job.abandoned_at = abandoned_at(ends);
        }
    }

    /// Records the end of an attempt. Its lease stays in heartbeats until the outcome is in Redis, so that an outage
    /// does not cost it: until the attempt would have been abandoned, or for as long as the transfer of the outcome may
    /// take.
    pub(crate) fn ended(&self, key: LeaseKey, transfer_time: Duration) {
        let mut jobs = self.lock();
        if let Some(job) = jobs.running.remove(&key) {
            jobs.settling.insert(key, job.abandoned_at.max(Instant::now() + transfer_time));
        }
        self.publish_count(jobs.running.len());
    }

    /// Removes a lease that is settled or lost.
    pub(crate) fn forget(&self, key: LeaseKey) {
        let mut jobs = self.lock();
        jobs.running.remove(&key);
        jobs.settling.remove(&key);
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

    /// Returns the leases for the next heartbeat.
    pub(crate) fn leases(&self) -> Vec<LeaseKey> {
        let jobs = self.lock();
        let running = jobs.running.iter().map(|(&key, job)| (key, job.abandoned_at));
        let settling = jobs.settling.iter().map(|(&key, &abandoned_at)| (key, abandoned_at));
        let now = Instant::now();
        let held = running.chain(settling).filter(|&(_, abandoned_at)| now < abandoned_at);
        held.map(|(key, _)| key).collect()
    }

    /// Returns what handlers reported and Redis has not confirmed.
    pub(crate) fn unconfirmed(&self) -> Vec<(JobContext, Report)> {
        let jobs = self.lock();
        let report = |(&key, job): (&LeaseKey, &Running)| {
            Some((job.context.clone(), job.context.unconfirmed(key)?))
        };
        jobs.running.iter().filter_map(report).collect()
    }

    /// Asks the handler of exactly that claim to stop; a later claim of the same job continues.
    pub(crate) fn stop(&self, key: LeaseKey, reason: StopReason) {
        if let Some(job) = self.lock().running.get(&key) {
            job.stop.fire(reason);
        }
    }

    /// Asks all running jobs to stop, and all that start later.
    pub(crate) fn stop_all(&self, reason: StopReason) {
        let mut jobs = self.lock();
        jobs.stopping = Some(reason);
        jobs.running.values().for_each(|job| job.stop.fire(reason));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Jobs> {
        // Complete entries are added and removed: a panic elsewhere leaves no partial state.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
