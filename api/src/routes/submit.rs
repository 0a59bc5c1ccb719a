//! The four ways to submit. Each keeps the order of checks: type and encoding, size, syntax, envelope or parameters,
//! key, the caller's rate, Redis.

use std::sync::Arc;

use actix_web::{HttpRequest, web};
use crunch_common::job::ContentType;
use crunch_common::task::{TaskDescriptor, TaskName};

use super::Answer;
use super::shared_parameters::{SubmissionHeaders, SubmissionQuery};
use crate::auth::Caller;
use crate::catalog::DeclaredTask;
use crate::document::{Items, JobDocument};
use crate::idempotency::{HEADER as IDEMPOTENCY_KEY, IdempotencyKey};
use crate::prefer::{WAIT, WaitPreference};
use crate::problem::{
    INVALID_IDEMPOTENCY_KEY, NO_WORKER_YET, NOT_FOUND, Problem, TOO_LARGE, UNKNOWN_TASK,
};
use crate::state::App;
use crate::submit::{
    BatchSchema, ENVELOPE_BYTES, Envelope, EnvelopeSchema, ItemDocument, LinesDocument, Location,
    MAX_BATCH_BYTES, Options, OptionsSchema, Sender, Submission, agreed_key, check_fit,
    check_schema, check_webhook, idempotency, read_batch, submit_batch, submit_lines, submit_one,
    undeclared, undeclared_member,
};
use crate::{body, checks, query, trace};

/// Submits a job; the body names the task.
#[utoipa::path(post, path = "/jobs", tag = "jobs", operation_id = "submitJob",
    params(SubmissionQuery, SubmissionHeaders),
    request_body = EnvelopeSchema,
    responses(
        (status = 200, description = "Accepted, and ended while the request waited", body = JobDocument),
        (status = 202, description = "Accepted", body = JobDocument),
        (status = 409, description = "It is unique, and `job` holds its lock"),
        (status = 422, description = "The submission is invalid"),
        (status = 429, description = "The caller exceeds its request rate, or as many jobs of the group wait as may; `Retry-After` is the time to wait"),
        (status = 503, description = "Jobs cannot be accepted at the moment"),
    ))]
pub(crate) async fn by_envelope(
    app: web::Data<App>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer {
    let content_type = body::content_type(&request, Some(&[ContentType::json()]))?;
    let limit = app.catalog.largest_json_payload() + ENVELOPE_BYTES;
    let bytes = body::read(&request, payload, &app.budgets.requests, limit).await?;
    let envelope = checks::read(&bytes, |bytes, text| Envelope::read(bytes, text, "")).await?;
    reject_parameters(&request, &[WAIT])?;
    let mut preference = WaitPreference::of(&request)?;
    let Envelope { task, mut submission } = envelope.map_err(Problem::violations)?;
    submission.options.trace = trace::of(&request);
    let declared =
        app.catalog.find(&task).await?.ok_or_else(|| undeclared_member(&task, &app.catalog))?;
    check_fit(&declared, &submission, "").await?;
    check_webhook(&app, &submission.options, "")?;
    let key = agreed_key(IdempotencyKey::of(&request)?, submission.options.key.clone())?;
    let idempotency = idempotency(key, &caller, &request, &content_type, &bytes).await?;
    let job =
        submission.into_job((&app, &caller), (&declared.task, "/payload"), idempotency).await?;
    app.limits.count(&caller, &request)?;
    preference.take_place(&app.places, &caller);
    submit_one((&app, &caller), job, Location::Job, &preference).await
}

/// Submits a job of the task in the path; the body is its payload.
#[utoipa::path(post, path = "/tasks/{task}/jobs", tag = "jobs", operation_id = "submitJobOfTask",
    params(
        ("task" = String, Path, description = "The task's name"),
        OptionsSchema,
        SubmissionQuery,
        SubmissionHeaders,
    ),
    request_body(content = serde_json::Value, description = "The payload: JSON, or bytes of a content type that the task accepts. Options are query parameters."),
    responses(
        (status = 200, description = "Accepted, and ended while the request waited", body = JobDocument),
        (status = 202, description = "Accepted", body = JobDocument),
        (status = 404, description = "No worker has declared this task"),
        (status = 409, description = "It is unique, and `job` holds its lock"),
        (status = 429, description = "The caller exceeds its request rate, or as many jobs of the group wait as may; `Retry-After` is the time to wait"),
    ))]
pub(crate) async fn by_task(
    app: web::Data<App>,
    caller: Caller,
    task: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer {
    let task: TaskName =
        task.parse().map_err(|_| Problem::new(UNKNOWN_TASK, "there is no such task"))?;
    let declared = match app.catalog.find(&task).await {
        Ok(found) => Ok(found.ok_or_else(|| undeclared(UNKNOWN_TASK, &task, &app.catalog))?),
        Err(error) => Err(Problem::from(error)),
    };
    by_payload((&app, &caller), declared, &request, payload, Location::Job).await
}

/// Submits a job of the task that is configured for this path.
pub(crate) async fn by_route(
    app: web::Data<App>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer {
    let route = app.task_routes.iter().find(|route| route.path == request.path());
    let task = &route.ok_or_else(|| Problem::new(NOT_FOUND, "there is nothing here"))?.task;
    let declared = match app.catalog.find(task).await {
        Ok(found) => found.ok_or_else(|| undeclared(NO_WORKER_YET, task, &app.catalog)),
        Err(error) => Err(Problem::from(error)),
    };
    by_payload((&app, &caller), declared, &request, payload, Location::Token).await
}

/// Submits the body. An undeclared task, or an unavailable Redis, is reported in the order of checks, after errors of
/// the request that do not depend on the task.
async fn by_payload(
    (app, caller): (&App, &Caller),
    declared: Result<Arc<DeclaredTask>, Problem>,
    request: &HttpRequest,
    payload: web::Payload,
    location: Location,
) -> Answer {
    let known = declared.as_ref().ok().map(|declared| &declared.task);
    let content_type = body::content_type(request, known.map(|task| task.accepts.as_slice()))?;
    let limit = known.map_or(TaskDescriptor::DEFAULT_MAX_PAYLOAD, |task| task.max_payload);
    let read = body::read(request, payload, &app.budgets.requests, limit).await;
    if read.as_ref().is_err_and(|problem| problem.kind == TOO_LARGE) {
        // Too large for most tasks; one that is not declared yet may accept more.
        if let Err(unknown) = declared {
            return Err(unknown);
        }
    }
    let payload = read?;
    if content_type.is_json() {
        checks::read(&payload, |_, _| ()).await?;
    }
    let (mut preference, mut options) =
        (WaitPreference::of(request)?, Options::from_query(request.query_string())?);
    options.trace = trace::of(request);
    if let (Ok(declared), true) = (&declared, content_type.is_json()) {
        check_schema(declared, &payload, "").await?;
    }
    if let Some(webhook) = &options.webhook {
        app.webhooks.check(webhook).map_err(|detail| query::invalid("webhook.url", detail))?;
    }
    let key = agreed_key(IdempotencyKey::of(request)?, options.key.clone())?;
    let task = declared?;
    let idempotency = idempotency(key, caller, request, &content_type, &payload).await?;
    let submission = Submission { payload, content_type, options };
    let job = submission.into_job((app, caller), (&task.task, ""), idempotency).await?;
    app.limits.count(caller, request)?;
    preference.take_place(&app.places, caller);
    submit_one((app, caller), job, location, &preference).await
}

/// Submits many jobs, independent of each other: up to 1000 in one document, or any number as lines.
#[utoipa::path(post, path = "/jobs/batch", tag = "jobs", operation_id = "submitBatch",
    request_body(description = "A document of up to 1000 jobs, or one job per line, accepted as they arrive", content(
        (BatchSchema = "application/json"),
        (EnvelopeSchema = "application/x-ndjson"),
    )),
    responses(
        (status = 202, description = "At least one was accepted; every item has its answer at its position, or the lines are counted", body = BatchAnswer),
        (status = 422, description = "None was accepted", body = BatchAnswer),
        (status = 503, description = "None was accepted; a retry may succeed for some", body = BatchAnswer),
    ))]
pub(crate) async fn batch(
    app: web::Data<App>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer {
    let lines: ContentType = LINES.parse().expect("it is a content type");
    let content_type = body::content_type(&request, Some(&[ContentType::json(), lines.clone()]))?;
    let sender = Sender { app: &app, caller: &caller, trace: trace::of(&request) };
    if content_type == lines {
        reject_for_batch(&request)?;
        app.limits.count(&caller, &request)?;
        return submit_lines(&sender, &request, payload).await;
    }
    let bytes = body::read(&request, payload, &app.budgets.requests, MAX_BATCH_BYTES).await?;
    let idempotency_scope = caller.idempotency_scope();
    let items =
        checks::read(&bytes, move |bytes, text| read_batch(bytes, text, &idempotency_scope))
            .await?;
    reject_for_batch(&request)?;
    app.limits.count(&caller, &request)?;
    let items = items.map_err(|violation| Problem::violations(vec![violation]))?;
    submit_batch(&sender, items, request.path()).await
}

/// One JSON value per line (ndjson.org).
const LINES: &str = "application/x-ndjson";

/// The outcome of a batch: an item for each job, or counts.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) enum BatchAnswer {
    Items(Items<ItemDocument>),
    Lines(LinesDocument),
}

/// Rejects parameters and keys: they belong to single items.
fn reject_for_batch(request: &HttpRequest) -> Result<(), Problem> {
    reject_parameters(request, &[])?;
    if request.headers().contains_key(IDEMPOTENCY_KEY) {
        let detail = "a batch accepts keys in its items only, as idempotency_key";
        return Err(Problem::new(INVALID_IDEMPOTENCY_KEY, detail));
    }
    Ok(())
}

/// Rejects unknown parameters: options are in the envelope, and one in the query would be silently ignored.
fn reject_parameters(request: &HttpRequest, known: &[&str]) -> Result<(), Problem> {
    let pairs = query::pairs(request.query_string())?;
    match pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        Some((name, _)) => Err(query::unknown(name, known.iter().copied())),
        None => Ok(()),
    }
}
