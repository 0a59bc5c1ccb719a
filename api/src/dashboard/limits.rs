//! The limits that queues share. They are set by the API and the command line; a queue's own form says which it shares.

use actix_web::web;
use askama::Template;
use crunch_common::broker::{LimitState, SharedLimit};
use crunch_common::queue::QueueName;

use super::page::{Page, Section};
use super::text;
use super::viewer::Viewer;
use crate::problem::Problem;
use crate::routes::limits::may_see;
use crate::state::App;

#[derive(Template)]
#[template(path = "dashboard/limits.html")]
struct Limits {
    /// Each with those of its queues that the viewer may see.
    limits: Vec<(SharedLimit, Vec<QueueName>)>,
}

/// Lists all of them by name: there are no more than a hundred in a partition.
pub(super) async fn list(app: &web::Data<App>, viewer: &Viewer) -> Result<Page, Problem> {
    let limits = Box::pin(app.broker.shared_limits()).await?;
    let seen = limits.into_iter().filter(|limit| may_see(&viewer.caller, limit));
    let with_queues = seen.map(|limit| {
        let queues = limit.status.queues.iter().filter(|queue| viewer.caller.may_use(queue));
        let queues = queues.cloned().collect();
        (limit, queues)
    });
    Page::new("Shared limits", Section::Queues, &Limits { limits: with_queues.collect() })
}
