//! What Redis says of itself.

use actix_web::web;

use super::Answer;
use crate::auth::Caller;
use crate::document::{Items, NodeDocument, ok};
use crate::problem::{FORBIDDEN, Problem};
use crate::state::App;

/// Returns the state of each node of Redis.
#[utoipa::path(get, path = "/system", tag = "health", operation_id = "getSystem", responses(
    (status = 200, description = "The nodes: one, or those of a cluster. One that does not answer has a `problem`", body = Items<NodeDocument>),
))]
pub(crate) async fn show(app: web::Data<App>, caller: Caller) -> Answer {
    if caller.queues().is_some() {
        let detail = "the state of Redis concerns all queues, and this key is limited to some";
        return Err(Problem::new(FORBIDDEN, detail));
    }
    let items = app.broker.system().await.into_iter().map(NodeDocument::from).collect();
    Ok(ok(&Items { items }))
}
