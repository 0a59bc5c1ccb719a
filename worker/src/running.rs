//! The jobs this worker holds right now: what heartbeats name, reports speak for, and cancels reach.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crunch_common::broker::{LeaseKey, Report};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::JobContext;

/// How long a handler may take to return once it was asked to stop. A command gets TERM, five seconds, then KILL: one
/// second more than that.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(6);

/// Why a handler is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// Somebody canceled the job.
    Canceled,
    /// The attempt took longer than its timeout.
    TimedOut,
    /// The job is not wanted any more.
    DeadlineExceeded,
    /// The worker shuts down.
    Shutdown,
    /// The lease was taken back: whatever comes out would be refused.
    LeaseLost,
}

/// Asks one handler to stop; the first reason stays.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    token: CancellationToken,
    reason: Arc<OnceLock<StopReason>>,
}

impl Stop {
    pub(crate) fn fire(&self, reason: StopReason) {
        // The reason must stand before anybody can see the token fire.
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
    /// After this moment its heartbeats end even if its slot hangs: the job goes on elsewhere.
    pub(crate) abandoned_at: Instant,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct RunningJobs {
    jobs: Mutex<Jobs>,
    /// How many run, those that ended not counted.
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Jobs {
    running: HashMap<LeaseKey, Running>,
    /// Why none is to go on: set once, when the worker gives back what runs.
    stopping: Option<StopReason>,
    /// Ended, and their outcome not yet with Redis: they are still ours until when they would be given up.
    settling: HashMap<LeaseKey, Instant>,
}

/// How long past its hard deadline and the grace of a stop a lease is still named: the executor needs a moment to settle.
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
        self.note_count(jobs.running.len());
    }

    /// The attempt's time begins: it ends at another moment than was expected.
    pub(crate) fn will_end(&self, key: LeaseKey, ends: Instant) {
        if let Some(job) = self.lock().running.get_mut(&key) {
            job.abandoned_at = abandoned_at(ends);
        }
    }

    /// The attempt has ended; its lease is named until the outcome is with Redis, so that an outage does not cost it: until the
    /// attempt would have been given up, or for as long as the outcome may be on its way.
    pub(crate) fn ended(&self, key: LeaseKey, on_its_way: Duration) {
        let mut jobs = self.lock();
        if let Some(job) = jobs.running.remove(&key) {
            jobs.settling.insert(key, job.abandoned_at.max(Instant::now() + on_its_way));
        }
        self.note_count(jobs.running.len());
    }

    /// The lease is settled or lost.
    pub(crate) fn forget(&self, key: LeaseKey) {
        let mut jobs = self.lock();
        jobs.running.remove(&key);
        jobs.settling.remove(&key);
        self.note_count(jobs.running.len());
    }

    /// Whoever waits does so for the last to end; nobody needs to be woken for the others.
    fn note_count(&self, running: usize) {
        self.count.send_if_modified(|count| {
            *count = running;
            running == 0
        });
    }

    /// How many run, those that ended not counted.
    pub(crate) fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Waits until none runs.
    pub(crate) async fn idle(&self) {
        // The sender lives as long as this value.
        let _ = self.count.subscribe().wait_for(|&count| count == 0).await;
    }

    /// Leases to be named by the next heartbeat.
    pub(crate) fn leases(&self) -> Vec<LeaseKey> {
        let jobs = self.lock();
        let running = jobs.running.iter().map(|(&key, job)| (key, job.abandoned_at));
        let settling = jobs.settling.iter().map(|(&key, &abandoned_at)| (key, abandoned_at));
        let now = Instant::now();
        let held = running.chain(settling).filter(|&(_, abandoned_at)| now < abandoned_at);
        held.map(|(key, _)| key).collect()
    }

    /// What handlers reported and Redis has not confirmed.
    pub(crate) fn unconfirmed(&self) -> Vec<(JobContext, Report)> {
        let jobs = self.lock();
        let report = |(&key, job): (&LeaseKey, &Running)| {
            Some((job.context.clone(), job.context.unconfirmed(key)?))
        };
        jobs.running.iter().filter_map(report).collect()
    }

    /// Asks the holder of exactly that claim to stop; a later claim of the same job goes on.
    pub(crate) fn stop(&self, key: LeaseKey, reason: StopReason) {
        if let Some(job) = self.lock().running.get(&key) {
            job.stop.fire(reason);
        }
    }

    /// Asks all to stop, and whatever is still to come.
    pub(crate) fn stop_all(&self, reason: StopReason) {
        let mut jobs = self.lock();
        jobs.stopping = Some(reason);
        jobs.running.values().for_each(|job| job.stop.fire(reason));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Jobs> {
        // Whole entries go in and out: a panic elsewhere leaves nothing half done.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
