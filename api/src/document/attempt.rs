//! The attempts of a job, and why one failed.

use crunch_common::broker::Attempt;
use crunch_common::job::JobError;
use crunch_common::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::words::OutcomeWord;

/// One run of a job.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attempt)]
pub(crate) struct AttemptDocument {
    /// Which charged attempt it was, from 1; a run that was released or lost is not charged, so its number is used
    /// again.
    number: u32,
    worker: Option<String>,
    /// The end of the first part of the name of the worker's host, eleven characters at most; it is in the worker's id.
    host: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
    #[schema(value_type = OutcomeWord)]
    outcome: String,
    #[schema(value_type = Option<ErrorDocument>)]
    error: Option<JobError>,
}

/// Why a job or an attempt failed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobError)]
pub(crate) struct ErrorDocument {
    /// Machine-readable: `task_failed`, `timeout`, …, or the handler's own code.
    code: String,
    /// Human-readable.
    message: String,
    /// Whether another attempt might succeed.
    retryable: bool,
}

impl From<Attempt> for AttemptDocument {
    fn from(attempt: Attempt) -> Self {
        Self {
            number: attempt.number,
            host: attempt.worker.and_then(|worker| worker.host()),
            worker: attempt.worker.map(|worker| worker.to_string()),
            started_at: attempt.started_at,
            finished_at: attempt.finished_at,
            outcome: attempt.outcome,
            error: attempt.error,
        }
    }
}
