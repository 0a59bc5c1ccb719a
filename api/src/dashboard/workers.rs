//! The workers, and what they run.

use actix_web::{HttpResponse, web};
use askama::Template;
use crunch_common::broker::{Error, WorkerState, WorkerSummary};

use super::jobs::Filters;
use super::page::{Page, Section};
use super::text;
use super::viewer::{Rights, Viewer};
use super::{Call, see_other};
use crate::document::WorkerKind;
use crate::problem::{NOT_FOUND, Problem};
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
    rights: Rights,
}

impl Workers {
    /// Whether an operator may change what it does.
    fn can_be_steered(worker: &WorkerSummary) -> bool {
        WorkerKind::of(worker) == WorkerKind::Worker
    }

    /// Whether it claims jobs, as far as an operator requested last.
    fn claims(worker: &WorkerSummary) -> bool {
        worker.wanted.unwrap_or(worker.info.state) == WorkerState::Running
    }
}

pub(super) async fn list(
    app: &web::Data<App>,
    viewer: &Viewer,
    query: &str,
) -> Result<Page, Problem> {
    let after = Filters::of(query, &["after"])?.parsed("after", "a worker")?;
    let page = app.broker.workers(after, LIMIT).await?;
    let next = page.next.map(|id| query::encoded([("after", id.to_string().as_str())].into_iter()));
    let workers = routes::visible(page.items, &viewer.caller);
    Page::new("Workers", Section::Workers, &Workers { workers, next, rights: viewer.rights() })
}

/// Has a worker be quiet, stop, or go on.
pub(super) async fn act(
    call: &Call,
    viewer: &Viewer,
    id: &str,
    verb: &str,
) -> Result<HttpResponse, Problem> {
    let wanted = match verb {
        "quiet" => WorkerState::Quiet,
        "resume" => WorkerState::Running,
        "stop" => WorkerState::Stopping,
        _ => return Err(Problem::new(NOT_FOUND, "there is no such form")),
    };
    let worker = routes::steer(&call.app, &viewer.caller, id, wanted).await?;
    Ok(see_other(&format!("/dashboard/workers#{}", worker.id)))
}

/// Returns the first thousand workers, as far as the viewer may see them.
pub(super) async fn visible(app: &App, viewer: &Viewer) -> Result<Vec<WorkerSummary>, Error> {
    let page = app.broker.workers(None, MAX_LIMIT).await?;
    Ok(routes::visible(page.items, &viewer.caller))
}
