//! The error groups: failures of one kind.

use actix_web::web;
use askama::Template;
use crunch_common::broker::{ErrorGroup, ErrorGroupQuery};

use super::jobs::Filters;
use super::page::{Page, Section};
use super::text;
use super::viewer::{Rights, Viewer};
use crate::problem::Problem;
use crate::routes::job_access::known_queue;
use crate::state::App;

const LIMIT: usize = 50;
const PARAMETERS: [&str; 4] = ["queue", "task", "with_failed_jobs", "cursor"];

#[derive(Template)]
#[template(path = "dashboard/errors.html")]
struct Errors {
    filters: Filters,
    groups: Vec<ErrorGroup>,
    next: Option<String>,
    rights: Rights,
}

pub(super) async fn list(
    app: &web::Data<App>,
    viewer: &Viewer,
    query: &str,
) -> Result<Page, Problem> {
    let filters = Filters::of(query, &PARAMETERS)?;
    let wanted = wanted(&filters, viewer)?;
    let page = app.broker.error_groups(&wanted).await?;
    if let (Some(queue), true) = (&wanted.queue, page.items.is_empty()) {
        known_queue(app, &viewer.caller, queue).await?;
    }
    let next = page.next.map(|cursor| filters.and([("cursor", cursor.to_string().as_str())]));
    let template = Errors { filters, groups: page.items, next, rights: viewer.rights() };
    Page::new("Errors", Section::Errors, &template)
}

fn wanted(filters: &Filters, viewer: &Viewer) -> Result<ErrorGroupQuery, Problem> {
    Ok(ErrorGroupQuery {
        among: viewer.caller.queues().cloned(),
        queue: filters.parsed("queue", "a queue name")?,
        task: filters.parsed("task", "a task name")?,
        with_failed_jobs: filters.parsed("with_failed_jobs", "true or false")?.unwrap_or(false),
        after: filters.parsed("cursor", "that of a page of this list")?,
        limit: LIMIT,
    })
}
