//! Runs claimed jobs: finds the task, fetches the payload, runs an attempt (`attempt.rs`), and settles the lease.
//!
//! Does not decide about queues or slots, and never retries: it returns a settlement.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crunch_common::broker::{
    Claim, ClaimedJob, Lease, LeaseKey, ReleaseCause, Settled, Settlement, TaskNames,
};
use crunch_common::job::Payload;
use crunch_common::task::TaskName;
use crunch_common::telemetry::LogLimits;
use crunch_consumer::{Ended, Runner, Slot, Tallies};
use crunch_otel::Otel;
use tracing::Instrument;

use crate::attempt::{Ending, TimeLimit, attempt, deadline_exceeded, deadline_of, decide, span_of};
use crate::input::{Input, LONGEST_FETCH};
use crate::registry::Registry;
use crate::reporter::Reporter;
use crate::running::RunningJobs;
use crate::server::TaskOwners;
use crate::stop::{Stop, StopReason};
use crate::suspension::Suspensions;
use crate::{JobContext, Task, metrics};

/// The dependencies of running jobs.
#[derive(Debug)]
pub(crate) struct Executor {
    pub(crate) input: Input,
    pub(crate) registry: Registry,
    /// The names of all tasks of the registry, as exchanges carry them.
    pub(crate) all_tasks: TaskNames,
    pub(crate) running: Arc<RunningJobs>,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) suspensions: Arc<Suspensions>,
    pub(crate) tallies: Arc<Tallies>,
    /// The tasks of all pools of this worker.
    pub(crate) owners: Arc<TaskOwners>,
    /// Whether all pools of this worker read the same queues.
    pub(crate) same_queues: bool,
    pub(crate) log_limiters: LogLimiters,
    pub(crate) otel: Otel,
}

/// Limits of the log lines that are written for every job, for each task. Tasks beyond the usual number in a worker
/// share a limit.
#[derive(Debug)]
pub(crate) struct LogLimiters {
    /// Jobs of tasks that this worker cannot run from where they wait: one line a minute, whatever their number.
    unknown_task: LogLimits<TaskName>,
    /// Jobs that succeeded: one line a second.
    success: LogLimits<TaskName>,
}

impl Default for LogLimiters {
    fn default() -> Self {
        const TASKS: usize = 64;
        let every = |seconds| LogLimits::new(Duration::from_secs(seconds), TASKS);
        Self { unknown_task: every(60), success: every(1) }
    }
}

/// A claimed job that is ready to run and whose lease is in the heartbeats.
#[derive(Debug)]
pub(crate) struct Admitted {
    lease: Lease,
    job: Box<ClaimedJob>,
    task: Arc<Task>,
    limit: TimeLimit,
    stop: Stop,
    context: JobContext,
    /// When it was claimed, if its payload must be fetched first.
    waits_since: Option<Instant>,
}

impl Runner for Executor {
    type Job = Box<Admitted>;

    /// Finds the handler of a claimed job and limits its time. The slot is free again when the last clone of the job's
    /// context is dropped, so a handler that hangs keeps it.
    fn admit(&self, claim: Claim, slot: Slot) -> Result<Box<Admitted>, Settlement> {
        let Claim { lease, job, payload_is_to_come } = claim;
        let claimed = Instant::now();
        // Checked first: there may never be a worker with a handler for the task.
        let Some(limit) = TimeLimit::of(&job, claimed) else {
            return Err(lease.fail(deadline_exceeded()));
        };
        let Some(task) = self.registry.find(&job.task).cloned() else {
            return Err(self.release_unknown(lease, &job));
        };
        if self.suspensions.is_suspended(&job.task) {
            tracing::debug!(job.id = %job.id, job.task = %job.task, "the task is suspended on this worker, job released for a worker that can run it");
            return Err(lease.release(ReleaseCause::Unroutable));
        }
        let stop = Stop::default();
        metrics::claimed(&job);
        self.otel.consumed(&job);
        let context = JobContext::new(&job, limit.deadline(), stop.token().clone())
            .stopped_by(stop.clone())
            .occupying(slot);
        let waits_since = payload_is_to_come.then_some(claimed);
        let ends = waits_since.map_or(limit.ends, |since| limit.ends.max(since + LONGEST_FETCH));
        self.running.enter(lease.key(), context.clone(), stop.clone(), ends);
        // Boxed: it is moved several times until a task runs it.
        Ok(Box::new(Admitted { lease, job, task, limit, stop, context, waits_since }))
    }

    async fn run(&self, mut admitted: Box<Admitted>) -> Option<Ended> {
        let span = span_of(&admitted.job, admitted.context.trace());
        let fetched = self.fetch_payload(&mut admitted).instrument(span.clone()).await;
        let begun = Instant::now();
        let ending = match fetched {
            Ok(()) => self.attempt(&admitted).instrument(span.clone()).await,
            Err(ending) => ending,
        };
        let took = begun.elapsed();
        let _entered = span.enter();
        let Admitted { lease, job, context, .. } = *admitted;
        let key = lease.key();
        if let Ending::Returned(Ok(result)) = &ending {
            self.log_success(&job, result, took);
        }
        let settlement = classify(lease, &job, ending);
        metrics::ended(&job, settlement.as_ref(), took);
        self.otel.processed(&job, context.trace(), settlement.as_ref(), took);
        if let Some(settlement) = &settlement {
            self.tallies.ended(&job.queue, &job.task, settlement.word(), took);
        }
        let Some(settlement) = settlement else {
            self.running.lost(key);
            return None;
        };
        let is_large = settlement.is_large();
        self.running.ended(key, if is_large { LONGEST_FETCH } else { Duration::ZERO });
        Some(Ended { settlement, slot: context.slot().filter(|_| is_large) })
    }

    fn abandoned(&self, lease: LeaseKey) {
        self.running.lost(lease);
    }

    fn settled(&self, _lease: LeaseKey, settled: Settled) {
        if settled == Settled::Stale {
            metrics::stale();
        }
    }

    /// Returns the tasks it can run now. Without those that are suspended: it would claim the jobs it has just
    /// released.
    fn tasks(&self) -> TaskNames {
        match self.suspensions.any() {
            true => self.registry.names_except(|task| self.suspensions.is_suspended(task)),
            false => self.all_tasks.clone(),
        }
    }

    fn suspended_until(&self) -> Option<Instant> {
        self.suspensions.all_until(self.registry.task_names())
    }
}

impl Executor {
    /// Fetches the payload if it did not come with the claim; then the attempt's timeout begins.
    async fn fetch_payload(&self, admitted: &mut Admitted) -> Result<(), Ending> {
        let Some(since) = admitted.waits_since else { return Ok(()) };
        let Admitted { job, stop, .. } = &admitted;
        let (key, deadline) = (job.lease_key(), deadline_of(job, since));
        let payload = Box::pin(self.input.fetch(key, stop, deadline)).await;
        admitted.job.payload.bytes = payload.map_err(Ending::NoInput)?;
        let over = Ending::Stopped(StopReason::DeadlineExceeded);
        admitted.limit = TimeLimit::of(&admitted.job, since).ok_or(over)?;
        admitted.context.set_deadline(admitted.limit.deadline());
        self.running.will_end(key, admitted.limit.ends);
        Ok(())
    }

    /// Releases a job of a task that this pool does not have. Another pool of this worker may have it: pools claim from the
    /// same queue if tasks of both name it, or `CRUNCH_WORKER_QUEUES` lists it, and which task a job has is known only once
    /// it is claimed. The job is not run with the slot of this pool: only the slots of the other one show whether a child is
    /// free, or how many own jobs may run at once. It is parked, and the other pool claims it before what is behind it.
    fn release_unknown(&self, lease: Lease, job: &ClaimedJob) -> Settlement {
        let ClaimedJob { id, task, queue, .. } = job;
        let reads = self.owners.reads(task, queue);
        if reads.is_some_and(|reads| reads || self.same_queues) {
            tracing::debug!(job.id = %id, job.task = %task, "claimed by a pool of this worker that does not have the task, job released for the pool that has it");
        } else if let Some(left_out) = self.log_limiters.unknown_task.admit(task) {
            let why = match reads {
                Some(_) => {
                    "the part of this worker that has the task does not read the queue, job released for a worker that does (CRUNCH_WORKER_QUEUES is read by all parts)"
                }
                None => {
                    "no code for this task on this worker, job released for a worker that has it"
                }
            };
            tracing::warn!(job.id = %id, job.task = %task, queue = %queue, left_out, "{why}");
        }
        lease.release(ReleaseCause::Unroutable)
    }

    async fn attempt(&self, admitted: &Admitted) -> Ending {
        let Admitted { job, task, limit, stop, context, .. } = admitted;
        let payload = job.payload.clone();
        attempt(task, payload, context, (stop, limit), async |ending| {
            self.reporter.finish(job.lease_key(), context).await;
            self.record_machine_state(&job.task, ending);
        })
        .await
    }

    /// Records what the end of an attempt shows about the machine. An attempt that was stopped, has no input or did not
    /// start shows nothing.
    fn record_machine_state(&self, task: &TaskName, ending: &Ending) {
        match ending {
            Ending::MachineFault(reason) => self.suspensions.suspend(task, reason),
            Ending::Returned(_)
            | Ending::InvalidResult(_)
            | Ending::Panicked(_)
            | Ending::Snoozed(_) => {
                self.suspensions.started(task);
            }
            Ending::Busy | Ending::Stopped(_) | Ending::NoInput(_) => {}
        }
    }

    /// Logs the first success of a task immediately and then one a second, with the number of those between: an
    /// operator who tries a task sees that it works, and a busy worker does not spend its time on its log. At level
    /// debug every success is logged.
    fn log_success(&self, job: &ClaimedJob, result: &Payload, took: Duration) {
        let (result_bytes, took_ms) = (result.bytes.len(), took.as_millis());
        match self.log_limiters.success.admit(&job.task) {
            Some(left_out) => tracing::info!(result_bytes, took_ms, left_out, "job succeeded"),
            None => tracing::debug!(result_bytes, took_ms, "job succeeded"),
        }
    }
}

/// Settles the lease of an attempt that ended. Returns `None` if the lease was lost.
fn classify(lease: Lease, job: &ClaimedJob, ending: Ending) -> Option<Settlement> {
    decide(job, ending).map(|outcome| lease.settle(outcome))
}
