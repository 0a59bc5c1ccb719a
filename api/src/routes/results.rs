//! What came out of a job, and what went in: raw bytes with their own type.

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use crunch_common::broker::{Lookup, Tombstone};
use crunch_common::job::{Payload, Status};

use super::Answer;
use super::sight::{job_there, visible};
use crate::auth::Caller;
use crate::document::JobDocument;
use crate::problem::{GONE, INTERNAL, JOB_CANCELED, Problem, TRIMMED};
use crate::state::App;

/// How a job stands, by its token: the status code alone can drive a client.
#[utoipa::path(get, path = "/result/{token}", tag = "jobs", operation_id = "getResultByToken",
    params(("token" = String, Path, description = "The token that was answered to the submission")),
    responses(
        (status = 202, description = "Not ended yet", body = JobDocument),
        (status = 200, description = "Ended; read `status`", body = JobDocument),
        (status = 404, description = "There is no such job"),
        (status = 410, description = "It was deleted"),
    ))]
pub(crate) async fn by_token(
    app: web::Data<App>,
    caller: Caller,
    token: web::Path<String>,
) -> Answer {
    let job = job_there(&app, &caller, &token).await?;
    let mut response = if job.status.is_terminal() { HttpResponse::Ok() } else { pending() };
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    Ok(response.json(JobDocument::new(job)))
}

/// The result as it is.
#[utoipa::path(get, path = "/jobs/{id}/result", tag = "jobs", operation_id = "getResult",
    params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, description = "The result, with its own content type"),
        (status = 202, description = "Not ended yet", body = JobDocument),
        (status = 404, description = "There is no such job"),
        (status = 409, description = "It was canceled"),
        (status = 410, description = "It was deleted"),
        (status = 422, description = "It failed; `error` says why"),
    ))]
pub(crate) async fn raw(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Answer {
    let (job, result) = there(app.broker.result(visible(&app, &caller, &id).await?).await?)?;
    match (job.status, result) {
        (Status::Succeeded, Some(result)) => Ok(bytes(&result)),
        (Status::Succeeded, None) => Err(Problem::new(INTERNAL, "the result could not be read")),
        (Status::Failed, _) => Err(Problem::job_failed(job.error.as_ref())),
        (Status::Canceled, _) => Err(Problem::new(JOB_CANCELED, "the job was canceled")),
        (Status::Scheduled | Status::Queued | Status::Running | Status::Retrying, _) => {
            Ok(pending()
                .insert_header((header::CACHE_CONTROL, "no-store"))
                .json(JobDocument::new(job)))
        }
    }
}

/// The payload as it was submitted.
#[utoipa::path(get, path = "/jobs/{id}/payload", tag = "jobs", operation_id = "getPayload",
    params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, description = "The payload, with its own content type"),
        (status = 404, description = "There is no such job"),
        (status = 410, description = "It was deleted"),
    ))]
pub(crate) async fn payload(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Answer {
    let payload = there(app.broker.payload(visible(&app, &caller, &id).await?).await?)?;
    let payload =
        payload.ok_or_else(|| Problem::new(TRIMMED, "the payload was forgotten to make room"))?;
    Ok(bytes(&payload))
}

fn pending() -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::Accepted();
    response.insert_header((header::RETRY_AFTER, "1"));
    response
}

/// Bytes somebody else made: the browser is told to take them for nothing else.
fn bytes(payload: &Payload) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(payload.content_type.as_str())
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"))
        .insert_header((header::CACHE_CONTROL, "private, no-cache"))
        .body(payload.bytes.clone())
}

/// What was looked up, or the problem that says why it is not there.
pub(crate) fn there<T>(lookup: Lookup<T>) -> Result<T, Problem> {
    match lookup {
        Lookup::Found(found) => Ok(found),
        Lookup::Gone(Tombstone::Deleted) => Err(Problem::new(GONE, "the job was deleted")),
        Lookup::Gone(Tombstone::Trimmed) => {
            Err(Problem::new(TRIMMED, "the job had ended and was forgotten to make room"))
        }
        Lookup::Unknown => Err(Problem::no_such_job()),
    }
}
