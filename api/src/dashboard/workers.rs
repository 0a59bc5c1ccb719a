//! The workers, and what they run.

use actix_web::web;
use askama::Template;
use crunch_common::broker::{Error, WorkerSummary};

use super::page::{Page, Section};
use super::text;
use super::viewer::Viewer;
use crate::problem::Problem;
use crate::query;
use crate::routes::paging::MAX_LIMIT;
use crate::routes::workers as routes;
use crate::state::App;

/// How many workers a page has: each may run many jobs.
const LIMIT: usize = 100;

#[derive(Template)]
#[template(path = "dashboard/workers.html")]
struct Workers {
    workers: Vec<WorkerSummary>,
    next: Option<String>,
}

pub(super) async fn list(
    app: &web::Data<App>,
    viewer: &Viewer,
    query: &str,
) -> Result<Page, Problem> {
    let mut after = None;
    for (name, text) in query::pairs(query)? {
        match name.as_str() {
            "after" => {
                let worker = text.parse().map_err(|_| query::invalid("after", "expected a worker"));
                after = Some(worker?);
            }
            _ => return Err(query::unknown(&name, ["after"].into_iter())),
        }
    }
    let page = app.broker.workers(after, LIMIT).await?;
    let next = page.next.map(|id| query::encoded([("after", id.to_string().as_str())].into_iter()));
    let workers = routes::visible(page.items, &viewer.caller);
    Page::new("Workers", Section::Workers, &Workers { workers, next })
}

/// Returns the first thousand workers, as far as the viewer may see them.
pub(super) async fn visible(app: &App, viewer: &Viewer) -> Result<Vec<WorkerSummary>, Error> {
    let page = app.broker.workers(None, MAX_LIMIT).await?;
    Ok(routes::visible(page.items, &viewer.caller))
}
