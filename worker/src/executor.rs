//! Runs one claimed job: finds its task, limits its time, runs the handler, and classifies the outcome.
//!
//! Does not decide about queues or slots, and never retries: it returns a settlement.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crunch_common::broker::{
    Claim, ClaimedJob, Lease, LeaseKey, Outcome, ReleaseCause, Settled, Settlement, SuspendedTask,
    TaskNames, Verdict,
};
use crunch_common::job::{ErrorCode, JobError, Payload, TraceContext};
use crunch_common::task::TaskName;
use crunch_common::telemetry::LogLimits;
use crunch_common::time::{Timestamp, whole_ms};
use crunch_consumer::{Ended, Runner, Slot};
use tokio::task::{JoinError, JoinHandle};
use tracing::Instrument;
use tracing::field::{Empty, display};

use crate::input::{Input, LONGEST_FETCH, NoInput};
use crate::registry::Registry;
use crate::reporter::Reporter;
use crate::running::{RunningJobs, STOP_GRACE, Stop, StopReason};
use crate::suspension::Suspensions;
use crate::{JobContext, Task, TaskError};
use crate::{metrics, results};

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
    pub(crate) log_limiters: LogLimiters,
}

/// Limits of the log lines that are written for every job, for each task. Tasks beyond the usual number in a worker
/// share a limit.
#[derive(Debug)]
pub(crate) struct LogLimiters {
    /// Jobs of tasks that this worker does not have: one line a minute, whatever their number.
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

/// How an attempt ended, before its meaning for the job is decided.
#[derive(Debug)]
pub(crate) enum Ending {
    Returned(Result<Payload, TaskError>),
    /// The result does not match the task's declaration.
    InvalidResult(JobError),
    Panicked(String),
    /// The machine could not run it, for this reason.
    MachineFault(String),
    Stopped(StopReason),
    NoInput(NoInput),
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
            if let Some(left_out) = self.log_limiters.unknown_task.admit(&job.task) {
                tracing::warn!(job.id = %job.id, job.task = %job.task, left_out, "no code for this task on this worker, job released for a worker that has it");
            }
            return Err(lease.release(ReleaseCause::Unroutable));
        };
        if self.suspensions.is_suspended(&job.task) {
            tracing::debug!(job.id = %job.id, job.task = %job.task, "the task is suspended on this worker, job released for a worker that can run it");
            return Err(lease.release(ReleaseCause::Unroutable));
        }
        let stop = Stop::default();
        metrics::claimed(&job);
        let context = JobContext::new(&job, limit.deadline(), stop.token().clone()).occupying(slot);
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
        let Some(settlement) = settlement else {
            self.running.lost(key);
            return None;
        };
        let is_large = settlement.is_large();
        self.running.ended(key, if is_large { LONGEST_FETCH } else { Duration::ZERO });
        Some(Ended { settlement, slot: context.slot().filter(|_| is_large) })
    }

    fn stop(&self, lease: LeaseKey, verdict: Verdict) {
        match verdict {
            Verdict::Held => {}
            Verdict::Cancel => self.running.stop(lease, StopReason::Canceled),
            Verdict::Lost => self.running.stop(lease, StopReason::LeaseLost),
        }
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

    fn suspended(&self) -> Vec<SuspendedTask> {
        self.suspensions.list()
    }

    async fn suspends(&self) {
        self.suspensions.changed().await;
    }

    fn suspended_until(&self) -> Option<Instant> {
        self.suspensions.all_until()
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

    async fn attempt(&self, admitted: &Admitted) -> Ending {
        let Admitted { job, task, limit, stop, context, .. } = admitted;
        let payload = job.payload.clone();
        attempt(task, payload, context, (stop, limit), async |ending| {
            self.reporter.finish(job.lease_key(), context).await;
            self.record_machine_state(&job.task, ending);
        })
        .await
    }

    /// Records what the end of an attempt shows about the machine. An attempt that was stopped or has no input shows
    /// nothing.
    fn record_machine_state(&self, task: &TaskName, ending: &Ending) {
        match ending {
            Ending::MachineFault(reason) => self.suspensions.suspend(task, reason),
            Ending::Returned(_) | Ending::InvalidResult(_) | Ending::Panicked(_) => {
                self.suspensions.started(task);
            }
            Ending::Stopped(_) | Ending::NoInput(_) => {}
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

/// Runs the handler, calls `before_check` when it has ended, and checks its result.
///
/// This function, [`decide`] and what they call are all that an attempt consists of; they need no Redis. So
/// `testing.rs` runs tasks exactly as a worker does.
pub(crate) async fn attempt(
    task: &Task,
    payload: Payload,
    context: &JobContext,
    (stop, limit): (&Stop, &TimeLimit),
    before_check: impl AsyncFnOnce(&Ending),
) -> Ending {
    tracing::debug!("job started");
    let (handler, context) = (task.handler.clone(), context.clone());
    // A handler may panic before it returns a future: that panic, too, must stay in its task.
    let run = async move { handler.run(context, payload).await };
    let handler = tokio::spawn(run.instrument(tracing::Span::current()));
    let ending = await_handler(handler, stop, limit).await;
    before_check(&ending).await;
    match ending {
        Ending::Returned(Ok(result)) => check_result(task, result).await,
        other => other,
    }
}

async fn check_result(task: &Task, result: Payload) -> Ending {
    match results::check(task, result).await {
        Ok(Ok(result)) => Ending::Returned(Ok(result)),
        Ok(Err(invalid)) => Ending::InvalidResult(invalid),
        // Only a runtime that shuts down drops a check.
        Err(_) => Ending::Stopped(StopReason::Shutdown),
    }
}

/// Settles the lease of an attempt that ended. Returns `None` if the lease was lost.
fn classify(lease: Lease, job: &ClaimedJob, ending: Ending) -> Option<Settlement> {
    decide(job, ending).map(|outcome| lease.settle(outcome))
}

/// Decides what the end of an attempt means for the job; `None` if its lease was lost.
pub(crate) fn decide(job: &ClaimedJob, ending: Ending) -> Option<Outcome> {
    let ending = match ending {
        Ending::NoInput(NoInput::Stopped(reason)) => Ending::Stopped(reason),
        ending => ending,
    };
    let error = match ending {
        Ending::Returned(Ok(result)) => return Some(Outcome::Complete(result)),
        Ending::InvalidResult(error) => error,
        Ending::Returned(Err(error)) => error.into(),
        Ending::Panicked(message) => JobError::retryable(ErrorCode::handler_panicked(), message),
        Ending::MachineFault(reason) => {
            tracing::debug!(reason, "job released: this machine cannot run it now");
            return Some(Outcome::Release(ReleaseCause::Machine(reason)));
        }
        Ending::Stopped(StopReason::TimedOut) => {
            let message = format!("the attempt took longer than {:?}", job.options.timeout);
            JobError::retryable(ErrorCode::timeout(), message)
        }
        Ending::Stopped(StopReason::DeadlineExceeded) => deadline_exceeded(),
        Ending::Stopped(StopReason::Canceled) => {
            tracing::info!("job canceled");
            let error = JobError::permanent(ErrorCode::canceled(), "canceled on request");
            return Some(Outcome::Cancel(error));
        }
        Ending::Stopped(StopReason::Shutdown) => {
            tracing::info!("job released: the worker shuts down");
            return Some(Outcome::Release(ReleaseCause::Shutdown));
        }
        Ending::Stopped(StopReason::LeaseLost) => {
            tracing::warn!("lease lost, the outcome of the attempt is dropped");
            return None;
        }
        Ending::NoInput(NoInput::TooLate) => {
            let message = format!("the payload did not arrive within {LONGEST_FETCH:?}");
            JobError::retryable(ErrorCode::timeout(), message)
        }
        // Redis decides by the claim: it rejects the release if another claim holds the job.
        Ending::NoInput(_) => return Some(Outcome::Release(ReleaseCause::Unreadable)),
    };
    Some(retry_or_fail(job, error))
}

/// Creates the attempt's span. If the job belongs to a trace, the span continues it, with the names of OpenTelemetry's
/// conventions for messaging.
pub(crate) fn span_of(job: &ClaimedJob, trace: Option<&TraceContext>) -> tracing::Span {
    let span = tracing::info_span!(
        "job", job.id = %job.id, job.task = %job.task, queue = %job.queue, attempt = job.attempt,
        trace_id = Empty, span_id = Empty, parent_span_id = Empty, messaging.system = Empty,
        messaging.operation.type = Empty, messaging.destination.name = Empty, messaging.message.id = Empty,
    );
    if let (Some(parent), Some(own)) = (&job.options.trace, trace) {
        span.record("trace_id", own.trace_id()).record("span_id", own.span_id());
        span.record("parent_span_id", parent.span_id()).record("messaging.system", "crunch");
        span.record("messaging.operation.type", "process");
        span.record("messaging.destination.name", job.queue.as_str());
        span.record("messaging.message.id", display(job.id));
    }
    span
}

fn retry_or_fail(job: &ClaimedJob, error: JobError) -> Outcome {
    if error.retryable && job.attempt < job.options.max_attempts {
        let delay = job.options.backoff.draw(job.attempt);
        tracing::info!(error.code = %error.code, message_bytes = error.message.len(), delay_ms = delay.as_millis(), "attempt failed, job will be retried");
        return Outcome::Retry { error, delay };
    }
    tracing::warn!(error.code = %error.code, message_bytes = error.message.len(), "job failed");
    Outcome::Fail(error)
}

fn deadline_exceeded() -> JobError {
    JobError::permanent(ErrorCode::deadline_exceeded(), "the deadline of the job has passed")
}

/// Waits for the handler; asks it to stop when its time is over or a stop is requested, and aborts it if it does not
/// stop.
async fn await_handler(
    mut handler: JoinHandle<Result<Payload, TaskError>>,
    stop: &Stop,
    limit: &TimeLimit,
) -> Ending {
    tokio::select! {
        biased;
        // Checked first: a handler that returns because it was asked to stop has not failed.
        () = stop.token().cancelled() => {}
        returned = &mut handler => return ending_of(returned),
        () = tokio::time::sleep_until(limit.ends.into()) => stop.fire(limit.reason),
    }
    let reason = stop.reason().unwrap_or(StopReason::Canceled);
    match tokio::time::timeout(STOP_GRACE, &mut handler).await {
        // Work that finished while the worker shuts down need not be done again.
        Ok(Ok(Ok(result))) if reason == StopReason::Shutdown => Ending::Returned(Ok(result)),
        Ok(_) => Ending::Stopped(reason),
        Err(_elapsed) => {
            tracing::error!("the handler does not stop, its slot stays occupied until it does");
            handler.abort();
            Ending::Stopped(reason)
        }
    }
}

fn ending_of(returned: Result<Result<Payload, TaskError>, JoinError>) -> Ending {
    match returned {
        Ok(Err(error)) => match error.machine_fault() {
            Some(reason) => Ending::MachineFault(reason.to_owned()),
            None => Ending::Returned(Err(error)),
        },
        Ok(result) => Ending::Returned(result),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => Ending::Panicked(panic_message(panic.as_ref())),
            // Only a runtime that shuts down drops a handler.
            Err(_) => Ending::Stopped(StopReason::Shutdown),
        },
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "panicked without a message".to_owned())
}

/// Returns the job's own deadline, if it has one; the time of the claim if it had passed before.
fn deadline_of(job: &ClaimedJob, claimed: Instant) -> Option<Instant> {
    let age = job.created_at.until(job.claimed_at);
    job.options.deadline.map(|deadline| claimed + deadline.saturating_sub(age))
}

/// When an attempt must end, and for which reason.
#[derive(Debug)]
pub(crate) struct TimeLimit {
    duration: Duration,
    ends: Instant,
    reason: StopReason,
}

impl TimeLimit {
    /// Returns the earlier of timeout, from now on, and deadline; `None` if the deadline has passed. Both are measured
    /// between instants of Redis' clock, or between instants of this machine since the claim, so that the time of day
    /// here does not matter.
    pub(crate) fn of(job: &ClaimedJob, claimed: Instant) -> Option<Self> {
        let now = Instant::now();
        let left = match job.options.deadline {
            Some(_) => deadline_of(job, claimed)?.checked_duration_since(now)?,
            None => Duration::MAX,
        };
        if left.is_zero() {
            return None;
        }
        let timeout = job.options.timeout;
        let (duration, reason) = if left < timeout {
            (left, StopReason::DeadlineExceeded)
        } else {
            (timeout, StopReason::TimedOut)
        };
        Some(Self { duration, ends: now + duration, reason })
    }

    /// Returns the end by this machine's clock, for the handler.
    pub(crate) fn deadline(&self) -> Timestamp {
        Timestamp::from_unix_ms(Timestamp::now().unix_ms().saturating_add(whole_ms(self.duration)))
    }
}
