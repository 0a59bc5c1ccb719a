//! Runs one claimed job: find its task, bound its time, run the handler, classify what came out.
//!
//! Never talks about queues or slots, and never retries by itself: what it returns is a settlement.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crunch_common::broker::{Claim, ClaimedJob, Lease, ReleaseCause, Settlement};
use crunch_common::job::{ErrorCode, JobError, Payload, TraceContext};
use crunch_common::task::TaskName;
use crunch_common::telemetry::LogLimits;
use crunch_common::time::{Timestamp, whole_ms};
use tokio::task::{JoinError, JoinHandle};
use tracing::Instrument;
use tracing::field::{Empty, display};

use crate::input::{Input, LONGEST_FETCH, NoInput};
use crate::registry::Registry;
use crate::reporter::Reporter;
use crate::running::{RunningJobs, STOP_GRACE, Stop, StopReason};
use crate::slots::Slot;
use crate::suspension::Suspensions;
use crate::{JobContext, Task, TaskError};
use crate::{metrics, results};

/// What running jobs needs.
#[derive(Debug)]
pub(crate) struct Executor {
    pub(crate) input: Input,
    pub(crate) registry: Registry,
    pub(crate) running: Arc<RunningJobs>,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) suspensions: Arc<Suspensions>,
    pub(crate) logged: Logged,
}

/// Log lines that come with every job, limited for each task. Tasks beyond what a worker usually has share a limit.
#[derive(Debug)]
pub(crate) struct Logged {
    /// Jobs of tasks that this worker does not have: a line a minute, whatever their number.
    unknown_task: LogLimits<TaskName>,
    /// Jobs that succeeded: a line a second.
    success: LogLimits<TaskName>,
}

impl Default for Logged {
    fn default() -> Self {
        const TASKS: usize = 64;
        let every = |seconds| LogLimits::new(Duration::from_secs(seconds), TASKS);
        Self { unknown_task: every(60), success: every(1) }
    }
}

/// A claimed job whose lease heartbeats name, ready to run.
#[derive(Debug)]
pub(crate) struct Admitted {
    lease: Lease,
    job: Box<ClaimedJob>,
    task: Arc<Task>,
    limit: TimeLimit,
    stop: Stop,
    context: JobContext,
    /// When it was claimed, if its payload is to be fetched first.
    waits_since: Option<Instant>,
}

/// An attempt that ended, to be settled.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) settlement: Settlement,
    /// Of one that is large: it holds its slot until it is settled.
    pub(crate) context: Option<JobContext>,
}

/// How an attempt ended, before it is known what that means for the job.
#[derive(Debug)]
enum Ending {
    Returned(Result<Payload, TaskError>),
    /// A result came that is not what the task promised.
    Unfit(JobError),
    Panicked(String),
    /// The machine could not run it, for this reason.
    MachineFault(String),
    Stopped(StopReason),
    NoInput(NoInput),
}

impl Executor {
    /// Finds the code for a claimed job and bounds its time; from here on heartbeats name its lease, even if it takes the
    /// runtime long to come round to running it. The slot is free again when the last clone of the job's context is gone,
    /// so a handler that hangs keeps it.
    ///
    /// # Errors
    /// The settlement of a job that is not to run here, or not any more.
    pub(crate) fn admit(&self, claim: Claim, slot: Slot) -> Result<Box<Admitted>, Settlement> {
        let Claim { lease, job, payload_is_to_come } = claim;
        let claimed = Instant::now();
        // First: nobody may come who has code for it.
        let Some(limit) = TimeLimit::of(&job, claimed) else {
            return Err(lease.fail(deadline_exceeded()));
        };
        let Some(task) = self.registry.find(&job.task).cloned() else {
            if let Some(left_out) = self.logged.unknown_task.admit(&job.task) {
                tracing::warn!(job.id = %job.id, job.task = %job.task, left_out, "no code for this task here: given back for a worker that has it");
            }
            return Err(lease.release(ReleaseCause::Unroutable));
        };
        if self.suspensions.is_suspended(&job.task) {
            tracing::debug!(job.id = %job.id, job.task = %job.task, "the task is suspended here: given back for a worker that can run it");
            return Err(lease.release(ReleaseCause::Unroutable));
        }
        let stop = Stop::default();
        metrics::claimed(&job);
        let context = JobContext::new(&job, limit.deadline(), stop.token().clone()).occupying(slot);
        let waits_since = payload_is_to_come.then_some(claimed);
        let ends = waits_since.map_or(limit.ends, |since| limit.ends.max(since + LONGEST_FETCH));
        self.running.enter(lease.key(), context.clone(), stop.clone(), ends);
        // Boxed: it is moved from hand to hand until a task runs it.
        Ok(Box::new(Admitted { lease, job, task, limit, stop, context, waits_since }))
    }

    /// Runs a job to the end of its attempt. Nothing is returned if the lease was lost: then nothing may be settled.
    pub(crate) async fn run(&self, mut admitted: Box<Admitted>) -> Option<Ended> {
        let span = span_of(&admitted.job, admitted.context.trace());
        let complete = self.complete(&mut admitted).instrument(span.clone()).await;
        let begun = Instant::now();
        let ending = match complete {
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
            self.running.forget(key);
            return None;
        };
        let is_large = settlement.is_large();
        self.running.ended(key, if is_large { LONGEST_FETCH } else { Duration::ZERO });
        Some(Ended { settlement, context: is_large.then_some(context) })
    }

    /// Fetches the payload if it did not come with the claim; then the attempt's timeout begins.
    async fn complete(&self, admitted: &mut Admitted) -> Result<(), Ending> {
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
        tracing::debug!("started");
        let (handler, context_of_handler) = (task.handler.clone(), context.clone());
        let payload = job.payload.clone();
        // A handler may panic before there is a future: that, too, must stay in its task.
        let run = async move { handler.run(context_of_handler, payload).await };
        let handler = tokio::spawn(run.instrument(tracing::Span::current()));
        let ending = supervise(handler, stop, limit).await;
        self.reporter.finish(job.lease_key(), context).await;
        self.note_machine(&job.task, &ending);
        match ending {
            Ending::Returned(Ok(result)) => self.examine(task, result).await,
            other => other,
        }
    }

    /// What an ending says about the machine. One that was asked for says nothing.
    fn note_machine(&self, task: &TaskName, ending: &Ending) {
        match ending {
            Ending::MachineFault(reason) => self.suspensions.suspend(task, reason),
            Ending::Returned(_) | Ending::Unfit(_) | Ending::Panicked(_) => {
                self.suspensions.started(task);
            }
            Ending::Stopped(_) | Ending::NoInput(_) => {}
        }
    }

    /// Logs the first success of a task at once and then one a second, with the number of those between: who tries a task sees that
    /// it works, and a busy worker does not spend its time on its log. At level debug every success is logged.
    fn log_success(&self, job: &ClaimedJob, result: &Payload, took: Duration) {
        let (result_bytes, took_ms) = (result.bytes.len(), took.as_millis());
        match self.logged.success.admit(&job.task) {
            Some(left_out) => tracing::info!(result_bytes, took_ms, left_out, "succeeded"),
            None => tracing::debug!(result_bytes, took_ms, "succeeded"),
        }
    }

    async fn examine(&self, task: &Task, result: Payload) -> Ending {
        match results::check(task, result).await {
            Ok(Ok(result)) => Ending::Returned(Ok(result)),
            Ok(Err(unfit)) => Ending::Unfit(unfit),
            // Only a runtime that is being shut down drops a check.
            Err(_) => Ending::Stopped(StopReason::Shutdown),
        }
    }
}

/// What an ending means for the job.
fn classify(lease: Lease, job: &ClaimedJob, ending: Ending) -> Option<Settlement> {
    let ending = match ending {
        Ending::NoInput(NoInput::Stopped(reason)) => Ending::Stopped(reason),
        ending => ending,
    };
    let error = match ending {
        Ending::Returned(Ok(result)) => {
            return Some(lease.complete(result));
        }
        Ending::Unfit(error) => error,
        Ending::Returned(Err(error)) => error.into(),
        Ending::Panicked(message) => JobError::retryable(ErrorCode::handler_panicked(), message),
        Ending::MachineFault(reason) => {
            tracing::debug!(reason, "given back: this machine cannot run it now");
            return Some(lease.release(ReleaseCause::Machine(reason)));
        }
        Ending::Stopped(StopReason::TimedOut) => {
            let message = format!("the attempt took longer than {:?}", job.options.timeout);
            JobError::retryable(ErrorCode::timeout(), message)
        }
        Ending::Stopped(StopReason::DeadlineExceeded) => deadline_exceeded(),
        Ending::Stopped(StopReason::Canceled) => {
            tracing::info!("canceled");
            let error = JobError::permanent(ErrorCode::canceled(), "canceled on request");
            return Some(lease.cancel(error));
        }
        Ending::Stopped(StopReason::Shutdown) => {
            tracing::info!("given back: the worker shuts down");
            return Some(lease.release(ReleaseCause::Shutdown));
        }
        Ending::Stopped(StopReason::LeaseLost) => {
            tracing::warn!("lease lost: what came out is dropped");
            return None;
        }
        Ending::NoInput(NoInput::TooLate) => {
            let message = format!("the payload did not arrive within {LONGEST_FETCH:?}");
            JobError::retryable(ErrorCode::timeout(), message)
        }
        // Redis judges by the claim: it is refused if another one holds the job.
        Ending::NoInput(_) => return Some(lease.release(ReleaseCause::Unreadable)),
    };
    Some(retry_or_fail(lease, job, error))
}

/// The attempt's span. Where the job belongs to a trace it goes on with it, in the words of OpenTelemetry's conventions for
/// messaging.
fn span_of(job: &ClaimedJob, trace: Option<&TraceContext>) -> tracing::Span {
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

fn retry_or_fail(lease: Lease, job: &ClaimedJob, error: JobError) -> Settlement {
    if error.retryable && job.attempt < job.options.max_attempts {
        let delay = job.options.backoff.draw(job.attempt);
        tracing::info!(error.code = %error.code, message_bytes = error.message.len(), delay_ms = delay.as_millis(), "failed, will be tried again");
        return lease.retry(error, delay);
    }
    tracing::warn!(error.code = %error.code, message_bytes = error.message.len(), "failed for good");
    lease.fail(error)
}

fn deadline_exceeded() -> JobError {
    JobError::permanent(ErrorCode::deadline_exceeded(), "the job was not wanted any more")
}

/// Waits for the handler; asks it to stop when its time is over or somebody else wants it to, and gives it up when it does
/// not.
async fn supervise(
    mut handler: JoinHandle<Result<Payload, TaskError>>,
    stop: &Stop,
    limit: &TimeLimit,
) -> Ending {
    tokio::select! {
        biased;
        // Looked at first: a handler that returns because it was asked to stop has not failed.
        () = stop.token().cancelled() => {}
        returned = &mut handler => return ending_of(returned),
        () = tokio::time::sleep_until(limit.ends.into()) => stop.fire(limit.reason),
    }
    let reason = stop.reason().unwrap_or(StopReason::Canceled);
    match tokio::time::timeout(STOP_GRACE, &mut handler).await {
        // Work that was finished while the worker shuts down need not be done again.
        Ok(Ok(Ok(result))) if reason == StopReason::Shutdown => Ending::Returned(Ok(result)),
        Ok(_) => Ending::Stopped(reason),
        Err(_elapsed) => {
            tracing::error!("the handler does not stop: its slot stays occupied until it does");
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
            // Only a runtime that is being shut down drops a handler.
            Err(_) => Ending::Stopped(StopReason::Shutdown),
        },
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "panicked without a message".to_owned())
}

/// When the job's own deadline is, if it has one; at once if it was over before it was claimed.
fn deadline_of(job: &ClaimedJob, claimed: Instant) -> Option<Instant> {
    let age = job.created_at.until(job.claimed_at);
    job.options.deadline.map(|deadline| claimed + deadline.saturating_sub(age))
}

/// When an attempt must end, and why then.
#[derive(Debug)]
pub(crate) struct TimeLimit {
    duration: Duration,
    ends: Instant,
    reason: StopReason,
}

impl TimeLimit {
    /// The nearer of timeout, from now on, and deadline; `None` if the deadline has passed. Both are measured from instants
    /// of Redis' clock, or between instants of this machine since it was claimed, so that the time of day here does not matter.
    fn of(job: &ClaimedJob, claimed: Instant) -> Option<Self> {
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

    /// The end by this machine's clock, for the handler to look at.
    fn deadline(&self) -> Timestamp {
        Timestamp::from_unix_ms(Timestamp::now().unix_ms().saturating_add(whole_ms(self.duration)))
    }
}
