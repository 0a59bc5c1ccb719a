//! The list of workers.

use actix_web::{HttpRequest, web};
use crunch_common::broker::{WorkerId, WorkerSummary};

use super::Answer;
use super::paging::Paging;
use super::shared_parameters::PageQuery;
use crate::auth::Caller;
use crate::document::{Page, WorkerDocument};
use crate::state::App;

/// Lists the workers that sent a heartbeat in the last 30 seconds, a page at a time.
#[utoipa::path(get, path = "/workers", tag = "workers", operation_id = "listWorkers",
    params(PageQuery),
    responses((status = 200, description = "Workers and what they run, by id; a page may be short, only a null `next_cursor` ends the list", body = Page<WorkerDocument>)))]
pub(crate) async fn list(app: web::Data<App>, caller: Caller, request: HttpRequest) -> Answer {
    let paging = Paging::<WorkerId>::of(&request)?;
    let page = app.broker.workers(paging.after, paging.limit).await?;
    let workers = visible(page.items, &caller);
    let items = workers.into_iter().map(WorkerDocument::from).collect();
    Ok(paging.page(&request, items, page.next))
}

/// Returns the workers that the caller may see, each with what the caller may see of it.
pub(crate) fn visible(mut workers: Vec<WorkerSummary>, caller: &Caller) -> Vec<WorkerSummary> {
    if caller.queues().is_some() {
        workers.retain(|worker| worker.info.queues.iter().any(|queue| caller.may_use(queue)));
        for worker in &mut workers {
            worker.info.queues.retain(|queue| caller.may_use(queue));
            // Their problems may be about tasks of other queues.
            worker.info.servers.clear();
            worker.running.retain(|job| caller.may_use(&job.queue));
        }
    }
    workers
}
