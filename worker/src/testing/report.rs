//! What happened in an attempt.

use std::time::Duration;

use crunch_common::broker::{self, Progress, ReleaseCause};
use crunch_common::job::{JobError, Payload};
use serde::de::DeserializeOwned;

use super::recorder::Recorder;

/// What happened in an attempt.
///
/// ```
/// # use crunch_worker::testing::{Attempt, Outcome};
/// # use crunch_worker::{JobContext, Task, TaskError};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// async fn greet(job: JobContext, name: String) -> Result<String, TaskError> {
///     job.progress(0.5, "thinking");
///     job.log(format!("greeting {name}"));
///     Ok(format!("Hello, {name}!"))
/// }
///
/// let report = Attempt::of(Task::new("greet", greet)).payload("Ada").run().await;
/// assert_eq!(report.outcome, Outcome::Succeeded);
/// assert_eq!(report.json::<String>(), "Hello, Ada!");
/// assert_eq!((report.progress[0].fraction, report.log), (0.5, vec!["greeting Ada".to_owned()]));
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// The result, if it succeeded.
    pub result: Option<Payload>,
    /// All progress reports, oldest first; the newest 6000. Clients of a worker see the latest of every 100 ms.
    pub progress: Vec<Progress>,
    /// The lines of the job's log, oldest first; the newest 256.
    pub log: Vec<String>,
}

/// How an attempt ended, and what a worker would do next.
///
/// ```
/// # use crunch_worker::testing::{Attempt, Outcome};
/// # use crunch_worker::{JobContext, ReleaseCause, Task, TaskError};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// async fn fail(_job: JobContext, status: u16) -> Result<(), TaskError> {
///     Err(match status {
///         503 => TaskError::retryable("overloaded"),
///         507 => TaskError::machine("no space left"),
///         _ => TaskError::permanent("rejected"),
///     })
/// }
///
/// let outcome = async |status: u16| {
///     Attempt::of(Task::new("fail", fail)).payload(status).run().await.outcome
/// };
/// assert!(matches!(outcome(503).await, Outcome::Retried { error, .. } if error.retryable));
/// assert!(matches!(outcome(400).await, Outcome::Failed(error) if error.message == "rejected"));
/// assert!(matches!(outcome(507).await, Outcome::Released(ReleaseCause::Machine(_))));
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// The job succeeded.
    Succeeded,
    /// The attempt failed, and the job is retried.
    Retried {
        /// Why it failed.
        error: JobError,
        /// How long the job waits: random, up to the bound of the task's backoff.
        delay: Duration,
    },
    /// The job failed for good.
    Failed(JobError),
    /// The job is released, and its attempt is not charged: the machine cannot run it, or the worker shuts down.
    Released(ReleaseCause),
    /// The handler puts the job off, and its attempt is not charged.
    Snoozed {
        /// How long the job waits.
        delay: Duration,
    },
    /// The job was canceled.
    Canceled,
    /// The API would reject the payload for this reason. The handler did not run.
    Rejected(String),
}

impl Report {
    pub(super) fn new(outcome: broker::Outcome, recorder: &Recorder) -> Self {
        let (progress, log) = recorder.reported();
        let (outcome, result) = match outcome {
            broker::Outcome::Complete(result) => (Outcome::Succeeded, Some(result)),
            broker::Outcome::Retry { error, delay } => (Outcome::Retried { error, delay }, None),
            broker::Outcome::Fail(error) => (Outcome::Failed(error), None),
            broker::Outcome::Cancel(_) => (Outcome::Canceled, None),
            broker::Outcome::Release(cause) => (Outcome::Released(cause), None),
            broker::Outcome::Snooze { delay } => (Outcome::Snoozed { delay }, None),
        };
        Self { outcome, result, progress, log }
    }

    pub(super) fn rejected(reason: String) -> Self {
        let outcome = Outcome::Rejected(reason);
        Self { outcome, result: None, progress: Vec::new(), log: Vec::new() }
    }

    /// Returns the JSON result as a value.
    ///
    /// ```
    /// # use crunch_worker::testing::{Attempt, Outcome};
    /// # use crunch_worker::{JobContext, Task, TaskError};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// async fn split(_job: JobContext, text: String) -> Result<Vec<String>, TaskError> {
    ///     Ok(text.split(' ').map(str::to_owned).collect())
    /// }
    ///
    /// let report = Attempt::of(Task::new("split", split)).payload("to be").run().await;
    /// assert_eq!(report.json::<Vec<String>>(), ["to", "be"]);
    /// # }
    /// ```
    ///
    /// # Panics
    /// If the attempt did not succeed, with how it ended; and if the result is not such a value.
    #[must_use]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        let Some(result) = &self.result else {
            panic!("there is no result: {:?}; log: {:?}", self.outcome, self.log);
        };
        let value = serde_json::from_slice(&result.bytes);
        value.unwrap_or_else(|error| panic!("the result cannot be read: {error}"))
    }

    /// Returns why the attempt failed, whether the job is retried or not.
    ///
    /// ```
    /// # use crunch_worker::testing::{Attempt, Outcome};
    /// # use crunch_worker::{JobContext, Task, TaskError};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// async fn read(_job: JobContext, path: String) -> Result<String, TaskError> {
    ///     Ok(tokio::fs::read_to_string(path).await?)
    /// }
    ///
    /// let report = Attempt::of(Task::new("read", read)).payload("/does/not/exist").run().await;
    /// let error = report.error().unwrap();
    /// assert!(error.retryable && error.message.starts_with("No such file"));
    /// # }
    /// ```
    #[must_use]
    pub fn error(&self) -> Option<&JobError> {
        match &self.outcome {
            Outcome::Retried { error, .. } | Outcome::Failed(error) => Some(error),
            Outcome::Succeeded
            | Outcome::Released(_)
            | Outcome::Snoozed { .. }
            | Outcome::Canceled
            | Outcome::Rejected(_) => None,
        }
    }
}
