//! Why the command `run` has no result, and its exit code.

use std::io;
use std::time::Duration;

use crunch_common::broker::ReleaseCause;
use crunch_common::job::{InvalidMetadata, JobError};
use crunch_common::task::{TaskDescriptor, TaskName};

use crate::testing::Outcome;

/// The reason why the command `run` has no result.
///
/// ```
/// use crunch_worker::{Error, RunError};
///
/// fn is_retryable(error: &Error) -> bool {
///     matches!(error, Error::Run(RunError::Retried { .. } | RunError::Released { .. }))
/// }
/// assert!(!is_retryable(&Error::Run(RunError::Interrupted)));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The worker has no such task.
    #[error("there is no task {name:?}; this worker has {}", known.join(", "))]
    UnknownTask {
        /// The requested name.
        name: String,
        /// The names of all tasks.
        known: Vec<String>,
    },
    /// A label cannot be added.
    #[error("--metadata {key:?}: {source}")]
    Metadata {
        /// Its key.
        key: String,
        /// What is wrong.
        source: InvalidMetadata,
    },
    /// The API would reject the payload.
    #[error("the API would reject this payload: {reason}")]
    Rejected {
        /// The API's message; several violations of a schema have a line each.
        reason: String,
    },
    /// The attempt failed, and a worker would retry the job.
    #[error("{task} failed ({}), a worker would retry the job: {}", error.code, error.message)]
    Retried {
        /// The task.
        task: TaskName,
        /// Why it failed.
        error: JobError,
    },
    /// The job failed for good.
    #[error("{task} failed ({}), a worker would not retry the job: {}", error.code, error.message)]
    Failed {
        /// The task.
        task: TaskName,
        /// Why it failed.
        error: JobError,
    },
    /// This machine cannot run the task.
    #[error("this machine cannot run {task}, a worker would release the job, uncharged: {reason}")]
    Released {
        /// The task.
        task: TaskName,
        /// Why not.
        reason: String,
    },
    /// The handler puts the job off.
    #[error("{task} puts the job off: a worker would run it again after {delay:?}, uncharged")]
    Snoozed {
        /// The task.
        task: TaskName,
        /// How long the job would wait.
        delay: Duration,
    },
    /// No child of a server could start.
    #[error("no child of server {name} could start: {problem}")]
    Server {
        /// The name of the server.
        name: String,
        /// Why not.
        problem: String,
    },
    /// A signal interrupted the command.
    #[error("interrupted: the job was canceled")]
    Interrupted,
    /// The payload could not be read, or the result not written.
    #[error("cannot read the payload or write the result: {0}")]
    System(#[from] io::Error),
}

impl RunError {
    /// Returns the exit code: 2 for a wrong call or payload, 130 after an interruption, like a shell, else 1.
    ///
    /// ```
    /// assert_eq!(crunch_worker::RunError::Interrupted.exit_code(), 130);
    /// ```
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::UnknownTask { .. } | Self::Metadata { .. } | Self::Rejected { .. } => 2,
            Self::Retried { .. }
            | Self::Failed { .. }
            | Self::Released { .. }
            | Self::Snoozed { .. }
            | Self::Server { .. }
            | Self::System(_) => 1,
            Self::Interrupted => 130,
        }
    }

    /// Returns the error of an attempt that ended like this, without a result.
    pub(super) fn of(task: &TaskDescriptor, outcome: Outcome) -> Self {
        let task = task.name.clone();
        match outcome {
            Outcome::Retried { error, .. } => Self::Retried { task, error },
            Outcome::Failed(error) => Self::Failed { task, error },
            Outcome::Rejected(reason) => Self::Rejected { reason },
            Outcome::Released(ReleaseCause::Machine(reason)) => Self::Released { task, reason },
            Outcome::Snoozed { delay } => Self::Snoozed { task, delay },
            // Only an interruption cancels the job here, and only the end of the runtime releases it otherwise.
            Outcome::Canceled | Outcome::Released(_) | Outcome::Succeeded => Self::Interrupted,
        }
    }
}
