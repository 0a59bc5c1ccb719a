//! Who works here.

use actix_web::web;

use super::Answer;
use crate::auth::Caller;
use crate::document::{Items, WorkerDocument, ok};
use crate::state::App;

/// Every worker that beat in the last 30 seconds.
#[utoipa::path(get, path = "/workers", tag = "workers", operation_id = "listWorkers",
    responses((status = 200, description = "Workers and what they run", body = Items<WorkerDocument>)))]
pub(crate) async fn list(app: web::Data<App>, caller: Caller) -> Answer {
    let mut workers = app.broker.workers().await?;
    if caller.queues().is_some() {
        workers.retain(|worker| worker.info.queues.iter().any(|queue| caller.may_use(queue)));
        for worker in &mut workers {
            worker.info.queues.retain(|queue| caller.may_use(queue));
            worker.running.retain(|job| caller.may_use(&job.queue));
        }
    }
    Ok(ok(&Items { items: workers.into_iter().map(WorkerDocument::from).collect() }))
}
