//! The interface between the executor and the code of one task, in Rust or in any other language.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use crunch_common::job::{ErrorCode, JobError, MAX_DURATION, Payload};

use crate::JobContext;

/// The future that a handler returns: of the result's bytes, or of the reason why there are none.
///
/// ```
/// use crunch_worker::{HandlerFuture, JobContext, Payload, TaskError};
///
/// fn run(job: JobContext, _payload: Payload) -> HandlerFuture {
///     Box::pin(async move {
///         job.cancellation().cancelled().await;
///         Err(TaskError::retryable("stopped"))
///     })
/// }
/// ```
pub type HandlerFuture = Pin<Box<dyn Future<Output = Result<Payload, TaskError>> + Send>>;

/// Runs the jobs of one task.
///
/// When [`JobContext::cancellation`] fires (the job was canceled, its time ran out, or the worker shuts down), the
/// handler must return soon; what it returns then is used only if the worker shuts down. If it does not return, its future is dropped after a
/// grace period, so anything that must not outlive the job (a child process) belongs in a value whose `Drop` ends it.
///
/// ```
/// use std::sync::Arc;
///
/// use crunch_worker::testing::Attempt;
/// use crunch_worker::{
///     Handler, HandlerFuture, JobContext, Payload, Task, TaskDescriptor,
/// };
///
/// /// Handlers that differ only in a value.
/// struct Shift(u8);
///
/// impl Handler for Shift {
///     fn run(&self, job: JobContext, payload: Payload) -> HandlerFuture {
///         let shift = self.0;
///         Box::pin(async move {
///             job.log(format!("shifting by {shift}"));
///             let text: String = serde_json::from_slice(&payload.bytes)?;
///             let shifted = text.bytes().map(|byte| char::from(byte.wrapping_add(shift)));
///             Ok(Payload::json(serde_json::to_vec(&shifted.collect::<String>())?))
///         })
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let names = [("shift.one", 1), ("shift.two", 2)];
/// let tasks = names.map(|(name, by)| {
///     Task::from_handler(TaskDescriptor::new(name.parse().unwrap()), Arc::new(Shift(by)))
/// });
/// let report = Attempt::of(tasks[1].clone()).payload("HAL").run().await;
/// assert_eq!(report.json::<String>(), "JCN");
/// # }
/// ```
pub trait Handler: Send + Sync + 'static {
    /// Runs one attempt.
    fn run(&self, job: JobContext, payload: Payload) -> HandlerFuture;
}

/// The reason why an attempt failed.
///
/// Every [`std::error::Error`] converts to a retryable one with the code `task_failed`, so `?` works in handlers.
///
/// ```
/// use crunch_worker::{JobContext, TaskError};
///
/// async fn count_lines(_job: JobContext, path: String) -> Result<usize, TaskError> {
///     if !path.ends_with(".csv") {
///         return Err(TaskError::permanent(format!("{path} is not a CSV file")));
///     }
///     // An I/O error is retried.
///     Ok(tokio::fs::read_to_string(path).await?.lines().count())
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskError {
    pub(crate) error: JobError,
    cause: Cause,
    /// When to make another attempt, instead of the task's backoff.
    pub(crate) retry_after: Option<Duration>,
}

/// What an attempt failed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Job,
    Machine,
    /// The handler puts the job off for so long.
    Snooze(Duration),
    /// The worker claimed the job too early: all who could run it are busy.
    Busy,
}

impl TaskError {
    /// Creates a failure that another attempt might not have.
    ///
    /// ```
    /// use crunch_worker::TaskError;
    ///
    /// fn check(status: u16) -> Result<(), TaskError> {
    ///     match status {
    ///         503 => Err(TaskError::retryable("the service is overloaded")),
    ///         _ => Ok(()),
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn retryable(message: impl Into<String>) -> Self {
        Self::of(JobError::retryable(ErrorCode::task_failed(), message))
    }

    /// Creates a failure that every other attempt would have.
    ///
    /// ```
    /// use crunch_worker::TaskError;
    ///
    /// fn check(status: u16) -> Result<(), TaskError> {
    ///     match status {
    ///         404 => Err(TaskError::permanent("there is no such customer")),
    ///         _ => Ok(()),
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::of(JobError::permanent(ErrorCode::task_failed(), message))
    }

    /// Creates the failure of a payload that the task does not accept; every other attempt would have it.
    ///
    /// ```
    /// use crunch_worker::TaskError;
    ///
    /// /// What a schema cannot express.
    /// fn check(from: u32, to: u32) -> Result<(), TaskError> {
    ///     if from > to {
    ///         return Err(TaskError::payload_invalid(format!("from: {from} is after {to}")));
    ///     }
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn payload_invalid(message: impl Into<String>) -> Self {
        Self::of(JobError::permanent(ErrorCode::payload_invalid(), message))
    }

    /// Creates a failure of this worker's machine, which cannot run the job now for that reason: for example, its disk
    /// is full, or a device is missing.
    ///
    /// The attempt is not charged. The job is released and retried after 1 s, doubling to 30 s, by any worker that has
    /// the task; its document shows the reason in `waiting_for`, at most 256 bytes of it. This worker claims no jobs of
    /// the task meanwhile, logs the reason once, and shows it in `GET /workers`. A job for which this is returned again
    /// and again never fails unless it has a deadline: never return it for a cause that may be the job itself. The
    /// reason must not contain anything of the payload.
    ///
    /// ```
    /// use std::fs::File;
    ///
    /// use crunch_worker::TaskError;
    ///
    /// fn open_device() -> Result<File, TaskError> {
    ///     File::open("/dev/video0")
    ///         .map_err(|error| TaskError::machine(format!("cannot open the camera: {error}")))
    /// }
    /// ```
    #[must_use]
    pub fn machine(reason: impl Into<String>) -> Self {
        Self { cause: Cause::Machine, ..Self::retryable(reason) }
    }

    /// Puts the job off: its next attempt is after `delay`, at most 365 days, and this one is not charged. For a job whose
    /// time has not come, such as a call that another service will answer later.
    ///
    /// The slot is free meanwhile, and so is the place in the job's group. The job is `scheduled`, and its document counts
    /// it in `snoozes`. With the 1001st the job fails with `snoozed_too_often`, and if it would not be due before its
    /// deadline, with `deadline_exceeded`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use crunch_worker::TaskError;
    ///
    /// fn check(is_ready: bool) -> Result<(), TaskError> {
    ///     if !is_ready {
    ///         return Err(TaskError::snooze(Duration::from_secs(30)));
    ///     }
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn snooze(delay: Duration) -> Self {
        let cause = Cause::Snooze(delay.min(MAX_DURATION));
        Self { cause, ..Self::retryable("put off by its handler") }
    }

    /// Creates the failure of a system that cannot start another thread.
    pub(crate) fn no_thread(error: &io::Error) -> Self {
        Self::machine(format!("cannot start a thread: {error}"))
    }

    /// Creates the failure of a worker that claimed the job too early: the job is released to the front of its queue.
    pub(crate) fn busy() -> Self {
        Self { cause: Cause::Busy, ..Self::retryable("claimed too early") }
    }

    /// Creates a failure of the job.
    pub(crate) fn of(error: JobError) -> Self {
        Self { error, cause: Cause::Job, retry_after: None }
    }

    /// Returns the reason if the machine is the cause.
    pub(crate) fn machine_fault(&self) -> Option<&str> {
        (self.cause == Cause::Machine).then_some(&self.error.message)
    }

    /// Returns for how long the handler puts the job off, if it does.
    pub(crate) fn snooze_delay(&self) -> Option<Duration> {
        match self.cause {
            Cause::Snooze(delay) => Some(delay),
            Cause::Job | Cause::Machine | Cause::Busy => None,
        }
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.cause == Cause::Busy
    }

    /// Sets when to make another attempt, instead of the task's backoff; at most 365 days. Has no effect on a permanent
    /// failure, after the last attempt, or if the machine is the cause.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use crunch_worker::TaskError;
    ///
    /// fn check(status: u16, retry_after_s: u64) -> Result<(), TaskError> {
    ///     match status {
    ///         429 => Err(TaskError::retryable("too many requests")
    ///             .retry_after(Duration::from_secs(retry_after_s))),
    ///         _ => Ok(()),
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay.min(MAX_DURATION));
        self
    }

    /// Replaces the error code; has no effect if the machine is the cause.
    ///
    /// ```
    /// use crunch_worker::TaskError;
    ///
    /// fn check(seats: u32) -> Result<(), TaskError> {
    ///     if seats == 0 {
    ///         let error = TaskError::retryable("all seats of the license are taken");
    ///         return Err(error.with_code("no_seat".parse()?));
    ///     }
    ///     Ok(())
    /// }
    /// assert!(check(0).is_err());
    /// ```
    #[must_use]
    pub fn with_code(mut self, code: ErrorCode) -> Self {
        self.error.code = code;
        self
    }
}

impl<E: std::error::Error> From<E> for TaskError {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        Self::retryable(message)
    }
}

impl From<TaskError> for JobError {
    fn from(error: TaskError) -> Self {
        error.error
    }
}
