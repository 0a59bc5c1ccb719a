//! The error groups: failures of one kind.

use actix_web::{HttpRequest, web};
use crunch_common::broker::{ErrorGroupCursor, ErrorGroupQuery};

use super::Answer;
use super::job_access::known_queue;
use super::paging::Paging;
use super::shared_parameters::PageQuery;
use crate::auth::Caller;
use crate::document::{ErrorGroupDocument, Page, ok};
use crate::problem::{NOT_FOUND, Problem};
use crate::query;
use crate::state::App;

/// Lists failures by their kind, a page at a time.
#[utoipa::path(get, path = "/errors", tag = "errors", operation_id = "listErrors",
    params(
        ("queue" = Option<String>, Query, pattern = "^[a-z0-9][a-z0-9_.-]{0,63}$", description = "Only failures of jobs of this queue"),
        ("task" = Option<String>, Query, pattern = "^[a-z0-9][a-z0-9_.-]{0,63}$", description = "Only failures of jobs of this task"),
        ("with_failed_jobs" = Option<bool>, Query, description = "`true`: only kinds with jobs that failed so for good, and neither ran again nor were deleted"),
        PageQuery,
    ),
    responses(
        (status = 200, description = "The kind with the newest failure first; a page may be short, only a null `next_cursor` ends the list", body = Page<ErrorGroupDocument>),
        (status = 404, description = "There is no such queue"),
    ))]
pub(crate) async fn list(app: web::Data<App>, caller: Caller, request: HttpRequest) -> Answer {
    let paging =
        Paging::<ErrorGroupCursor>::filtered(&request, &["queue", "task", "with_failed_jobs"])?;
    let mut wanted = ErrorGroupQuery {
        among: caller.queues().cloned(),
        after: paging.after.clone(),
        limit: paging.limit,
        ..ErrorGroupQuery::default()
    };
    for (name, text) in paging.filters() {
        let invalid = |accepted| query::invalid(name, format!("expected {accepted}"));
        match name {
            "queue" => wanted.queue = Some(text.parse().map_err(|_| invalid("a queue name"))?),
            "with_failed_jobs" => {
                wanted.with_failed_jobs = text.parse().map_err(|_| invalid("true or false"))?;
            }
            _ => wanted.task = Some(text.parse().map_err(|_| invalid("a task name"))?),
        }
    }
    let page = app.broker.error_groups(&wanted).await?;
    if let (Some(queue), true) = (&wanted.queue, page.items.is_empty()) {
        known_queue(&app, &caller, queue).await?;
    }
    let items = page.items.into_iter().map(ErrorGroupDocument::from).collect();
    Ok(paging.page(&request, items, page.next))
}

/// Returns the failures of one kind.
#[utoipa::path(get, path = "/errors/{id}", tag = "errors", operation_id = "getError",
    params(("id" = String, Path, description = "The id of the error group")),
    responses(
        (status = 200, description = "The error group", body = ErrorGroupDocument),
        (status = 404, description = "There is no such error group: nothing failed so in the last week, and no job that did is kept"),
    ))]
pub(crate) async fn show(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Answer {
    let none = || Problem::new(NOT_FOUND, "there is no such error group");
    let group = app.broker.error_group(&id.parse().map_err(|_| none())?).await?;
    // The group of all other kinds is of no queue.
    let is_visible = |queue: Option<&_>| {
        caller.queues().is_none() || queue.is_some_and(|queue| caller.may_use(queue))
    };
    let group = group.filter(|group| is_visible(group.queue.as_ref())).ok_or_else(none)?;
    Ok(ok(&ErrorGroupDocument::from(group)))
}
