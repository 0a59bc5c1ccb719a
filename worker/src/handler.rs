//! What runs a job: the seam between the executor and the code of one task, in Rust or in any other language.

use std::future::Future;
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
pub struct TaskError(pub(crate) JobError);

impl TaskError {
    /// A failure that another attempt might cure.
    #[must_use]
    pub fn retryable(message: impl Into<String>) -> Self {
        Self(JobError::retryable(ErrorCode::task_failed(), message))
    }

    /// A failure that no other attempt can cure.
    #[must_use]
    pub fn permanent(message: impl Into<String>) -> Self {
        Self(JobError::permanent(ErrorCode::task_failed(), message))
    }

    /// The payload is not what the task takes; no other attempt can cure it.
    #[must_use]
    pub fn payload_invalid(message: impl Into<String>) -> Self {
        Self(JobError::permanent(ErrorCode::payload_invalid(), message))
    }

    /// The same failure under another code.
    #[must_use]
    pub fn with_code(mut self, code: ErrorCode) -> Self {
        self.0.code = code;
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
        error.0
    }
}
