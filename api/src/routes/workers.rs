//! Workers, and what they are requested to do.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};
use crunch_common::broker::{WorkerId, WorkerState, WorkerSummary};

use super::Answer;
use super::paging::Paging;
use super::shared_parameters::PageQuery;
use crate::action_log::Action;
use crate::auth::Caller;
use crate::document::{Page, WorkerDocument, WorkerKind, ok};
use crate::problem::{FORBIDDEN, NOT_A_WORKER, NOT_FOUND, Problem};
use crate::state::App;

/// Lists the workers that sent a heartbeat in the last 30 seconds, a page at a time.
#[utoipa::path(get, path = "/workers", tag = "workers", operation_id = "listWorkers",
    params(PageQuery),
    responses((status = 200, description = "Workers and what they run, by id; a page may be short, only a null `next_cursor` ends the list", body = Page<WorkerDocument>)))]
pub(crate) async fn list(app: web::Data<App>, caller: Caller, request: HttpRequest) -> Answer {
    let paging = Paging::<WorkerId>::of(&request)?;
    let page = app.broker.workers(paging.after, paging.limit).await?;
    let items = visible(page.items, &caller).into_iter().map(WorkerDocument::from).collect();
    Ok(paging.page(&request, items, page.next))
}

/// Returns one worker.
#[utoipa::path(get, path = "/workers/{id}", tag = "workers", operation_id = "getWorker",
    params(("id" = String, Path, description = "The worker's id")),
    responses(
        (status = 200, description = "The worker and what it runs", body = WorkerDocument),
        (status = 404, description = "No worker has sent a heartbeat under that id in the last 30 seconds"),
    ))]
pub(crate) async fn show(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Answer {
    let worker = find(&app, &id).await?;
    let worker = visible_one(worker, &caller).ok_or_else(no_such_worker)?;
    Ok(ok(&WorkerDocument::from(worker)))
}

/// Has a worker claim no more jobs; those it has continue.
#[utoipa::path(post, path = "/workers/{id}/quiet", tag = "workers", operation_id = "quietWorker",
    params(("id" = String, Path, description = "The worker's id")),
    responses(
        (status = 202, description = "The worker; its `state` follows within a few seconds", body = WorkerDocument),
        (status = 404, description = "No worker has sent a heartbeat under that id in the last 30 seconds"),
        (status = 409, description = "It is an API that delivers webhooks"),
    ))]
pub(crate) async fn quiet(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Answer {
    accepted(steer(&app, &caller, &id, WorkerState::Quiet).await?)
}

/// Has a worker that was quieted, or has not stopped yet, claim jobs again.
#[utoipa::path(post, path = "/workers/{id}/resume", tag = "workers", operation_id = "resumeWorker",
    params(("id" = String, Path, description = "The worker's id")),
    responses(
        (status = 202, description = "The worker; its `state` follows within a few seconds", body = WorkerDocument),
        (status = 404, description = "No worker has sent a heartbeat under that id in the last 30 seconds"),
        (status = 409, description = "It is an API that delivers webhooks"),
    ))]
pub(crate) async fn resume(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Answer {
    accepted(steer(&app, &caller, &id, WorkerState::Running).await?)
}

/// Has a worker claim no more jobs, and end once those it has have ended, however long they take.
#[utoipa::path(post, path = "/workers/{id}/stop", tag = "workers", operation_id = "stopWorker",
    params(("id" = String, Path, description = "The worker's id")),
    responses(
        (status = 202, description = "The worker; its `state` follows within a few seconds", body = WorkerDocument),
        (status = 404, description = "No worker has sent a heartbeat under that id in the last 30 seconds"),
        (status = 409, description = "It is an API that delivers webhooks"),
    ))]
pub(crate) async fn stop(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Answer {
    accepted(steer(&app, &caller, &id, WorkerState::Stopping).await?)
}

/// Requests what a worker does from now on.
///
/// # Errors
/// If there is no such worker, or the caller may not change what it does.
pub(crate) async fn steer(
    app: &App,
    caller: &Caller,
    id: &str,
    wanted: WorkerState,
) -> Result<WorkerSummary, Problem> {
    let worker = find(app, id).await?;
    let serves_others = worker.info.queues.iter().any(|queue| !caller.may_use(queue));
    let worker = visible_one(worker, caller).ok_or_else(no_such_worker)?;
    if serves_others {
        let detail = "the worker serves other queues too, and this key is limited to some";
        return Err(Problem::new(FORBIDDEN, detail));
    }
    if WorkerKind::of(&worker) == WorkerKind::Api {
        let detail = "an API that delivers webhooks is stopped where it was started";
        return Err(Problem::new(NOT_A_WORKER, detail));
    }
    if !app.broker.steer(worker.id, wanted).await.map_err(Problem::in_doubt)? {
        return Err(no_such_worker());
    }
    let name = match wanted {
        WorkerState::Running => "resume",
        WorkerState::Quiet => "quiet",
        WorkerState::Stopping => "stop",
    };
    Action::named(name).on_worker(&worker.id).record(app, caller).await;
    Ok(WorkerSummary { wanted: Some(wanted), ..worker })
}

/// 202 with a worker that was requested to do something.
fn accepted(worker: WorkerSummary) -> Answer {
    let mut answer = ok(&WorkerDocument::from(worker));
    *answer.status_mut() = StatusCode::ACCEPTED;
    Ok(answer)
}

async fn find(app: &App, id: &str) -> Result<WorkerSummary, Problem> {
    let id: WorkerId = id.parse().map_err(|_| no_such_worker())?;
    app.broker.worker(id).await?.ok_or_else(no_such_worker)
}

fn no_such_worker() -> Problem {
    Problem::new(NOT_FOUND, "there is no such worker")
}

/// Returns the workers that the caller may see, each with what the caller may see of it.
pub(crate) fn visible(workers: Vec<WorkerSummary>, caller: &Caller) -> Vec<WorkerSummary> {
    workers.into_iter().filter_map(|worker| visible_one(worker, caller)).collect()
}

/// Of a worker that serves none of the caller's queues, nothing.
fn visible_one(mut worker: WorkerSummary, caller: &Caller) -> Option<WorkerSummary> {
    if caller.queues().is_none() {
        return Some(worker);
    }
    worker.info.queues.retain(|queue| caller.may_use(queue));
    // Their problems, and those of suspended tasks, may be about other queues.
    worker.info.servers.clear();
    worker.info.suspended.clear();
    worker.running.retain(|job| caller.may_use(&job.queue));
    (!worker.info.queues.is_empty()).then_some(worker)
}
