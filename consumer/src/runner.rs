//! The interfaces between a consumer and what runs its jobs.

use std::future::{Future, pending};
use std::sync::Arc;
use std::time::Instant;

use crunch_common::broker::{
    Claim, LeaseKey, ServerInfo, Settled, Settlement, SuspendedTask, TaskNames, Verdict,
    WorkerState,
};

use crate::Slot;

/// Runs the jobs that one pool of a consumer claims.
pub trait Runner: Send + Sync + 'static {
    /// A claimed job that is ready to run.
    type Job: Send + 'static;

    /// Accepts a claimed job. From here on its lease must be in the consumer's [`Leases`](crate::Leases), even if the
    /// runtime takes long to run it. The slot is occupied until it is dropped.
    ///
    /// # Errors
    /// The settlement of a job that must not run here, or not any more.
    fn admit(&self, claim: Claim, slot: Slot) -> Result<Self::Job, Settlement>;

    /// Runs a job until its attempt ends. Returns `None` if its lease was lost: then nothing may be settled.
    fn run(&self, job: Self::Job) -> impl Future<Output = Option<Ended>> + Send;

    /// Receives the lease of an attempt whose [`Runner::run`] panicked: it is given up, and the job runs again.
    fn abandoned(&self, _lease: LeaseKey) {}

    /// Receives the answer to a settlement.
    fn settled(&self, _lease: LeaseKey, _settled: Settled) {}

    /// Returns the tasks whose jobs it can run now.
    fn tasks(&self) -> TaskNames;

    /// Returns until when it can run no job at all; none is claimed meanwhile.
    fn suspended_until(&self) -> Option<Instant> {
        None
    }
}

/// Knows the running jobs of all pools: heartbeats describe them, and pass on which must stop.
pub trait Monitor: Send + Sync + 'static {
    /// Asks the attempt of exactly that claim to stop: its job is to be canceled, or its lease is lost.
    fn stop(&self, lease: LeaseKey, verdict: Verdict);

    /// Returns how many jobs run.
    fn busy(&self) -> usize;

    /// Returns the tasks whose jobs cannot run for now, for operators.
    fn suspended(&self) -> Vec<SuspendedTask> {
        Vec::new()
    }

    /// Returns the state of the worker's servers, for operators.
    fn servers(&self) -> Vec<ServerInfo> {
        Vec::new()
    }

    /// Receives what an operator requests that the process does. The consumer itself claims no jobs unless it is to be
    /// running.
    fn wanted(&self, _state: WorkerState) {}

    /// Waits until an operator may have requested something: the reply to the next heartbeat has it, which is sent at once.
    fn requested(&self) -> impl Future<Output = ()> + Send {
        pending()
    }

    /// Waits until operators must see something new: the next heartbeat is sent at once.
    fn changed(&self) -> impl Future<Output = ()> + Send {
        pending()
    }
}

/// An attempt that ended and must be settled.
#[derive(Debug)]
pub struct Ended {
    /// What it means for the job.
    pub settlement: Settlement,
    /// Occupied until the outcome is in Redis. Set if the settlement is large, which bounds how much waits in memory.
    pub slot: Option<Arc<Slot>>,
}
