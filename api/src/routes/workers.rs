//! Who works here.

use actix_web::web;

use super::Answer;
use crate::document::{Items, WorkerDocument, ok};
use crate::state::App;

/// Every worker that beat in the last 30 seconds.
#[utoipa::path(get, path = "/workers", tag = "workers", operation_id = "listWorkers",
    responses((status = 200, description = "Workers and what they run", body = Items<WorkerDocument>)))]
pub(crate) async fn list(app: web::Data<App>) -> Answer {
    let workers = app.broker.workers().await?;
    Ok(ok(&Items { items: workers.into_iter().map(WorkerDocument::from).collect() }))
}
