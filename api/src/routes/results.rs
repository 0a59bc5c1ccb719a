//! The result and the payload of a job: raw bytes with their own type.

use actix_web::http::header;
use actix_web::{HttpMessage, HttpRequest, HttpResponse, HttpResponseBuilder, web};
use crunch_common::job::{Payload, Status};

use super::Answer;
use super::job_access::{find_job, found_or_problem, visible_id, wait_for_job};
use super::shared_parameters::{JobPath, WaitHeader, WaitQuery};
use crate::auth::Caller;
use crate::budget::SMALL;
use crate::document::JobDocument;
use crate::prefer::WaitPreference;
use crate::problem::{INTERNAL, JOB_CANCELED, Problem, TRIMMED};
use crate::state::App;
use crate::watching::Until;

/// Returns the state of a job by its token: the status code alone is enough for a client.
#[utoipa::path(get, path = "/result/{token}", tag = "jobs", operation_id = "getResultByToken",
    params(
        ("token" = String, Path, description = "The token from the answer to the submission"),
        WaitQuery,
        WaitHeader,
    ),
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
    request: HttpRequest,
) -> Answer {
    let mut preference = WaitPreference::of(&request)?;
    preference.take_place(&app.places, &caller);
    let wait = preference.time_limit.map(|time_limit| (Until::Ended, time_limit));
    let job = wait_for_job(&app, &caller, &token, wait).await?;
    let mut response =
        if job.status.is_terminal() { HttpResponse::Ok() } else { pending(&preference) };
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    preference.write_to(&mut response);
    Ok(response.json(JobDocument::new(job)))
}

/// Returns the result as raw bytes.
#[utoipa::path(get, path = "/jobs/{id}/result", tag = "jobs", operation_id = "getResult",
    params(JobPath, WaitQuery, WaitHeader),
    responses(
        (status = 200, description = "The result, with its own content type"),
        (status = 202, description = "Not ended yet", body = JobDocument),
        (status = 404, description = "There is no such job"),
        (status = 409, description = "It was canceled"),
        (status = 410, description = "It was deleted"),
        (status = 422, description = "It failed; `error` is the reason"),
    ))]
pub(crate) async fn raw(
    app: web::Data<App>,
    caller: Caller,
    id: web::Path<String>,
    request: HttpRequest,
) -> Answer {
    let (id, mut preference) =
        (visible_id(&app, &caller, &id).await?, WaitPreference::of(&request)?);
    preference.take_place(&app.places, &caller);
    let known = match preference.time_limit {
        Some(time_limit) => app.watchers.wait(id, Until::Ended, time_limit).await?,
        None => app.broker.job(id).await?,
    };
    let size = found_or_problem(known)?.result.map_or(0, |result| result.size);
    reserve(&app, &request, size)?;
    let (job, result) = found_or_problem(app.broker.result(id).await?)?;
    let mut response = match (job.status, &result) {
        (Status::Succeeded, Some(result)) => bytes(result),
        (Status::Succeeded, None) => {
            return Err(Problem::new(INTERNAL, "the result cannot be read"));
        }
        (Status::Failed, _) => return Err(Problem::job_failed(job.error.as_ref())),
        (Status::Canceled, _) => return Err(Problem::new(JOB_CANCELED, "the job was canceled")),
        (Status::Scheduled | Status::Queued | Status::Running | Status::Retrying, _) => {
            pending(&preference)
        }
    };
    preference.write_to(&mut response);
    match result {
        Some(result) => Ok(response.body(result.bytes)),
        None => {
            response.insert_header((header::CACHE_CONTROL, "no-store"));
            Ok(response.json(JobDocument::new(job)))
        }
    }
}

/// Returns the payload as it was submitted.
#[utoipa::path(get, path = "/jobs/{id}/payload", tag = "jobs", operation_id = "getPayload",
    params(JobPath),
    responses(
        (status = 200, description = "The payload, with its own content type"),
        (status = 404, description = "There is no such job"),
        (status = 410, description = "It was deleted"),
    ))]
pub(crate) async fn payload(
    app: web::Data<App>,
    caller: Caller,
    id: web::Path<String>,
    request: HttpRequest,
) -> Answer {
    let job = find_job(&app, &caller, &id).await?;
    reserve(&app, &request, job.options.payload_size)?;
    let payload = found_or_problem(app.broker.payload(job.id).await?)?;
    let payload = payload
        .ok_or_else(|| Problem::new(TRIMMED, "the payload was removed early to free memory"))?;
    Ok(bytes(&payload).body(payload.bytes))
}

/// Reserves memory for a large answer before it is read from Redis: many that are read at once would be in memory
/// before one of them could be rejected. The middleware keeps the reservation until the client has received the answer.
pub(crate) fn reserve(app: &App, request: &HttpRequest, bytes: u64) -> Result<(), Problem> {
    if bytes > SMALL {
        let mut share = app.budgets.answers.share();
        share.resize(bytes)?;
        request.extensions_mut().insert(share);
    }
    Ok(())
}

fn pending(preference: &WaitPreference) -> HttpResponseBuilder {
    let mut response = HttpResponse::Accepted();
    response.insert_header((header::RETRY_AFTER, preference.retry_after()));
    response
}

/// 200 for bytes from clients and workers: browsers must not interpret them as another type.
fn bytes(payload: &Payload) -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .content_type(payload.content_type.as_str())
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"))
        .insert_header((header::CACHE_CONTROL, "private, no-cache"));
    response
}
