//! One attempt of a job: limits its time, runs the handler, and decides what its end means for the job.
//!
//! Needs no Redis, so tests of tasks (`testing.rs`) run exactly what a worker runs. Never settles: `executor.rs` does.

use std::any::Any;
use std::time::{Duration, Instant};

use crunch_common::broker::{ClaimedJob, Outcome, ReleaseCause};
use crunch_common::job::{ErrorCode, JobError, Payload, TraceContext};
use crunch_common::time::{Timestamp, whole_ms};
use tokio::task::{JoinError, JoinHandle};
use tracing::Instrument;
use tracing::field::{Empty, display};

use crate::input::{LONGEST_FETCH, NoInput};
use crate::results;
use crate::stop::{STOP_GRACE, Stop, StopReason};
use crate::{JobContext, Task, TaskError};

/// How an attempt ended, before its meaning for the job is decided.
#[derive(Debug)]
pub(crate) enum Ending {
    Returned(Result<Payload, TaskError>),
    /// The result does not match the task's declaration.
    InvalidResult(JobError),
    Panicked(String),
    /// The machine could not run it, for this reason.
    MachineFault(String),
    /// It was claimed too early.
    Busy,
    /// The handler put the job off for so long.
    Snoozed(Duration),
    Stopped(StopReason),
    NoInput(NoInput),
}

/// Runs the handler, calls `before_check` when it has ended, and checks its result.
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

/// Decides what the end of an attempt means for the job; `None` if its lease was lost.
pub(crate) fn decide(job: &ClaimedJob, ending: Ending) -> Option<Outcome> {
    let ending = match ending {
        Ending::NoInput(NoInput::Stopped(reason)) => Ending::Stopped(reason),
        ending => ending,
    };
    let error = match ending {
        Ending::Returned(Ok(result)) => return Some(Outcome::Complete(result)),
        Ending::InvalidResult(error) => error,
        Ending::Returned(Err(TaskError { error, retry_after, .. })) => {
            return Some(retry_or_fail(job, error, retry_after));
        }
        Ending::Panicked(message) => JobError::retryable(ErrorCode::handler_panicked(), message),
        Ending::MachineFault(reason) => {
            tracing::debug!(reason, "job released: this machine cannot run it now");
            return Some(Outcome::Release(ReleaseCause::Machine(reason)));
        }
        Ending::Busy => {
            tracing::debug!("job released: it was claimed too early");
            return Some(Outcome::Release(ReleaseCause::Worker));
        }
        Ending::Snoozed(delay) => {
            tracing::info!(delay_ms = whole_ms(delay), "job put off by its handler");
            return Some(Outcome::Snooze { delay });
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
            return Some(Outcome::Release(ReleaseCause::Worker));
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
    Some(retry_or_fail(job, error, None))
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

fn retry_or_fail(job: &ClaimedJob, error: JobError, after: Option<Duration>) -> Outcome {
    if error.retryable && job.attempt < job.options.max_attempts {
        let delay = after.unwrap_or_else(|| job.options.backoff.draw(job.attempt));
        tracing::info!(error.code = %error.code, message_bytes = error.message.len(), delay_ms = delay.as_millis(), "attempt failed, job will be retried");
        return Outcome::Retry { error, delay };
    }
    tracing::warn!(error.code = %error.code, message_bytes = error.message.len(), "job failed");
    Outcome::Fail(error)
}

pub(crate) fn deadline_exceeded() -> JobError {
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
        Ok(Err(error)) if error.is_busy() => Ending::Busy,
        Ok(Err(error)) => match (error.machine_fault(), error.snooze_delay()) {
            (Some(reason), _) => Ending::MachineFault(reason.to_owned()),
            (None, Some(delay)) => Ending::Snoozed(delay),
            (None, None) => Ending::Returned(Err(error)),
        },
        Ok(result) => Ending::Returned(result),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => Ending::Panicked(panic_message(panic.as_ref())),
            // Only a runtime that shuts down drops a handler.
            Err(_) => Ending::Stopped(StopReason::Shutdown),
        },
    }
}

pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "panicked without a message".to_owned())
}

/// Returns the job's own deadline, if it has one; the time of the claim if it had passed before.
pub(crate) fn deadline_of(job: &ClaimedJob, claimed: Instant) -> Option<Instant> {
    let age = job.created_at.until(job.claimed_at);
    job.options.deadline.map(|deadline| claimed + deadline.saturating_sub(age))
}

/// When an attempt must end, and for which reason.
#[derive(Debug)]
pub(crate) struct TimeLimit {
    duration: Duration,
    pub(crate) ends: Instant,
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
