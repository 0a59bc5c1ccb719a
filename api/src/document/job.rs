//! A job and its result.

use crunch_common::broker::{JobRecord, ResultSummary, WaitingFor};
use crunch_common::job::{JobError, JobId, Metadata, Status};
use crunch_common::time::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::attempt::ErrorDocument;
use super::schedule::ScheduledByDocument;
use super::unique::UniqueDocument;
use super::words::{OmittedWord, PriorityWord, SearchWord, StatusWord};
use crate::{json, links};

/// The state and the result of a job.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Job)]
pub(crate) struct JobDocument {
    /// The job's id, which is also the client's token.
    #[schema(format = "uuid")]
    id: String,
    /// The same as `id`.
    #[schema(format = "uuid")]
    token: String,
    task: String,
    queue: String,
    #[schema(value_type = PriorityWord)]
    priority: String,
    /// The group in whose turns it is claimed.
    group: Option<String>,
    /// What it is unique by; null for other jobs.
    unique: Option<UniqueDocument>,
    #[schema(value_type = StatusWord)]
    status: String,
    /// 0 to 1.
    #[schema(minimum = 0.0, maximum = 1.0)]
    progress: Option<f64>,
    progress_message: Option<String>,
    /// Id of the worker that runs it, or ran it last.
    worker: Option<String>,
    /// Charged attempts, the current one included.
    attempt: u32,
    max_attempts: u32,
    /// How often its handler put it off, since it was submitted or run again by hand.
    snoozes: u32,
    cancel_requested: bool,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    run_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// Bytes.
    payload_size: u64,
    /// The result itself, if it is JSON of at most 64 KiB that every JSON parser can read; otherwise follow
    /// `links.result`.
    #[schema(value_type = Option<serde_json::Value>)]
    result: Option<Box<RawValue>>,
    /// Bytes.
    result_size: Option<u64>,
    result_content_type: Option<String>,
    /// Why the job has a result that is not in `result`.
    #[schema(value_type = Option<OmittedWord>)]
    result_omitted: Option<&'static str>,
    /// Null unless the job failed, was canceled, or waits for a retry.
    #[schema(value_type = Option<ErrorDocument>)]
    error: Option<JobError>,
    /// The kind of the error with which it failed: `GET /errors/{id}`. Null unless the job failed.
    error_group: Option<String>,
    /// Null unless the job was due and a worker released it: it is tried again until it can run, or until its deadline; or
    /// its handler put it off, or another job holds its lock.
    waiting_for: Option<WaitingForDocument>,
    /// The schedule and the tick that it was submitted for; null for other jobs.
    schedule: Option<ScheduledByDocument>,
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    metadata: Metadata,
    links: Links,
}

/// Links to a job's resources.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Links {
    #[serde(rename = "self")]
    this: String,
    result: String,
    events: String,
    logs: String,
    cancel: String,
}

/// Why a job that is due does not run, for a reason outside the job.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WaitingFor)]
pub(crate) struct WaitingForDocument {
    /// `worker_with_task`: a worker could not run its task, and it is queued for one that can. `newer_worker`: a worker
    /// was too old to read it. `machine`: a worker's machine could not run it. `receiver`: the receiver of a delivery
    /// is busy with others. `snooze`: its handler put it off until `run_at`. `lock`: another
    /// job, whose id is the detail, holds its lock. A later version may add reasons.
    reason: String,
    /// Human-readable.
    detail: Option<String>,
}

impl JobDocument {
    /// Creates the whole document.
    pub(crate) fn new(job: JobRecord) -> Self {
        let (shown, failed) = (Shown::new(job.result), job.status == Status::Failed);
        let shows_error =
            matches!(job.status, Status::Failed | Status::Canceled | Status::Retrying);
        Self {
            id: job.id.to_string(),
            token: job.id.to_string(),
            task: job.task.to_string(),
            queue: job.queue.to_string(),
            priority: job.priority.to_string(),
            group: job.options.group.map(|group| group.to_string()),
            unique: job.options.unique.map(UniqueDocument::from),
            status: job.status.to_string(),
            progress: job.progress,
            progress_message: job.progress_message,
            worker: job.worker.map(|worker| worker.to_string()),
            attempt: job.attempt,
            max_attempts: job.options.max_attempts,
            snoozes: job.snoozes,
            cancel_requested: job.cancel_requested,
            created_at: job.created_at,
            run_at: job.run_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
            expires_at: job.expires_at,
            payload_size: job.options.payload_size,
            result: shown.inline,
            result_omitted: shown.omitted,
            result_size: shown.size,
            result_content_type: shown.content_type,
            error: job.error.filter(|_| shows_error),
            error_group: job.error_group.filter(|_| failed).map(|group| group.to_string()),
            waiting_for: job.waiting_for.map(WaitingForDocument::from),
            schedule: job.schedule.map(ScheduledByDocument::from),
            metadata: job.options.metadata,
            links: Links::of(job.id),
        }
    }

    /// Creates an item of a list: without the result.
    pub(crate) fn listed(job: JobRecord) -> Self {
        Self::new(job).without_result("list")
    }

    /// Creates what one who may not read jobs sees of a job that somebody else may have submitted: no text of its worker
    /// or its client.
    pub(crate) fn for_submitter(job: JobRecord) -> Self {
        Self {
            progress: None,
            progress_message: None,
            worker: None,
            error: None,
            error_group: None,
            waiting_for: None,
            metadata: Metadata::default(),
            ..Self::new(job).without_result("scope")
        }
    }

    /// Returns the document with its result omitted for `reason`.
    pub(crate) fn without_result(self, reason: &'static str) -> Self {
        let omitted = self.result_size.map(|_| reason);
        Self { result: None, result_omitted: omitted, ..self }
    }
}

impl Links {
    fn of(id: JobId) -> Self {
        let this = links::job(id);
        Self {
            result: format!("{this}/result"),
            events: format!("{this}/events"),
            logs: format!("{this}/logs"),
            cancel: format!("{this}/cancel"),
            this,
        }
    }
}

impl From<WaitingFor> for WaitingForDocument {
    fn from(WaitingFor { reason, detail }: WaitingFor) -> Self {
        Self { reason, detail }
    }
}

/// The part of a result that a document shows.
#[derive(Default)]
struct Shown {
    inline: Option<Box<RawValue>>,
    omitted: Option<&'static str>,
    size: Option<u64>,
    content_type: Option<String>,
}

impl Shown {
    fn new(result: Option<ResultSummary>) -> Self {
        let Some(ResultSummary { inline, size, content_type }) = result else {
            return Self::default();
        };
        let is_json = content_type.is_json();
        let inline = match inline {
            None if is_json => Err("too_large"),
            None => Err("not_json"),
            // Kept exactly as the worker sent it.
            Some(bytes) => json::readable(bytes.into()),
        };
        let (size, content_type) = (Some(size), Some(content_type.to_string()));
        match inline {
            Ok(inline) => Self { inline: Some(inline), omitted: None, size, content_type },
            Err(reason) => Self { inline: None, omitted: Some(reason), size, content_type },
        }
    }
}

/// A page of jobs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobPage {
    pub(crate) items: Vec<JobDocument>,
    /// Pass it as `cursor` for the next page; null at the end.
    pub(crate) next_cursor: Option<String>,
    /// How jobs with labels were searched; null without `metadata.{name}`.
    pub(crate) search: Option<SearchDocument>,
}

/// How jobs with labels were searched for one answer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Search)]
pub(crate) struct SearchDocument {
    #[schema(value_type = SearchWord)]
    pub(crate) by: &'static str,
    /// How many jobs were looked at.
    pub(crate) looked_at: u64,
    /// How many jobs the index has, of all statuses, tasks and times. Null without an index, and for a key for some queues.
    pub(crate) of: Option<u64>,
}
