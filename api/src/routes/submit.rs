//! The four ways to submit. Each keeps the order of checks: type and encoding, size, syntax, envelope, key, Redis.

use actix_web::{HttpRequest, web};
use crunch_common::job::ContentType;
use crunch_common::task::{TaskDescriptor, TaskName};

use super::Answer;
use crate::document::JobDocument;
use crate::idempotency::Key;
use crate::problem::{
    INVALID_IDEMPOTENCY_KEY, NO_WORKER_YET, NOT_FOUND, Problem, UNKNOWN_TASK, Violation,
};
use crate::state::App;
use crate::submit::{
    ENVELOPE_BYTES, Envelope, Location, MAX_BATCH_BYTES, Options, Submission, check_size,
    idempotency, one_key, query_pairs, submit_batch, submit_one, undeclared,
};
use crate::{body, json};

/// Submits a job; the body names the task.
#[utoipa::path(post, path = "/jobs", tag = "jobs",
    request_body(content = serde_json::Value, description = "`{task, payload?, queue?, priority?, delay_ms? or run_at?, timeout_ms?, deadline_ms?, max_attempts?, retention_ms?, idempotency_key?, metadata?}`"),
    responses(
        (status = 202, description = "Taken", body = JobDocument),
        (status = 422, description = "The submission does not fit"),
        (status = 503, description = "Jobs cannot be taken right now"),
    ))]
pub(crate) async fn by_envelope(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer {
    let content_type = body::content_type(&request, &[ContentType::json()])?;
    let limit = app.catalog.largest_json_payload() + ENVELOPE_BYTES;
    let bytes = body::read(&request, payload, limit).await?;
    json::check(&bytes)?;
    refuse_parameters(&request)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Problem::new(crate::problem::MALFORMED_JSON, "not UTF-8"))?;
    let Envelope { task, submission } = Envelope::read(text, "").map_err(Problem::violations)?;
    let declared = app.catalog.find(&task).await?.ok_or_else(|| {
        let detail = format!("no worker ever declared a task {:?}", task.as_str());
        Problem::violations(vec![Violation::new("/task", detail)])
    })?;
    check_size(&declared, &submission.payload)?;
    let key = one_key(Key::of(&request)?, submission.options.key.clone())?;
    let idempotency = idempotency(key, &request, &content_type, &bytes);
    let job = submission.into_job(&app.broker, &declared, idempotency);
    submit_one(&app, job, Location::Job).await
}

/// Submits a job of the task in the path; the body is its payload.
#[utoipa::path(post, path = "/tasks/{task}/jobs", tag = "jobs",
    params(("task" = String, Path, description = "The task's name")),
    request_body(content = serde_json::Value, description = "The payload: JSON, or bytes of a content type the task takes. Options are query parameters."),
    responses(
        (status = 202, description = "Taken", body = JobDocument),
        (status = 404, description = "No worker ever declared this task"),
    ))]
pub(crate) async fn by_task(
    app: web::Data<App>,
    task: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer {
    let task: TaskName =
        task.parse().map_err(|_| Problem::new(UNKNOWN_TASK, "there is no such task"))?;
    let declared = app.catalog.find(&task).await?.ok_or_else(|| undeclared(UNKNOWN_TASK, &task))?;
    by_payload(&app, &declared, &request, payload, Location::Job).await
}

/// Submits a job of the task that is configured for this path.
pub(crate) async fn by_route(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer {
    let route = app.task_routes.iter().find(|route| route.path == request.path());
    let task = &route.ok_or_else(|| Problem::new(NOT_FOUND, "there is nothing here"))?.task;
    let declared = app.catalog.find(task).await?.ok_or_else(|| undeclared(NO_WORKER_YET, task))?;
    by_payload(&app, &declared, &request, payload, Location::Token).await
}

async fn by_payload(
    app: &App,
    task: &TaskDescriptor,
    request: &HttpRequest,
    payload: web::Payload,
    location: Location,
) -> Answer {
    let content_type = body::content_type(request, &task.accepts)?;
    let payload = body::read(request, payload, task.max_payload).await?;
    if content_type.is_json() {
        json::check(&payload)?;
    }
    let options = Options::from_query(request.query_string())?;
    let key = one_key(Key::of(request)?, options.key.clone())?;
    let idempotency = idempotency(key, request, &content_type, &payload);
    let job =
        Submission { payload, content_type, options }.into_job(&app.broker, task, idempotency);
    submit_one(app, job, location).await
}

/// Submits up to 1000 jobs, each for itself.
#[utoipa::path(post, path = "/jobs/batch", tag = "jobs",
    request_body(content = serde_json::Value, description = "`{jobs: [envelope, …]}`"),
    responses(
        (status = 202, description = "At least one was taken: `{items: [{status, job} or {status, problem}]}` in order"),
        (status = 422, description = "None was taken"),
    ))]
pub(crate) async fn batch(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer {
    body::content_type(&request, &[ContentType::json()])?;
    let bytes = body::read(&request, payload, MAX_BATCH_BYTES).await?;
    json::check(&bytes)?;
    refuse_parameters(&request)?;
    if Key::of(&request)?.is_some() {
        let detail = "a batch takes keys in its items only, as idempotency_key";
        return Err(Problem::new(INVALID_IDEMPOTENCY_KEY, detail));
    }
    submit_batch(&app, &bytes).await
}

/// Where the envelope says everything, a query parameter would silently say nothing.
fn refuse_parameters(request: &HttpRequest) -> Result<(), Problem> {
    let pairs = query_pairs(request.query_string());
    match pairs.iter().find(|(name, _)| name != "wait") {
        Some((name, _)) => {
            let detail = format!("there is no query parameter {name:?} here; say it in the body");
            Err(Problem::new(crate::problem::INVALID_PARAMETER, detail))
        }
        None => Ok(()),
    }
}
