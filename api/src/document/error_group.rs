//! Failures of one kind.

use crunch_common::broker::ErrorGroup;
use crunch_common::job::JobError;
use crunch_common::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::attempt::ErrorDocument;

/// Failures of one kind: of the same task in the same queue, with the same code, and with messages that differ only in
/// numbers, ids and quoted texts. Of a thousand kinds and more, the further ones are one group.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ErrorGroup)]
pub(crate) struct ErrorGroupDocument {
    /// 16 hexadecimal digits; or `other` for all kinds beyond the first thousand.
    id: String,
    /// Null if `id` is `other`.
    queue: Option<String>,
    /// Null if `id` is `other`.
    task: Option<String>,
    /// The newest error.
    #[schema(value_type = ErrorDocument)]
    error: JobError,
    /// The id of the job that failed with it.
    #[schema(format = "uuid")]
    job: String,
    #[schema(value_type = String, format = DateTime)]
    first_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    last_at: Timestamp,
    /// How many attempts failed so, those included after which the job was tried again.
    failures: u64,
    /// How many jobs have failed so for good: `GET /jobs?error={id}` lists them. A job leaves when it runs again, or is
    /// deleted.
    failed_jobs: u64,
    links: ErrorGroupLinks,
}

/// Links to an error group and its jobs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorGroupLinks {
    #[serde(rename = "self")]
    this: String,
    /// The list of its failed jobs.
    jobs: String,
}

impl From<ErrorGroup> for ErrorGroupDocument {
    fn from(group: ErrorGroup) -> Self {
        let id = group.id.to_string();
        Self {
            links: ErrorGroupLinks {
                this: format!("/errors/{id}"),
                jobs: format!("/jobs?error={id}"),
            },
            id,
            queue: group.queue.map(String::from),
            task: group.task.map(|task| task.to_string()),
            error: group.error,
            job: group.job.to_string(),
            first_at: group.first_at,
            last_at: group.last_at,
            failures: group.failures,
            failed_jobs: group.failed_jobs,
        }
    }
}
