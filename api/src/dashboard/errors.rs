//! The error groups: failures of one kind.

use std::collections::BTreeSet;

use actix_web::web;
use askama::Template;
use crunch_common::broker::{ErrorGroup, ErrorGroupQuery};
use crunch_common::task::TaskName;

use super::jobs::Filters;
use super::page::{Page, Section};
use super::text;
use super::viewer::{Rights, Viewer};
use crate::problem::Problem;
use crate::query;
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
    /// The labels that tasks declare as indexed, and the query of the page that counts failed jobs by each.
    labels: Vec<(String, String)>,
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
    let labels = labels(app, &filters, wanted.task.as_ref()).await?;
    let template = Errors { filters, groups: page.items, next, labels, rights: viewer.rights() };
    Page::new("Errors", Section::Errors, &template)
}

/// Returns the labels by which failed jobs can be counted.
async fn labels(
    app: &App,
    filters: &Filters,
    task: Option<&TaskName>,
) -> Result<Vec<(String, String)>, Problem> {
    let declared = app.catalog.read().await?;
    let tasks = declared.iter().map(|declared| &declared.task);
    let tasks = tasks.filter(|declared| task.is_none_or(|task| declared.name == *task));
    let labels: BTreeSet<_> = tasks.flat_map(|task| task.indexes.iter()).collect();
    let given = |name| Some((name, filters.get(name))).filter(|(_, value)| !value.is_empty());
    let query = |label| {
        let same = ["task", "queue"].into_iter().filter_map(given);
        query::encoded([("status", "failed"), ("by", label)].into_iter().chain(same))
    };
    Ok(labels.into_iter().map(|label| (label.to_owned(), query(label))).collect())
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
