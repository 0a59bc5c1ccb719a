//! The only map from errors to HTTP: problem documents (RFC 9457) with stable slugs and public texts.
//!
//! The cause is logged, never sent to the client.

use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use crunch_common::broker;
use crunch_common::job::JobError;
use crunch_common::telemetry::LogLimit;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// A kind of problem: its slug, title, and the text of its page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) slug: &'static str,
    pub(crate) status: StatusCode,
    pub(crate) title: &'static str,
    pub(crate) explanation: &'static str,
}

macro_rules! kinds {
    ($($name:ident = $status:ident, $slug:literal, $title:literal, $explanation:literal;)*) => {
        $(pub(crate) const $name: &Kind = &Kind {
            slug: $slug, status: StatusCode::$status, title: $title, explanation: $explanation,
        };)*
        /// Every kind, for the pages that explain them.
        pub(crate) const KINDS: &[&Kind] = &[$($name),*];
    };
}

kinds! {
    MALFORMED_JSON = BAD_REQUEST, "malformed-json", "The body is not JSON",
        "The body is empty, is not UTF-8, is not one JSON value, or is nested deeper than 64 levels.";
    INVALID_PARAMETER = BAD_REQUEST, "invalid-parameter", "Invalid query parameter",
        "The detail names the parameter and what is accepted.";
    UNEXPECTED_BODY = BAD_REQUEST, "unexpected-body", "This request takes no body",
        "Only submissions, POST /stream-tickets and PUT take a body. Options of other requests are query parameters; the detail names those that are known. An empty body, white space, {} and null are accepted.";
    INVALID_HOST = BAD_REQUEST, "invalid-host", "Invalid Host header",
        "It must be a name or an address, and a port if that is not the default one.";
    BROKEN_BODY = BAD_REQUEST, "broken-body", "The body is incomplete",
        "The connection or the chunks ended before the body did.";
    INVALID_IDEMPOTENCY_KEY = BAD_REQUEST, "invalid-idempotency-key", "Invalid Idempotency-Key",
        "A key has 1 to 255 visible ASCII characters, bare or in double quotes. A batch accepts keys in its items only.";
    UNAUTHORIZED = UNAUTHORIZED, "unauthorized", "An API key is required",
        "Send the header `Authorization: Bearer crk_…` once, with a valid key.";
    FORBIDDEN = FORBIDDEN, "forbidden", "The API key does not allow this",
        "The detail names the scope or the queue that the key does not allow.";
    CROSS_SITE_REQUEST = FORBIDDEN, "cross-site-request", "Cross-site request",
        "A browser sent a request that changes something for a page of another origin. Allowed origins are listed in CRUNCH_API_CORS_ORIGINS; the API's own is that of CRUNCH_PUBLIC_URL. Clients that are not browsers send neither Origin nor Sec-Fetch-Site.";
    MISDIRECTED_REQUEST = MISDIRECTED_REQUEST, "misdirected-request", "Unknown host name",
        "An API without keys serves localhost, addresses, the host of CRUNCH_PUBLIC_URL and the names in CRUNCH_API_HOSTS, so that no page of another site can pass for one of its own.";
    RATE_LIMITED = TOO_MANY_REQUESTS, "rate-limited", "Too many requests",
        "`Retry-After` gives the time to wait, `RateLimit` the number of requests left. Nothing was accepted.";
    TOO_MANY_WAITING = TOO_MANY_REQUESTS, "too-many-waiting", "Too many waiting requests",
        "This caller has the maximum number of event streams and waiting requests. `Retry-After` gives the time to wait.";
    GROUP_FULL = TOO_MANY_REQUESTS, "group-full", "The group is full",
        "As many jobs of the group wait in the queue as its rule allows. Nothing was accepted; there is room again as workers claim them. `Retry-After` gives the time to wait.";
    NOT_FOUND = NOT_FOUND, "not-found", "Not found",
        "This API has no such path, or the job, task, queue or worker in it is not known.";
    UNKNOWN_TASK = NOT_FOUND, "unknown-task", "No worker ever declared this task",
        "Workers declare their tasks when they start; a declaration is kept 30 days after the last of them.";
    METHOD_NOT_ALLOWED = METHOD_NOT_ALLOWED, "method-not-allowed", "This method is not allowed",
        "The Allow header lists the methods that are.";
    TIMEOUT = REQUEST_TIMEOUT, "request-timeout", "The body took too long to arrive",
        "A body must have arrived within 30 seconds, and after the first 5 at no less than 1 KiB a second.";
    NOT_FINISHED = CONFLICT, "job-not-finished", "The job has not ended yet",
        "Only ended jobs can be deleted; cancel it first.";
    ALREADY_FINISHED = CONFLICT, "job-finished", "The job has already ended",
        "A job that has succeeded or failed cannot be canceled.";
    NOT_RETRYABLE = CONFLICT, "job-not-retryable", "The job is not failed or canceled",
        "Only failed and canceled jobs can be retried by hand.";
    OUTSIDE_LIMIT = CONFLICT, "outside-limit", "The limit of the queue cannot apply to the job",
        "The job is in another partition than the jobs that were submitted since its queue has a limit. Submit it again.";
    JOBS_ELSEWHERE = CONFLICT, "jobs-elsewhere", "The limit could not apply to jobs that wait or run",
        "A queue with a limit has all its jobs in one partition, and `jobs` that wait or run are in others. Nothing was limited, but new jobs are in that partition from now on: repeat the request once those have ended. DELETE of the limit lets new jobs be anywhere again.";
    OTHER_HOME = CONFLICT, "other-home", "The queue and the limit are in different partitions",
        "Queues that share a limit are counted in one partition, which the part of their names before the first dot decides. Give the queue, or the limit, a name that begins alike, such as `openai.chat` and `openai`.";
    LIMIT_IS_FULL = CONFLICT, "limit-is-full", "As many queues share the limit as may",
        "Sixteen queues share it. Let tasks share a queue, or use another limit.";
    TOO_MANY_LIMITS = CONFLICT, "too-many-limits", "There are too many limits",
        "There are as many limits that queues may share as may be: a hundred in a partition. Remove one, or limit the queue itself.";
    CONTENDED = CONFLICT, "contended", "Another request changes the same limit",
        "Nothing was changed. Repeat the request.";
    LOCKED = CONFLICT, "locked", "Another job holds the lock",
        "The job is unique, and `job` is the id of the one that holds its lock. Nothing was accepted or changed; the lock is free once that job has ended, or has started, or its time has passed, whichever its submission says.";
    TOO_MANY_RULES = CONFLICT, "too-many-rules", "Too many groups of the queue have rules",
        "As many groups of the queue have a rule as may: a thousand. Remove one, or set the rule for each group without one.";
    TOO_MANY_SCHEDULES = CONFLICT, "too-many-schedules", "There are too many schedules",
        "There are as many schedules as may be: ten thousand. For jobs that run once, submit them with `run_at`.";
    SCHEDULE_OF_FILE = CONFLICT, "schedule-of-file", "The schedule does not come from a request",
        "A PUT replaces only schedules that were created by a PUT. DELETE removes it.";
    SCHEDULE_BUSY = CONFLICT, "schedule-busy", "The schedule is busy",
        "Its last job has not ended and its jobs must not overlap; `job` is its id. Or ticks of it are made up for already.";
    SCHEDULE_CHANGED = CONFLICT, "schedule-changed", "The schedule was changed",
        "It was changed since it was read. Read it, and repeat the request if it is still what you want.";
    SCHEDULE_PAUSED = CONFLICT, "schedule-paused", "The schedule is paused",
        "Ticks of the past are made up for only while it is not paused.";
    NOT_A_WORKER = CONFLICT, "not-a-worker", "This process is an API",
        "An API that delivers webhooks is listed with the workers, and is stopped where it was started.";
    JOB_CANCELED = CONFLICT, "job-canceled", "The job was canceled",
        "There is no result, and there will be none unless the job is retried.";
    GONE = GONE, "gone", "The job was deleted",
        "Deleted jobs are answered with 410 for 24 hours, later with 404.";
    TRIMMED = GONE, "trimmed", "The job was deleted early",
        "It had ended, and Redis was nearly full: the oldest ended jobs are deleted to make room. They are answered with 410 for 24 hours, later with 404.";
    PRECONDITION_FAILED = PRECONDITION_FAILED, "precondition-failed", "The schedule is not what the request expects",
        "`If-Match` names other versions than the present one, or `If-None-Match: *` was sent and there is one. Nothing was changed.";
    TOO_LARGE = PAYLOAD_TOO_LARGE, "payload-too-large", "The body is too large",
        "`max_bytes` is its maximum size. A task's own limit is in its declaration.";
    UNSUPPORTED_MEDIA_TYPE = UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "This content type is not accepted",
        "The Accept header of the answer lists those that are.";
    UNSUPPORTED_ENCODING = UNSUPPORTED_MEDIA_TYPE, "unsupported-encoding", "This content encoding is not accepted",
        "Bodies are accepted only without Content-Encoding.";
    INVALID_SUBMISSION = UNPROCESSABLE_ENTITY, "invalid-submission", "The submission is invalid",
        "Each entry of `errors` describes an error and its place, a JSON Pointer (RFC 6901) into the body.";
    IDEMPOTENCY_CONFLICT = UNPROCESSABLE_ENTITY, "idempotency-conflict", "This Idempotency-Key was used for another request",
        "A key identifies one request for 24 hours: same method, path, query, content type and body.";
    JOB_FAILED = UNPROCESSABLE_ENTITY, "job-failed", "The job failed",
        "There is no result. `error` has the reason.";
    INTERNAL = INTERNAL_SERVER_ERROR, "internal", "Internal error",
        "The log has the details, under the X-Request-Id of the answer.";
    NO_WORKER_YET = SERVICE_UNAVAILABLE, "no-worker-yet", "No worker has declared this task yet",
        "Retry once a worker that has it was started.";
    UNAVAILABLE = SERVICE_UNAVAILABLE, "unavailable", "Redis is unavailable",
        "Redis is unreachable, still starting, or accepts no writes. Without `outcome` nothing was changed. If `outcome` is \"unknown\", the request may have taken effect: repeat it with the same Idempotency-Key.";
    NOT_DURABLE = SERVICE_UNAVAILABLE, "not-durable", "The job is not confirmed to be as durable as requested",
        "Redis did not confirm in time that its disk or enough replicas have the job, or is not configured to. If `outcome` is \"unknown\", the job may have been accepted and may run: repeat the request with the same Idempotency-Key, and it is answered with 202 and the same job once it is durable.";
    OVERLOADED = SERVICE_UNAVAILABLE, "overloaded", "This instance is overloaded",
        "The detail names the total, over all callers, that is exceeded. Nothing was accepted; another instance may have room.";
    BUSY = SERVICE_UNAVAILABLE, "busy", "Too many submissions are waiting",
        "Nothing was accepted. Redis does not keep up with making submissions durable, or too many large bodies wait to be checked.";
    FULL = SERVICE_UNAVAILABLE, "full", "There is no room for new jobs",
        "Redis has no memory left. Nothing was accepted; memory becomes free as jobs end.";
    QUEUE_FULL = SERVICE_UNAVAILABLE, "queue-full", "The queue is full",
        "The maximum number of jobs waits in it. Nothing was accepted; there is room again as workers claim them.";
    TOO_MANY_QUEUES = SERVICE_UNAVAILABLE, "too-many-queues", "There is no room for another queue",
        "The maximum number of queues is known, and this is not one of them. Nothing was accepted. A queue is forgotten an hour after its last use once it is empty; `CRUNCH_MAX_QUEUES` sets the maximum.";
}

/// An error that is answered to a client.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) kind: &'static Kind,
    detail: String,
    members: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The document of a problem (RFC 9457).
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemDocument {
    /// `/problems/<slug>`, where a page explains it.
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    /// What is wrong with this request.
    detail: String,
    /// The path of the request.
    instance: String,
    /// `errors` of a 422, `max_bytes` of a 413, `outcome` of a 503, `error` of a failed job, `jobs` of a 409 for a limit, `job` of a 409 for a lock.
    #[serde(flatten)]
    members: Map<String, Value>,
}

/// One error of a submission, and its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct Violation {
    /// What is wrong.
    pub(crate) detail: String,
    /// JSON Pointer (RFC 6901) into the body.
    pub(crate) pointer: String,
}

impl Violation {
    pub(crate) fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), pointer: pointer.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.pointer.is_empty() { "" } else { ": " };
        write!(f, "{}{colon}{}", self.pointer, self.detail)
    }
}

impl Problem {
    pub(crate) fn new(kind: &'static Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), members: Map::new(), headers: Vec::new() }
    }

    /// 422 with all errors of a submission.
    pub(crate) fn violations(violations: Vec<Violation>) -> Self {
        let mut detail = violations.first().map_or_else(String::new, ToString::to_string);
        if let more @ 1.. = violations.len().saturating_sub(1) {
            detail += &format!(" (and {more} more)");
        }
        Self::new(INVALID_SUBMISSION, detail)
            .with("errors", serde_json::to_value(violations).unwrap_or_default())
    }

    /// 422 for a failed job's result.
    pub(crate) fn job_failed(error: Option<&JobError>) -> Self {
        let detail = error.map_or_else(String::new, |error| error.message.clone());
        Self::new(JOB_FAILED, detail).with("error", json!(error))
    }

    pub(crate) fn no_such_job() -> Self {
        Self::new(NOT_FOUND, "there is no such job")
    }

    /// The problem of an error of the broker, when the request was to change something: it may have taken effect.
    pub(crate) fn in_doubt(error: broker::Error) -> Self {
        let unknown = matches!(
            error,
            broker::Error::Unavailable { .. } | broker::Error::NotDurable { taken: true, .. }
        );
        let problem = Self::from(error);
        if unknown { problem.with("outcome", json!("unknown")) } else { problem }
    }

    /// What is wrong with this request.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// The errors of a submission.
    pub(crate) fn errors(&self) -> impl Iterator<Item = Violation> {
        let errors = self.members.get("errors").and_then(Value::as_array).into_iter().flatten();
        errors.map(|error| {
            let [pointer, detail] = ["pointer", "detail"].map(|member| error[member].as_str());
            Violation::new(pointer.unwrap_or_default(), detail.unwrap_or_default())
        })
    }

    /// The headers of its answer besides the usual ones.
    pub(crate) fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    pub(crate) fn with(mut self, member: &str, value: Value) -> Self {
        self.members.insert(member.to_owned(), value);
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// Returns the document, as the answer to a request of the path `instance`.
    pub(crate) fn document(&self, instance: &str) -> ProblemDocument {
        ProblemDocument {
            kind: format!("/problems/{}", self.kind.slug),
            title: self.kind.title,
            status: self.kind.status.as_u16(),
            detail: self.detail.clone(),
            instance: instance.to_owned(),
            members: self.members.clone(),
        }
    }

    pub(crate) fn respond(&self, instance: &str) -> HttpResponse {
        let mut response = HttpResponse::build(self.kind.status);
        // Some of these codes may be cached by default (RFC 9110, section 15.1), and a missing resource may be created
        // later.
        response.insert_header((header::CACHE_CONTROL, "no-store"));
        if self.kind.status == StatusCode::SERVICE_UNAVAILABLE {
            response.insert_header((header::RETRY_AFTER, "1"));
        }
        self.headers.iter().cloned().for_each(|header| {
            response.insert_header(header);
        });
        response.insert_header((header::CONTENT_TYPE, "application/problem+json"));
        response.json(self.document(instance))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.slug, self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.kind.status
    }

    /// An empty answer: the middleware, which knows the path, writes the document.
    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.kind.status)
    }
}

/// Requests cause these lines: one of each kind is logged in this time, with the number of those that were left out.
pub(crate) const BURST: Duration = Duration::from_secs(10);

static UNCONFIRMED: LogLimit = LogLimit::new(BURST);
static UNREACHABLE: LogLimit = LogLimit::new(BURST);
static FAILED: LogLimit = LogLimit::new(BURST);

/// Maps errors of the broker to public texts.
impl From<broker::Error> for Problem {
    fn from(error: broker::Error) -> Self {
        match &error {
            broker::Error::Full => Self::new(FULL, "Redis has no memory left for new jobs"),
            broker::Error::QueueFull { queue } => {
                Self::new(QUEUE_FULL, format!("queue {queue} is full"))
            }
            broker::Error::GroupFull { queue, group } => {
                let detail = format!("group {group} of queue {queue} is full");
                Self::new(GROUP_FULL, detail).header(header::RETRY_AFTER, "1")
            }
            broker::Error::TooManyQueues { queue } => {
                let detail =
                    format!("queue {queue} is new, and the maximum number of queues is known");
                Self::new(TOO_MANY_QUEUES, detail)
            }
            broker::Error::NotDurable { taken, .. } => {
                if let Some(left_out) = UNCONFIRMED.admit() {
                    tracing::warn!(%error, left_out, "a submission is not as durable as requested");
                }
                let unconfirmed = "Redis has not confirmed that the job is as durable as requested";
                let unsupported = "Redis is not configured to keep jobs as durable as requested";
                Self::new(NOT_DURABLE, if *taken { unconfirmed } else { unsupported })
            }
            broker::Error::Busy => Self::new(BUSY, "too many submissions are waiting for Redis"),
            broker::Error::Unavailable { .. }
            | broker::Error::Rejected { .. }
            | broker::Error::Refused { .. } => {
                if let Some(left_out) = UNREACHABLE.admit() {
                    tracing::warn!(%error, left_out, "request failed: Redis is unavailable");
                }
                Self::new(UNAVAILABLE, "Redis is unavailable")
            }
            _ => {
                if let Some(left_out) = FAILED.admit() {
                    tracing::error!(%error, left_out, "request failed: error of the broker");
                }
                Self::new(INTERNAL, "internal error")
            }
        }
    }
}
