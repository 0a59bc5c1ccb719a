//! A summary of the jobs that a list finds: bounded, so that it costs what some pages of the list cost.

use std::time::Duration;

use actix_web::{HttpRequest, web};
use crunch_common::broker::{JobRecord, ListQuery};
use tokio::time::Instant;

use super::Answer;
use super::job_access::known_queue;
use super::jobs::read_list;
use super::shared_parameters::JobFilters;
use crate::auth::Caller;
use crate::document::words::StatusWord;
use crate::document::{JobDocument, Summary, SummaryDocument, ok};
use crate::problem::Problem;
use crate::query;
use crate::state::App;

/// How many jobs a summary reads by default, and at most: about 50 ms of Redis' time.
pub(crate) const DEFAULT_JOBS: u64 = 1000;
const MAX_JOBS: u64 = 5000;
/// How many jobs are read at once: each may have an error of some kilobytes.
const PAGE: u64 = 200;
/// A list that finds few jobs among many is left after this time.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// Summarizes the first jobs of a list: how many failed with which errors, by a label too, and which ran longest.
#[utoipa::path(get, path = "/jobs/summary", tag = "jobs", operation_id = "summarizeJobs",
    params(
        ("status" = Option<StatusWord>, Query, description = "Only jobs with this status"),
        JobFilters,
        ("by" = Option<String>, Query, min_length = 1, max_length = 64, description = "A label: the jobs are counted by its values too"),
        ("limit" = Option<u64>, Query, minimum = 1, maximum = 5000, description = "How many jobs are read at most; default 1000"),
    ),
    responses(
        (status = 200, description = "The summary of the first jobs, in the order of `GET /jobs`", body = SummaryDocument),
        (status = 404, description = "There is no such queue"),
    ))]
pub(crate) async fn show(app: web::Data<App>, caller: Caller, request: HttpRequest) -> Answer {
    let (mut pairs, mut by, mut limit) = (Vec::new(), None, DEFAULT_JOBS);
    for (name, text) in query::pairs(request.query_string())? {
        match name.as_str() {
            "by" => by = Some(label(text)?),
            "limit" => {
                let number = text.parse().ok().filter(|number| (1..=MAX_JOBS).contains(number));
                limit = number.ok_or_else(|| {
                    query::invalid("limit", "expected a whole number from 1 to 5000")
                })?;
            }
            _ => pairs.push((name, text)),
        }
    }
    let list = read_list(pairs, &|task, label| app.catalog.indexes(task, label))?;
    let (mut document, slowest) = summarize(&app, &caller, list, (by, limit)).await?;
    document.slowest = slowest.into_iter().map(JobDocument::listed).collect();
    Ok(ok(&document))
}

/// Reads the name of a label.
pub(crate) fn label(text: String) -> Result<String, Problem> {
    if (1..=64).contains(&text.chars().count()) {
        return Ok(text);
    }
    Err(query::invalid("by", "expected the name of a label"))
}

/// Reads the first jobs of a list that the caller may see, and summarizes them.
pub(crate) async fn summarize(
    app: &App,
    caller: &Caller,
    mut list: ListQuery,
    (by, limit): (Option<String>, u64),
) -> Result<(SummaryDocument, Vec<JobRecord>), Problem> {
    list.among = caller.queues().cloned();
    let (mut summary, ends) = (Summary::new(by), Instant::now() + TIME_LIMIT);
    loop {
        let page = PAGE.min(limit - summary.jobs());
        list.limit = usize::try_from(page).unwrap_or(usize::MAX);
        let page = app.broker.list(&list).await?;
        summary.add(page.items);
        list.cursor = page.next;
        if list.cursor.is_none() || summary.jobs() >= limit || Instant::now() >= ends {
            break;
        }
    }
    if let (Some(queue), 0) = (&list.queue, summary.jobs()) {
        known_queue(app, caller, queue).await?;
    }
    Ok(summary.finish(list.cursor.is_some()))
}
