//! One job, the list of jobs, and the operations on jobs.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crunch_common::broker::{
    CancelOutcome, Cursor, DeleteOutcome, JobRecord, ListQuery, RetryOutcome,
};

use super::Answer;
use super::job_access::{find_job, found_or_problem, known_queue, visible_id, wait_for_job};
use super::shared_parameters::{JobFilters, JobPath, WaitHeader};
use crate::action_log::Action;
use crate::auth::Caller;
use crate::document::words::StatusWord;
use crate::document::{AttemptDocument, Items, JobDocument, JobPage, ok};
use crate::etag::{self, IfNoneMatch};
use crate::metrics;
use crate::parameters;
use crate::prefer::WaitPreference;
use crate::problem::{ALREADY_FINISHED, NOT_FINISHED, NOT_RETRYABLE, OUTSIDE_LIMIT, Problem};
use crate::query;
use crate::search::{self, IsIndexed};
use crate::state::App;
use crate::submit::locked;
use crate::watching::Until;

/// The default size of a page; the largest is a hundred.
const DEFAULT_LIMIT: usize = 20;
pub(super) const MAX_LIMIT: usize = 100;

/// Returns the state of a job; always 200 while the job exists.
#[utoipa::path(get, path = "/jobs/{id}", tag = "jobs", operation_id = "getJob",
    params(
        JobPath,
        ("wait" = Option<u64>, Query, description = "Delays the answer for up to this many seconds, at most 60, until the job has ended or, with If-None-Match, has changed"),
        ("If-None-Match" = Option<String>, Header, description = "The ETag of a previous answer"),
        WaitHeader,
    ),
    responses(
        (status = 200, description = "The job; a failed one is data, not an error", body = JobDocument),
        (status = 303, description = "The client prefers HTML (`Accept`): `Location` is the job's page in the dashboard"),
        (status = 304, description = "Unchanged since the ETag of If-None-Match"),
        (status = 404, description = "There is no such job"),
        (status = 410, description = "It was deleted"),
    ))]
pub(crate) async fn show(
    app: web::Data<App>,
    caller: Caller,
    id: web::Path<String>,
    request: HttpRequest,
) -> Answer {
    let mut preference = WaitPreference::of(&request)?;
    preference.take_place(&app.places, &caller);
    let known = IfNoneMatch::of(&request);
    let until = known.clone().map_or(Until::Ended, Until::Other);
    let job = wait_for_job(
        &app,
        &caller,
        &id,
        preference.time_limit.map(|time_limit| (until, time_limit)),
    )
    .await?;
    let unchanged = known.is_some_and(|known| known.contains(job.version));
    let mut response = if unchanged { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header((header::ETAG, etag::of(job.version)))
        .insert_header((header::CACHE_CONTROL, "private, no-cache"));
    preference.write_to(&mut response);
    response.append_header((header::VARY, "Accept"));
    if !job.status.is_terminal() {
        response.insert_header((header::RETRY_AFTER, preference.retry_after()));
    }
    Ok(if unchanged { response.finish() } else { response.json(JobDocument::new(job)) })
}

/// Lists the last attempts of a job, oldest first.
#[utoipa::path(get, path = "/jobs/{id}/attempts", tag = "jobs", operation_id = "listAttempts",
    params(JobPath),
    responses((status = 200, description = "Up to ten attempts", body = Items<AttemptDocument>)))]
pub(crate) async fn attempts(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Answer {
    let attempts =
        found_or_problem(app.broker.attempts(visible_id(&app, &caller, &id).await?).await?)?;
    Ok(ok(&Items { items: attempts.into_iter().map(AttemptDocument::from).collect() }))
}

/// Cancels a job: immediately if it waits; the worker of a running one is notified.
#[utoipa::path(post, path = "/jobs/{id}/cancel", tag = "jobs", operation_id = "cancelJob",
    params(JobPath),
    responses(
        (status = 200, description = "Canceled, by this or an earlier request", body = JobDocument),
        (status = 202, description = "Running; its worker was notified", body = JobDocument),
        (status = 409, description = "It has already ended with another status"),
    ))]
pub(crate) async fn cancel(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Answer {
    let outcome = found_or_problem(
        app.broker
            .cancel(visible_id(&app, &caller, &id).await?)
            .await
            .map_err(Problem::in_doubt)?,
    )?;
    let mut response = match outcome {
        CancelOutcome::AlreadyEnded => {
            return Err(Problem::new(ALREADY_FINISHED, "the job has already ended"));
        }
        CancelOutcome::Canceled | CancelOutcome::AlreadyCanceled => HttpResponse::Ok(),
        CancelOutcome::Requested => HttpResponse::Accepted(),
    };
    let job = find_job(&app, &caller, &id).await?;
    if outcome == CancelOutcome::Canceled {
        metrics::finished(job.task.as_str(), job.queue.as_str(), "canceled", 1);
    }
    after(&mut response, job)
}

/// Queues a failed or canceled job again, under the same id.
#[utoipa::path(post, path = "/jobs/{id}/retry", tag = "jobs", operation_id = "retryJob",
    params(JobPath),
    responses(
        (status = 202, description = "Queued again", body = JobDocument),
        (status = 409, description = "It is neither failed nor canceled; its queue has a limit that could not apply to it; or another job holds its lock"),
    ))]
pub(crate) async fn retry(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Answer {
    let id = visible_id(&app, &caller, &id).await?;
    let outcome = app.broker.retry(id).await.map_err(Problem::in_doubt)?;
    match found_or_problem(outcome)? {
        RetryOutcome::Queued => {
            let action = Action::named("retry").on_job(&id).changing(1);
            let job = find_job(&app, &caller, &id.to_string()).await;
            let action = match &job {
                Ok(job) => action.on_queue(&job.queue),
                Err(_) => action,
            };
            action.record(&app, &caller).await;
            after(&mut HttpResponse::Accepted(), job?)
        }
        RetryOutcome::NotEnded => {
            Err(Problem::new(NOT_RETRYABLE, "only failed and canceled jobs can be retried"))
        }
        RetryOutcome::Elsewhere => {
            let detail =
                "its queue has a limit since, which could not apply to it: submit it again";
            Err(Problem::new(OUTSIDE_LIMIT, detail))
        }
        RetryOutcome::Locked(holder) => Err(locked(holder)),
    }
}

/// Deletes an ended job. Never cancels: a repeated DELETE must not have two effects.
#[utoipa::path(delete, path = "/jobs/{id}", tag = "jobs", operation_id = "deleteJob",
    params(JobPath),
    responses(
        (status = 204, description = "Deleted"),
        (status = 409, description = "It has not ended yet"),
        (status = 410, description = "It was deleted earlier"),
    ))]
pub(crate) async fn delete(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Answer {
    let id = visible_id(&app, &caller, &id).await?;
    let outcome = app.broker.delete(id).await.map_err(Problem::in_doubt)?;
    match found_or_problem(outcome)? {
        DeleteOutcome::Deleted => {
            Action::named("delete").on_job(&id).changing(1).record(&app, &caller).await;
            Ok(HttpResponse::NoContent().finish())
        }
        DeleteOutcome::NotEnded => Err(Problem::new(NOT_FINISHED, "cancel the job first")),
    }
}

/// Answers an operation with the document of the job.
fn after(response: &mut actix_web::HttpResponseBuilder, job: JobRecord) -> Answer {
    if !job.status.is_terminal() {
        response.insert_header((header::RETRY_AFTER, "1"));
    }
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    Ok(response.json(JobDocument::new(job)))
}

/// Lists jobs, a page at a time.
#[utoipa::path(get, path = "/jobs", tag = "jobs", operation_id = "listJobs",
    params(
        ("status" = Option<StatusWord>, Query, description = "Only jobs with this status"),
        JobFilters,
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "The size of a page; default 20"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the previous page"),
    ),
    responses(
        (status = 200, description = "A page; it may be short, only a null `next_cursor` ends the list", body = JobPage),
        (status = 404, description = "There is no such queue"),
    ))]
pub(crate) async fn list(app: web::Data<App>, caller: Caller, request: HttpRequest) -> Answer {
    let pairs = query::pairs(request.query_string())?;
    let mut query = read_list(pairs, &|task, label| app.catalog.indexes(task, label))?;
    query.among = caller.queues().cloned();
    let page = app.broker.list(&query).await?;
    if let (Some(queue), true) = (&query.queue, page.items.is_empty()) {
        known_queue(&app, &caller, queue).await?;
    }
    let (next_cursor, search) =
        (page.next.as_ref().map(cursor_text), search::document(&query, &page));
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    if let Some(cursor) = &next_cursor {
        let next = next_query(request.query_string(), cursor)?;
        response.insert_header((header::LINK, format!("</jobs?{next}>; rel=\"next\"")));
    }
    let items = page.items.into_iter().map(JobDocument::listed).collect();
    Ok(response.json(JobPage { items, next_cursor, search }))
}

/// Reads the parameters of a list.
pub(crate) fn read_list(
    pairs: Vec<(String, String)>,
    is_indexed: IsIndexed<'_>,
) -> Result<ListQuery, Problem> {
    let mut list = ListQuery { limit: DEFAULT_LIMIT, ..ListQuery::default() };
    let mut requested = None;
    for (name, text) in &sorted(pairs) {
        let invalid = |accepted: &str| query::invalid(name, format!("expected {accepted}"));
        let time = || text.parse().map_err(|error| query::invalid(name, error));
        match name.as_str() {
            "status" => {
                list.status = Some(text.parse().map_err(|error| query::invalid(name, error))?)
            }
            "task" => list.task = Some(text.parse().map_err(|_| invalid("a task name"))?),
            "queue" => list.queue = Some(text.parse().map_err(|_| invalid("a queue name"))?),
            "error" => {
                list.error = Some(text.parse().map_err(|error| query::invalid(name, error))?);
            }
            "created_after" => list.created_after = Some(time()?),
            "created_before" => list.created_before = Some(time()?),
            "finished_after" => list.finished_after = Some(time()?),
            "finished_before" => list.finished_before = Some(time()?),
            search::SEARCH => requested = Some(text.clone()),
            "limit" => {
                let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
                list.limit = limit.ok_or_else(|| invalid("a whole number from 1 to 100"))?;
            }
            "cursor" => {
                let cursor = read_cursor(text).filter(|cursor| list.fits(cursor));
                let cursor =
                    cursor.ok_or_else(|| invalid("the next_cursor of a page of this list"))?;
                list.cursor = Some(cursor);
            }
            "metadata" => return Err(invalid("metadata.<name>=<value>")),
            _ => match search::label(name) {
                Some(label) => search::add(&mut list.metadata, name, label, text)?,
                None => return Err(query::unknown(name, parameters::JOBS.into_iter())),
            },
        }
    }
    list.index = search::index(&list, requested.as_deref(), is_indexed)?;
    Ok(list)
}

/// Returns the parameters of a list, the cursor last: whether it is valid depends on the others.
fn sorted(mut pairs: Vec<(String, String)>) -> Vec<(String, String)> {
    let place = |name: &str| parameters::JOBS.iter().position(|&known| known == name);
    pairs.sort_by_key(|(name, _)| place(name));
    pairs
}

/// Writes a cursor as clients get it.
pub(crate) fn cursor_text(cursor: &Cursor) -> String {
    URL_SAFE_NO_PAD.encode(cursor.to_string())
}

fn read_cursor(text: &str) -> Option<Cursor> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    String::from_utf8(bytes).ok()?.parse().ok()
}

/// Returns the same query with another cursor.
fn next_query(query: &str, cursor: &str) -> Result<String, Problem> {
    let pairs = sorted(query::pairs(query)?);
    let others = pairs.iter().filter(|(name, _)| name != "cursor");
    let others = others.map(|(name, value)| (name.as_str(), value.as_str()));
    Ok(query::encoded(others.chain([("cursor", cursor)])))
}
