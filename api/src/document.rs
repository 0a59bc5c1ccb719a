//! The JSON documents of answers. All members are always present, `null` when unknown.

pub(crate) mod words;

use actix_web::HttpResponse;
use actix_web::http::header;
use crunch_common::broker::{
    Attempt, JobRecord, LogLine, QueueSummary, ResultSummary, SuspendedTask, WaitingFor,
    WorkerSummary,
};
use crunch_common::job::{JobError, Metadata, Status};
use crunch_common::schema::Schema;
use crunch_common::task::{TaskDescriptor, TaskName};
use crunch_common::time::{Timestamp, whole_ms};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaType, Type};

use self::words::{OmittedWord, OutcomeWord, PriorityWord, StatusWord};
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
    /// Null unless the job was due and a worker released it: it is tried again until it can run, or until its deadline.
    waiting_for: Option<WaitingForDocument>,
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
    /// is busy with others. A later version may add reasons.
    reason: String,
    /// Human-readable.
    detail: Option<String>,
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

impl JobDocument {
    /// Creates the whole document.
    pub(crate) fn new(job: JobRecord) -> Self {
        let shown = Shown::new(job.result);
        let shows_error =
            matches!(job.status, Status::Failed | Status::Canceled | Status::Retrying);
        Self {
            id: job.id.to_string(),
            token: job.id.to_string(),
            task: job.task.to_string(),
            queue: job.queue.to_string(),
            priority: job.priority.to_string(),
            status: job.status.to_string(),
            progress: job.progress,
            progress_message: job.progress_message,
            worker: job.worker.map(|worker| worker.to_string()),
            attempt: job.attempt,
            max_attempts: job.options.max_attempts,
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
            waiting_for: job
                .waiting_for
                .map(|WaitingFor { reason, detail }| WaitingForDocument { reason, detail }),
            metadata: job.options.metadata,
            links: Links {
                this: links::job(job.id),
                result: format!("{}/result", links::job(job.id)),
                events: format!("{}/events", links::job(job.id)),
                logs: format!("{}/logs", links::job(job.id)),
                cancel: format!("{}/cancel", links::job(job.id)),
            },
        }
    }

    /// Creates an item of a list: without the result.
    pub(crate) fn listed(job: JobRecord) -> Self {
        Self::new(job).without_result("list")
    }

    /// Returns the document with its result omitted for `reason`.
    pub(crate) fn without_result(self, reason: &'static str) -> Self {
        let omitted = self.result_size.map(|_| reason);
        Self { result: None, result_omitted: omitted, ..self }
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

/// A list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Items<T> {
    pub(crate) items: Vec<T>,
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    /// Pass it as `cursor` for the next page; null at the end.
    pub(crate) next_cursor: Option<String>,
}

/// A page of jobs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobPage {
    pub(crate) items: Vec<JobDocument>,
    /// Pass it as `cursor` for the next page; null at the end.
    pub(crate) next_cursor: Option<String>,
}

/// A page of a log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LogPage {
    pub(crate) items: Vec<LogDocument>,
    /// Pass it as `cursor` for what follows; null once the job has ended and everything was read.
    pub(crate) next_cursor: Option<String>,
}

/// A line of a log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LogLine)]
pub(crate) struct LogDocument {
    /// Counted from 1 over the job's lifetime; lines that are no longer kept leave a gap.
    number: u64,
    /// The attempt that wrote it.
    attempt: u32,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    line: String,
}

impl From<LogLine> for LogDocument {
    fn from(line: LogLine) -> Self {
        let LogLine { number, at, attempt, line } = line;
        Self { number, attempt, at, line }
    }
}

/// How many jobs an operation changed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Count {
    pub(crate) count: u64,
}

/// One run of a job.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attempt)]
pub(crate) struct AttemptDocument {
    /// Which charged attempt it was, from 1; a run that was released or lost is not charged, so its number is used
    /// again.
    number: u32,
    worker: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
    #[schema(value_type = OutcomeWord)]
    outcome: String,
    #[schema(value_type = Option<ErrorDocument>)]
    error: Option<JobError>,
}

impl From<Attempt> for AttemptDocument {
    fn from(attempt: Attempt) -> Self {
        Self {
            number: attempt.number,
            worker: attempt.worker.map(|worker| worker.to_string()),
            started_at: attempt.started_at,
            finished_at: attempt.finished_at,
            outcome: attempt.outcome,
            error: attempt.error,
        }
    }
}

/// What workers declared about a task.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Task)]
pub(crate) struct TaskDocument {
    name: String,
    queue: String,
    description: String,
    /// Content types of payloads it accepts.
    accepts: Vec<String>,
    /// Content type of its results.
    content_type: String,
    timeout_ms: u64,
    max_attempts: u32,
    #[schema(value_type = PriorityWord)]
    priority: String,
    /// Null: 24 hours, failed jobs 30 days.
    retention_ms: Option<u64>,
    /// Bytes.
    max_payload: u64,
    /// Bytes; null if a worker of an earlier version declared it.
    max_result: Option<u64>,
    /// JSON Schema of the payload, if declared.
    #[schema(schema_with = any_schema)]
    payload_schema: Option<Box<RawValue>>,
    /// JSON Schema of the result, if declared.
    #[schema(schema_with = any_schema)]
    result_schema: Option<Box<RawValue>>,
    /// How many live workers have it.
    workers: usize,
}

/// Returns a schema as declared, if every JSON parser can read it: one that this version cannot use may contain
/// anything.
fn readable(schema: &Schema) -> Option<Box<RawValue>> {
    json::readable(schema.as_str().into()).ok()
}

/// A JSON Schema, or null.
fn any_schema() -> Object {
    let types = [Type::Object, Type::Boolean, Type::Null];
    ObjectBuilder::new().schema_type(SchemaType::from_iter(types)).build()
}

impl TaskDocument {
    pub(crate) fn new(task: &TaskDescriptor, workers: &[WorkerSummary]) -> Self {
        let has_it = |worker: &&WorkerSummary| worker.info.tasks.contains(&task.name);
        Self {
            name: task.name.to_string(),
            queue: task.queue.to_string(),
            description: task.description.clone(),
            accepts: task.accepts.iter().map(ToString::to_string).collect(),
            content_type: task.content_type.to_string(),
            timeout_ms: whole_ms(task.timeout),
            max_attempts: task.max_attempts,
            priority: task.priority.to_string(),
            retention_ms: task.retention_ms,
            max_payload: task.max_payload,
            max_result: task.max_result,
            payload_schema: task.payload_schema.as_ref().and_then(readable),
            result_schema: task.result_schema.as_ref().and_then(readable),
            workers: workers.iter().filter(has_it).count(),
        }
    }
}

/// A queue as an operator sees it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Queue)]
pub(crate) struct QueueDocument {
    name: String,
    paused: bool,
    counts: QueueCounts,
    /// Age of the oldest job that could run now.
    oldest_age_ms: Option<u64>,
    finished_last_minute: u64,
    /// How many live workers claim jobs from it.
    workers: usize,
}

/// How many jobs of a queue are in which state.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueueCounts {
    queued: u64,
    scheduled: u64,
    retrying: u64,
    running: u64,
    failed: u64,
}

impl QueueDocument {
    pub(crate) fn new(queue: &QueueSummary, workers: &[WorkerSummary]) -> Self {
        let serves_it = |worker: &&WorkerSummary| worker.info.queues.contains(&queue.name);
        Self {
            name: queue.name.to_string(),
            paused: queue.paused,
            counts: QueueCounts {
                queued: queue.queued,
                scheduled: queue.scheduled,
                retrying: queue.retrying,
                running: queue.running,
                failed: queue.failed,
            },
            oldest_age_ms: queue.oldest_age.map(whole_ms),
            finished_last_minute: queue.finished_last_minute,
            workers: workers.iter().filter(serves_it).count(),
        }
    }
}

/// A worker as an operator sees it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Worker)]
pub(crate) struct WorkerDocument {
    id: String,
    kind: WorkerKind,
    host: String,
    pid: u32,
    version: String,
    tasks: Vec<String>,
    queues: Vec<String>,
    slots: usize,
    busy: u64,
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    seen_at: Timestamp,
    running: Vec<RunningDocument>,
    /// Tasks of which it claims no jobs for now, because its machine cannot run them. Of many it lists some.
    suspended: Vec<SuspendedDocument>,
}

/// A task of which a worker claims no jobs for now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SuspendedTask)]
pub(crate) struct SuspendedDocument {
    task: String,
    /// Why its machine cannot run it, human-readable.
    reason: String,
    /// When it claims jobs of the task again, by its own clock.
    #[schema(value_type = String, format = DateTime)]
    until: Timestamp,
}

/// The kind of a process in the list of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WorkerKind {
    /// A worker that runs jobs of tasks.
    Worker,
    /// An API that delivers webhooks.
    Api,
}

impl WorkerKind {
    pub(crate) fn of(worker: &WorkerSummary) -> Self {
        // No worker can declare a reserved task.
        let delivers = worker.info.tasks.iter().any(TaskName::is_reserved);
        if delivers { Self::Api } else { Self::Worker }
    }
}

/// A job that a worker runs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RunningJob)]
pub(crate) struct RunningDocument {
    id: String,
    task: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
}

impl From<WorkerSummary> for WorkerDocument {
    fn from(worker: WorkerSummary) -> Self {
        let kind = WorkerKind::of(&worker);
        let running = worker.running.into_iter().map(|job| RunningDocument {
            id: job.id.to_string(),
            task: job.task.to_string(),
            started_at: job.started_at,
        });
        Self {
            id: worker.id.to_string(),
            kind,
            host: worker.info.host,
            pid: worker.info.pid,
            version: worker.info.version,
            tasks: worker.info.tasks.iter().map(ToString::to_string).collect(),
            queues: worker.info.queues.iter().map(ToString::to_string).collect(),
            slots: worker.info.slots,
            busy: worker.busy,
            started_at: worker.info.started_at,
            seen_at: worker.seen_at,
            running: running.collect(),
            suspended: worker.info.suspended.into_iter().map(SuspendedDocument::from).collect(),
        }
    }
}

impl From<SuspendedTask> for SuspendedDocument {
    fn from(suspended: SuspendedTask) -> Self {
        let SuspendedTask { task, reason, until } = suspended;
        Self { task: task.to_string(), reason, until }
    }
}

/// 200 with a document that must not be stored.
pub(crate) fn ok(document: &impl Serialize) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(document)
}
