//! What happened in an attempt.

use std::time::Duration;

use crunch_common::broker::{self, Progress, ReleaseCause};
use crunch_common::job::{JobError, Payload};
use serde::de::DeserializeOwned;

use super::recorder::Recorder;

/// What happened in an attempt.
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
        };
        Self { outcome, result, progress, log }
    }

    pub(super) fn rejected(reason: String) -> Self {
        let outcome = Outcome::Rejected(reason);
        Self { outcome, result: None, progress: Vec::new(), log: Vec::new() }
    }

    /// Returns the JSON result as a value.
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
    #[must_use]
    pub fn error(&self) -> Option<&JobError> {
        match &self.outcome {
            Outcome::Retried { error, .. } | Outcome::Failed(error) => Some(error),
            Outcome::Succeeded
            | Outcome::Released(_)
            | Outcome::Canceled
            | Outcome::Rejected(_) => None,
        }
    }
}
