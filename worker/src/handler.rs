//! What runs a job: the seam between the executor and the code of one task, in Rust or in any other language.

use std::future::Future;
use std::io;
use std::pin::Pin;

use crunch_common::job::{ErrorCode, JobError, Payload};

use crate::JobContext;

/// What a handler gives back: the result's bytes, or why there is none.
pub type HandlerFuture = Pin<Box<dyn Future<Output = Result<Payload, TaskError>> + Send>>;

/// Code for one task.
///
/// When [`JobContext::cancellation`] fires (somebody canceled the job, its time ran out, or the worker shuts down) the
/// handler is to return soon; what it returns is then dropped. If it does not, its future is dropped after a grace, so
/// whatever must not outlive the job (a child process) belongs to a value whose `Drop` ends it.
pub trait Handler: Send + Sync + 'static {
    /// Runs one attempt.
    fn run(&self, job: JobContext, payload: Payload) -> HandlerFuture;
}

/// Why an attempt failed.
///
/// Every [`std::error::Error`] becomes a retryable one with the code `task_failed`, so `?` works in handlers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskError {
    pub(crate) error: JobError,
    /// Whether the machine is to blame, and not the job.
    of_machine: bool,
}

impl TaskError {
    /// A failure that another attempt might cure.
    #[must_use]
    pub fn retryable(message: impl Into<String>) -> Self {
        Self::of(JobError::retryable(ErrorCode::task_failed(), message))
    }

    /// A failure that no other attempt can cure.
    #[must_use]
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::of(JobError::permanent(ErrorCode::task_failed(), message))
    }

    /// The payload is not what the task takes; no other attempt can cure it.
    #[must_use]
    pub fn payload_invalid(message: impl Into<String>) -> Self {
        Self::of(JobError::permanent(ErrorCode::payload_invalid(), message))
    }

    /// This worker's machine cannot run the job now, for that reason: its disk is full, or a device is missing, say.
    ///
    /// The attempt is not charged. The job is given back and tried again after 1 s, doubling to 30 s, by any worker that has the
    /// task; its document shows the reason in `waiting_for`, at most 256 bytes of it. This worker takes no jobs of the task meanwhile,
    /// logs the reason once, and shows it in `GET /workers`. A job for which this is returned again and
    /// again never fails unless it has a deadline: never return it for what the job itself may cause. Nothing of the payload
    /// belongs into the reason.
    #[must_use]
    pub fn machine(reason: impl Into<String>) -> Self {
        Self { of_machine: true, ..Self::retryable(reason) }
    }

    /// The system has no thread to give.
    pub(crate) fn no_thread(error: &io::Error) -> Self {
        Self::machine(format!("cannot start a thread: {error}"))
    }

    /// A failure of the job.
    pub(crate) fn of(error: JobError) -> Self {
        Self { error, of_machine: false }
    }

    /// Why the machine is to blame, if it is.
    pub(crate) fn machine_fault(&self) -> Option<&str> {
        self.of_machine.then_some(&self.error.message)
    }

    /// The same failure under another code; of no effect where the machine is to blame.
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
