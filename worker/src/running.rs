//! The jobs this worker runs right now: what heartbeats name, reports speak for, and cancels reach.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crunch_common::broker::{LeaseKey, Report};
use tokio_util::sync::CancellationToken;

use crate::JobContext;

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
    jobs: Mutex<HashMap<LeaseKey, Running>>,
}

/// How long past its hard deadline and the grace of a stop a lease is still named: the executor needs a moment to settle.
const SETTLING_MARGIN: Duration = Duration::from_secs(5);

impl RunningJobs {
    pub(crate) fn enter(&self, key: LeaseKey, context: JobContext, stop: Stop, ends: Instant) {
        let abandoned_at = ends + crate::executor::STOP_GRACE + SETTLING_MARGIN;
        self.lock().insert(key, Running { context, stop, abandoned_at });
    }

    pub(crate) fn leave(&self, key: LeaseKey) {
        self.lock().remove(&key);
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Leases to be named by the next heartbeat.
    pub(crate) fn leases(&self) -> Vec<LeaseKey> {
        let now = Instant::now();
        let jobs = self.lock();
        jobs.iter().filter(|(_, job)| now < job.abandoned_at).map(|(&key, _)| key).collect()
    }

    /// What handlers said since the last call, of those that said anything.
    pub(crate) fn take_said(&self) -> Vec<Report> {
        self.lock().iter().filter_map(|(&key, job)| job.context.take_report(key)).collect()
    }

    /// Asks the holder of exactly that claim to stop; a later claim of the same job goes on.
    pub(crate) fn stop(&self, key: LeaseKey, reason: StopReason) {
        if let Some(job) = self.lock().get(&key) {
            job.stop.fire(reason);
        }
    }

    pub(crate) fn stop_all(&self, reason: StopReason) {
        self.lock().values().for_each(|job| job.stop.fire(reason));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<LeaseKey, Running>> {
        // Whole entries go in and out: a panic elsewhere leaves nothing half done.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
