//! The queues, one queue, and its verbs.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use askama::Template;
use crunch_common::broker::{
    ErrorGroup, ErrorGroupQuery, JobRecord, LimitState, LimitStatus, ListQuery, QueueQuery,
    QueueSummary, WorkerSummary,
};
use crunch_common::queue::QueueName;

use super::jobs::Filters;
use super::page::{Page, Section, TokenField, unwritten};
use super::past::{LastHour, Of};
use super::posted::Posted;
use super::viewer::{Rights, Viewer};
use super::{Call, see_other, text};
use super::{groups, workers};
use crate::problem::{INVALID_PARAMETER, NOT_FOUND, Problem};
use crate::query;
use crate::routes::job_access::{known_queue, queue_name};
use crate::routes::queues as routes;
use crate::state::App;

/// How many queues a page has: some 70 KiB.
const LIMIT: usize = 100;
/// How many jobs and errors the page of a queue has.
const SHOWN: usize = 20;

/// A queue, and how many workers claim from it.
struct Row {
    queue: QueueSummary,
    workers: usize,
}

impl Row {
    fn new(queue: QueueSummary, workers: &[WorkerSummary]) -> Self {
        let serves = |worker: &&WorkerSummary| worker.claims_from(&queue.name);
        let workers = workers.iter().filter(serves).count();
        Self { queue, workers }
    }

    const fn waiting(&self) -> u64 {
        self.queue.queued + self.queue.scheduled + self.queue.retrying
    }

    /// How long its queued jobs take at the rate of the last minute, if no more arrive.
    fn empty_in(&self) -> Option<Duration> {
        let per_minute = self.queue.finished_last_minute;
        let runs = !self.queue.paused && self.queue.queued > 0 && per_minute > 0;
        runs.then(|| Duration::from_secs(60 * self.queue.queued / per_minute))
    }

    /// Whether jobs wait that nobody will run.
    const fn is_abandoned(&self) -> bool {
        self.workers == 0 && self.waiting() > 0
    }
}

#[derive(Template)]
#[template(path = "dashboard/queues.html")]
struct Queues {
    rows: Vec<(Row, String)>,
    next: Option<String>,
    rights: Rights,
}

pub(super) async fn list(
    last_hour: &LastHour,
    app: &web::Data<App>,
    viewer: &Viewer,
    query: &str,
) -> Result<Page, Problem> {
    let after = Filters::of(query, &["after"])?.parsed("after", "a queue")?;
    let wanted = QueueQuery { among: viewer.caller.queues().cloned(), after, limit: LIMIT };
    let (page, hour, workers) = tokio::try_join!(
        app.broker.queues(&wanted),
        last_hour.get(&app.broker),
        app.broker.fleet(),
    )?;
    let row = |queue: QueueSummary| {
        let queued = hour.queued(&queue.name).map_err(|error| unwritten(&error))?;
        Ok((Row::new(queue, &workers), queued))
    };
    let rows = page.items.into_iter().map(row).collect::<Result<_, Problem>>()?;
    let next = page.next.map(|name| query::encoded([("after", name.as_str())].into_iter()));
    let template = Queues { rows, next, rights: viewer.rights() };
    Page::new("Queues", Section::Queues, &template)
}

#[derive(Template)]
#[template(path = "dashboard/queue.html")]
struct Queue {
    row: Row,
    /// Charts of the last hour.
    attempts: Option<String>,
    depth: Option<String>,
    oldest: Option<String>,
    jobs: Vec<JobRecord>,
    errors: Vec<ErrorGroup>,
    workers: Vec<WorkerSummary>,
    tasks: Vec<String>,
    /// How many groups have jobs that wait; `None` if no group has jobs or a rule.
    groups: Option<u64>,
    limit: Option<LimitStatus>,
    rights: Rights,
}

impl Queue {
    /// The query of the form with its limit.
    fn form_of_limit(&self) -> String {
        groups::form_of_limit(self.limit.as_ref())
    }
}

pub(super) async fn one(
    last_hour: &LastHour,
    app: &web::Data<App>,
    viewer: &Viewer,
    name: &str,
) -> Result<Page, Problem> {
    let name = queue_name(&viewer.caller, name)?;
    let queue = read(app, viewer, &name).await?;
    let listed = ListQuery { queue: Some(name.clone()), limit: SHOWN, ..ListQuery::default() };
    let failed =
        ErrorGroupQuery { queue: Some(name.clone()), limit: SHOWN, ..ErrorGroupQuery::default() };
    let (hour, jobs, errors, groups, limit, mut workers) = tokio::try_join!(
        last_hour.get(&app.broker),
        app.broker.list(&listed),
        app.broker.error_groups(&failed),
        Box::pin(app.broker.groups_of(&name, 0, 1)),
        Box::pin(app.broker.queue_limit(&name)),
        workers::visible(app, viewer),
    )?;
    workers.retain(|worker| worker.info.queues.contains(&name));
    let has_groups = !groups.items.is_empty() || groups.each.is_some();
    let of_queue = Of { queue: Some(&name), task: None };
    let declared = app.catalog.read().await?;
    let tasks = declared.iter().filter(|declared| declared.task.queue == name);
    let template = Queue {
        row: Row::new(queue, &workers),
        attempts: hour.attempts(viewer, of_queue).map_err(|error| unwritten(&error))?,
        depth: hour.depth(&name).map_err(|error| unwritten(&error))?,
        oldest: hour.oldest(&name).map_err(|error| unwritten(&error))?,
        jobs: jobs.items,
        errors: errors.items,
        tasks: tasks.map(|declared| declared.task.name.to_string()).collect(),
        workers,
        groups: has_groups.then_some(groups.waiting),
        limit,
        rights: viewer.rights(),
    };
    Page::new(format!("Queue {name}"), Section::Queues, &template)
}

/// Reads a queue; one that is only declared is empty.
async fn read(app: &App, viewer: &Viewer, name: &QueueName) -> Result<QueueSummary, Problem> {
    if let Some(queue) = app.broker.queue(name).await? {
        return Ok(queue);
    }
    known_queue(app, &viewer.caller, name).await?;
    Ok(QueueSummary::empty(name.clone()))
}

#[derive(Template)]
#[template(path = "dashboard/purge.html")]
struct Purge {
    queue: QueueSummary,
    count: u64,
    typed: bool,
    token: TokenField,
}

/// Above this many jobs, their number must be typed.
pub(super) const TYPED_ABOVE: u64 = 100;

/// Asks whether the waiting jobs of a queue are to be canceled.
pub(super) async fn confirm_purge(
    app: &web::Data<App>,
    viewer: &Viewer,
    name: &str,
) -> Result<Page, Problem> {
    viewer.require(crate::auth::Scope::Admin)?;
    let queue = read(app, viewer, &queue_name(&viewer.caller, name)?).await?;
    let count = queue.queued + queue.scheduled;
    let title = format!("Purge {}", queue.name);
    let template = Purge { queue, count, typed: count > TYPED_ABOVE, token: TokenField };
    Page::new(title, Section::Queues, &template)
}

/// Pauses, resumes or purges a queue.
pub(super) async fn act(
    call: &Call,
    viewer: &Viewer,
    name: &str,
    verb: &str,
    posted: &Posted,
) -> Result<HttpResponse, Problem> {
    let (app, caller, path) = (call.app.clone(), viewer.caller.clone(), name.to_owned().into());
    match verb {
        "pause" => routes::pause(app, caller, path).await?,
        "resume" => routes::resume(app, caller, path).await?,
        "purge" => {
            require_confirmation(posted)?;
            routes::purge(app, caller, path).await?
        }
        _ => return Err(Problem::new(NOT_FOUND, "there is no such form")),
    };
    Ok(see_other(&format!("/dashboard/queues/{name}")))
}

/// Checks that the number of jobs was typed, if there are many.
///
/// # Errors
/// If it was not, or is another one.
pub(super) fn require_confirmation(posted: &Posted) -> Result<(), Problem> {
    let number = |name| posted.get(name).and_then(|text| text.trim().parse::<u64>().ok());
    let count = number("count").unwrap_or(u64::MAX);
    if count <= TYPED_ABOVE || number("typed") == Some(count) {
        return Ok(());
    }
    let detail = "the number that was typed is not the number of jobs: nothing was changed";
    Err(Problem::new(INVALID_PARAMETER, detail))
}
