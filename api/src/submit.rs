//! Turns a request into a job: checks, defaults from the task's declaration, and the answer. The order of the checks is
//! in `routes/submit.rs`, and for an item of a batch in `submit/batch.rs`.

mod batch;
mod envelope;
mod fit;
mod given;
mod grouping;
mod lines;
mod names;
mod options;
mod schema;
mod unique;
mod webhook;

use actix_web::http::{StatusCode, header};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use crunch_common::broker::{
    Bindings, Enqueued, Error, Idempotency, IndexId, JobRecord, Lookup, NewJob,
};
use crunch_common::job::{ContentType, JobId, JobOptions};
use crunch_common::task::{TaskDescriptor, TaskName};
use serde_json::json;

pub(crate) use batch::{ItemDocument, MAX_BATCH_BYTES, Sender, read_batch, submit_batch};
pub(crate) use envelope::Envelope;
pub(crate) use fit::{check_fit, check_schema};
pub(crate) use lines::{LinesDocument, submit_lines};
pub(crate) use options::Options;
pub(crate) use schema::{BatchSchema, EnvelopeSchema, OptionsSchema, WebhookSchema};

use crate::auth::{Caller, Scope};
use crate::catalog::Catalog;
use crate::checks;
use crate::document::JobDocument;
use crate::idempotency::IdempotencyKey;
use crate::links;
use crate::prefer::WaitPreference;
use crate::problem::{
    FORBIDDEN, GONE, IDEMPOTENCY_CONFLICT, INVALID_IDEMPOTENCY_KEY, Kind, LOCKED, Problem,
    Violation,
};
use crate::state::App;
use crate::watching::Until;

/// How much larger than its payload an envelope may be: room for its other members.
pub(crate) const ENVELOPE_BYTES: u64 = 64 * 1024;

/// The content of a submission, checked.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) payload: Bytes,
    pub(crate) content_type: ContentType,
    pub(crate) options: Options,
}

impl Submission {
    /// Returns the job as it will be enqueued. `base` is the JSON pointer of the payload.
    ///
    /// # Errors
    /// If the caller may not use the job's queue, the payload has no name of a group where the task expects one, or what the
    /// job is unique by cannot be compared.
    pub(crate) async fn into_job(
        self,
        (app, caller): (&App, &Caller),
        (task, base): (&TaskDescriptor, &str),
        idempotency: Option<Idempotency>,
    ) -> Result<NewJob, Problem> {
        let queue = self.options.queue.as_ref().unwrap_or(&task.queue).clone();
        if !caller.may_use(&queue) {
            let detail = format!("the key does not allow the queue {queue}");
            return Err(Problem::new(FORBIDDEN, detail));
        }
        let group = self.group(task, base).await?;
        let unique = self.unique((task, base), &queue, group.as_ref()).await?;
        let (unique, lock) = unique.unzip();
        let given = self.options;
        let is_at_home = group.is_some() || lock.is_some() || given.schedule.is_some();
        let bindings = Bindings {
            at_home_of: is_at_home.then_some(&queue),
            idempotency: idempotency.as_ref(),
        };
        let id = app.broker.new_bound_id(bindings);
        let job = NewJob::of(task, id, self.payload);
        Ok(NewJob {
            queue,
            indexes: IndexId::of_labels(&task.indexes, &given.metadata),
            priority: given.priority.unwrap_or(task.priority),
            start: given.start.unwrap_or(job.start),
            options: JobOptions {
                max_attempts: given.max_attempts.unwrap_or(task.max_attempts),
                timeout: given.timeout.unwrap_or(task.timeout),
                deadline: given.deadline,
                start_within: given.start_within.or(job.options.start_within),
                content_type: self.content_type,
                metadata: given.metadata,
                group,
                unique,
                trace: given.trace.clone(),
                ..job.options
            },
            retention: given.retention.or(job.retention),
            idempotency,
            durability: given.durability.unwrap_or_default(),
            lock,
            schedule: given.schedule,
            webhook: given.webhook.map(|wanted| app.webhooks.of(id, wanted, given.trace)),
            ..job
        })
    }
}

/// Returns the idempotency key of a submission, from the header or from the member of that name; if both are given,
/// they must be equal.
pub(crate) fn agreed_key(
    header: Option<IdempotencyKey>,
    member: Option<IdempotencyKey>,
) -> Result<Option<IdempotencyKey>, Problem> {
    match (header, member) {
        (Some(header), Some(member)) if header != member => {
            let detail = "the Idempotency-Key header and idempotency_key differ";
            Err(Problem::new(INVALID_IDEMPOTENCY_KEY, detail))
        }
        (header, member) => Ok(header.or(member)),
    }
}

/// Rejects an envelope with a webhook that this API does not accept. `base` is the JSON pointer of the envelope.
pub(crate) fn check_webhook(app: &App, options: &Options, base: &str) -> Result<(), Problem> {
    let violation = |detail| Violation::new(format!("{base}/webhook/url"), detail);
    let Some(wanted) = &options.webhook else { return Ok(()) };
    app.webhooks.check(wanted).map_err(|detail| Problem::violations(vec![violation(detail)]))
}

/// An accepted submission.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// A new job, or the one that this same request created when its reply was lost.
    New(Box<JobRecord>),
    /// The job that an earlier request with the same idempotency key created.
    Replayed(Box<JobRecord>),
    /// The job that holds the lock: no other was created. It has the new payload if its lock says so.
    Existing(Box<JobRecord>),
}

impl Accepted {
    pub(crate) fn job(self) -> JobRecord {
        match self {
            Self::New(job) | Self::Replayed(job) | Self::Existing(job) => *job,
        }
    }

    /// How the caller sees its job. One that holds the lock may be of somebody else.
    pub(crate) fn document_for(&self, caller: &Caller) -> fn(JobRecord) -> JobDocument {
        match self {
            Self::Existing(_) if !caller.has(Scope::Read) => JobDocument::for_submitter,
            _ => JobDocument::new,
        }
    }

    /// Adds the header that says why the job is not a new one.
    pub(crate) fn write_to(&self, response: &mut HttpResponseBuilder) {
        let name = match self {
            Self::New(_) => return,
            Self::Replayed(_) => "Idempotency-Replayed",
            Self::Existing(_) => "Crunch-Existing",
        };
        response.insert_header((name, "true"));
    }
}

/// Whether a job that was created before is read with its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Results {
    Read,
    Omitted,
}

/// Converts the answer of the broker; a job that was created before is read, so that the client gets its current state.
pub(crate) async fn accepted(
    app: &App,
    answer: Result<Enqueued, Error>,
    results: Results,
) -> Result<Accepted, Problem> {
    let read = async |id| match results {
        Results::Read => found(app.broker.job(id).await),
        Results::Omitted => found(app.broker.job_without_result(id).await),
    };
    match answer {
        Ok(Enqueued::Created(job)) => Ok(Accepted::New(job)),
        Ok(Enqueued::AlreadyCreated(id)) => read(id).await.map(Accepted::New),
        Ok(Enqueued::Replayed(id)) => read(id).await.map(Accepted::Replayed),
        Ok(Enqueued::Existing(id) | Enqueued::Replaced(id)) => {
            read(id).await.map(Accepted::Existing)
        }
        Ok(Enqueued::Conflict) => Err(conflict()),
        Ok(Enqueued::Locked(holder)) => Err(locked(holder)),
        Err(error) => Err(Problem::in_doubt(error)),
    }
}

fn conflict() -> Problem {
    let detail = "this Idempotency-Key was used for another request in the last 24 hours";
    Problem::new(IDEMPOTENCY_CONFLICT, detail)
}

/// 409 for a job whose lock another one holds.
pub(crate) fn locked(holder: JobId) -> Problem {
    let detail = format!("job {holder} holds its lock");
    Problem::new(LOCKED, detail).with("job", json!(holder.to_string()))
}

/// Whether one of many jobs that was rejected with this status may be accepted later; 429 is the status if its group is full.
fn may_succeed_later(status: u16) -> bool {
    [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].iter().any(|it| status == *it)
}

/// The error if the broker, which returns one answer for each job, returned too few.
fn no_answer() -> Error {
    Error::Unreadable { reason: "no answer to a submission".to_owned() }
}

fn found(job: Result<Lookup<JobRecord>, Error>) -> Result<Box<JobRecord>, Problem> {
    match job? {
        Lookup::Found(job) => Ok(Box::new(job)),
        Lookup::Gone(_) | Lookup::Unknown => {
            Err(Problem::new(GONE, "the job that an earlier request created was deleted"))
        }
    }
}

/// Which URL of a job is in the header `Location` of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Location {
    /// `/jobs/{id}`
    Job,
    /// `/result/{token}`
    Token,
}

/// Enqueues one job and answers 202 with its document; 200 if the client waits for its end, and it ends in time.
pub(crate) async fn submit_one(
    (app, caller): (&App, &Caller),
    job: NewJob,
    location: Location,
    preference: &WaitPreference,
) -> Result<HttpResponse, Problem> {
    let accepted = enqueue_one(app, job).await?;
    let mut response = HttpResponse::Accepted();
    accepted.write_to(&mut response);
    let document = accepted.document_for(caller);
    let job = wait_for_end(app, accepted.job(), preference).await;
    let ended = preference.time_limit.is_some() && job.status.is_terminal();
    if ended {
        response.status(StatusCode::OK);
    }
    add_links(&mut response, app, job.id, location);
    preference.write_to(&mut response);
    if !ended {
        response.insert_header((header::RETRY_AFTER, preference.retry_after()));
    }
    Ok(response.json(document(job)))
}

/// Enqueues one job.
pub(crate) async fn enqueue_one(app: &App, mut job: NewJob) -> Result<Accepted, Problem> {
    let permit = app.budgets.turn(job.payload.len()).await?;
    let answer = enqueue_traced(app, std::slice::from_mut(&mut job)).await.pop();
    drop(permit);
    accepted(app, answer.unwrap_or_else(|| Err(no_answer())), Results::Read).await
}

/// Enqueues jobs of one request. If their trace is sampled, this call is a span of it, and the jobs are below that span.
async fn enqueue_traced(app: &App, jobs: &mut [NewJob]) -> Vec<Result<Enqueued, Error>> {
    let sending = app.otel.sending(jobs);
    let answers = app.broker.enqueue(jobs).await;
    sending.ended(jobs, &answers);
    answers
}

/// Waits for the end of a job if the client wants that, and returns the job as it is then. If it cannot be read any
/// more, returns it as it was before the wait: it was accepted, so the client must not get an error.
async fn wait_for_end(app: &App, job: JobRecord, preference: &WaitPreference) -> JobRecord {
    let Some(time_limit) = preference.time_limit.filter(|_| !job.status.is_terminal()) else {
        return job;
    };
    match app.watchers.wait(job.id, Until::Ended, time_limit).await {
        Ok(Lookup::Found(current)) => current,
        Ok(Lookup::Gone(_) | Lookup::Unknown) | Err(_) => job,
    }
}

/// Adds the headers with the URLs of the job, and forbids caching.
fn add_links(response: &mut HttpResponseBuilder, app: &App, id: JobId, location: Location) {
    let url = match location {
        Location::Job => app.public_url.job(id),
        Location::Token => app.public_url.result_by_token(id),
    };
    response
        .insert_header((header::LOCATION, url))
        .insert_header(("Operation-Location", app.public_url.job(id)))
        .insert_header((header::CONTENT_LOCATION, links::job(id)))
        .insert_header((header::LINK, format!("<{}>; rel=\"monitor\"", links::job(id))))
        .insert_header((header::CACHE_CONTROL, "no-store"));
}

/// The problem for a task that no worker declared, and the declared one that was perhaps meant; its kind depends on the
/// request.
pub(crate) fn undeclared(kind: &'static Kind, task: &TaskName, catalog: &Catalog) -> Problem {
    Problem::new(kind, never_declared(task) + &suggestion(task, catalog))
}

/// The problem for such a task in an envelope.
pub(crate) fn undeclared_member(task: &TaskName, catalog: &Catalog) -> Problem {
    let detail = never_declared(task) + &suggestion(task, catalog);
    Problem::violations(vec![Violation::new("/task", detail)])
}

/// The problem for such a task in the item of a batch with the JSON pointer `base`. It suggests nothing: a batch may have
/// thousands of them.
pub(crate) fn undeclared_item(task: &TaskName, base: &str) -> Problem {
    Problem::violations(vec![Violation::new(format!("{base}/task"), never_declared(task))])
}

fn never_declared(task: &TaskName) -> String {
    format!("no worker ever declared a task {:?}", task.as_str())
}

fn suggestion(task: &TaskName, catalog: &Catalog) -> String {
    let nearest = catalog.nearest(task);
    nearest.map_or_else(String::new, |name| format!("; did you mean {:?}?", name.as_str()))
}

/// Returns what identifies a request that has an idempotency key; its content type and body are part of it.
///
/// # Errors
/// If the body is large and too many requests wait for theirs to be hashed.
pub(crate) async fn idempotency(
    key: Option<IdempotencyKey>,
    caller: &Caller,
    request: &HttpRequest,
    content_type: &ContentType,
    body: &Bytes,
) -> Result<Option<Idempotency>, Problem> {
    let Some(key) = key else { return Ok(None) };
    let identity = key.with(caller, request, content_type.as_str());
    checks::hashed(body, move |body| identity.in_full(body)).await.map(Some)
}
