//! The first page: how much waits and runs, and what needs attention.

mod warnings;

use std::sync::Arc;

use actix_web::web;
use askama::Template;
use crunch_common::broker::{
    Error, ErrorGroup, ErrorGroupQuery, QueuePage, QueueQuery, QueueSummary, RunningJob, WorkerId,
    WorkerSummary,
};

use self::warnings::Warning;
use super::Dashboard;
use super::all_queues::AllQueues;
use super::page::{Page, Section, unwritten};
use super::past::Of;
use super::text;
use super::viewer::Viewer;
use super::workers;
use crate::problem::Problem;
use crate::routes::paging::MAX_LIMIT;
use crate::state::App;

/// How many of the longest queues, newest errors and running jobs are shown.
const SHOWN: usize = 10;
const MAX_WARNINGS: usize = 20;

#[derive(Template)]
#[template(path = "dashboard/overview.html")]
struct Overview {
    sums: Sums,
    /// A chart of the last hour.
    attempts: Option<String>,
    /// Those with the oldest waiting jobs first.
    queues: Vec<QueueSummary>,
    warnings: Vec<Warning>,
    /// How many warnings are not shown.
    more_warnings: usize,
    errors: Vec<ErrorGroup>,
    running: Vec<Running>,
}

/// A job, and the worker that runs it.
struct Running {
    job: RunningJob,
    worker: WorkerId,
    /// The host and process of the worker.
    place: String,
}

/// What all queues and workers have together.
#[derive(Debug, Default)]
struct Sums {
    queued: u64,
    running: u64,
    scheduled: u64,
    retrying: u64,
    failed: u64,
    finished_last_minute: u64,
    queues: usize,
    /// Whether there are more queues than were counted.
    more_queues: bool,
    workers: usize,
    slots: usize,
    busy: u64,
}

pub(super) async fn page(
    dashboard: &Dashboard,
    app: &web::Data<App>,
    viewer: &Viewer,
) -> Result<Page, Problem> {
    let among = viewer.caller.queues().cloned();
    let wanted =
        ErrorGroupQuery { among: among.clone(), limit: SHOWN, ..ErrorGroupQuery::default() };
    let (queues, hour, workers, errors) = tokio::try_join!(
        queues(&dashboard.all_queues, app, viewer),
        dashboard.last_hour.get(&app.broker),
        workers::visible(app, viewer),
        app.broker.error_groups(&wanted),
    )?;
    // Redis holds all queues.
    let nodes = if among.is_none() { app.broker.system().await } else { Vec::new() };
    let paused = dashboard.paused_schedules.get(&app.broker).await?;
    let mut warnings = warnings::of(&queues.items, &workers, &nodes);
    warnings.extend(warnings::of_schedules(&paused, &viewer.caller));
    let more_warnings = warnings.len().saturating_sub(MAX_WARNINGS);
    warnings.truncate(MAX_WARNINGS);
    let overview = Overview {
        sums: sums(&queues.items, queues.next.is_some(), &workers),
        warnings,
        more_warnings,
        attempts: hour.attempts(viewer, Of::default()).map_err(|error| unwritten(&error))?,
        queues: longest(&queues.items),
        errors: errors.items,
        running: longest_running(&workers),
    };
    Page::new("Overview", Section::Overview, &overview)
}

/// Returns the queues that the viewer may see.
async fn queues(all: &AllQueues, app: &App, viewer: &Viewer) -> Result<Arc<QueuePage>, Error> {
    match viewer.caller.queues().cloned() {
        None => all.get(&app.broker).await,
        among => {
            let own = QueueQuery { among, after: None, limit: MAX_LIMIT };
            Ok(Arc::new(app.broker.queues(&own).await?))
        }
    }
}

fn sums(queues: &[QueueSummary], more_queues: bool, workers: &[WorkerSummary]) -> Sums {
    let mut sums = Sums {
        queues: queues.len(),
        more_queues,
        workers: workers.len(),
        slots: workers.iter().map(|worker| worker.info.slots).sum(),
        busy: workers.iter().map(|worker| worker.busy).sum(),
        ..Sums::default()
    };
    for queue in queues {
        sums.queued += queue.queued;
        sums.running += queue.running;
        sums.scheduled += queue.scheduled;
        sums.retrying += queue.retrying;
        sums.failed += queue.failed;
        sums.finished_last_minute += queue.finished_last_minute;
    }
    sums
}

/// Returns the queues in which a job has waited longest, or that have most to do.
fn longest(queues: &[QueueSummary]) -> Vec<QueueSummary> {
    let mut queues: Vec<_> = queues.iter().collect();
    queues.sort_by_key(|queue| std::cmp::Reverse((queue.oldest_age, queue.queued + queue.running)));
    queues.into_iter().take(SHOWN).cloned().collect()
}

/// Returns the jobs that have been running longest.
fn longest_running(workers: &[WorkerSummary]) -> Vec<Running> {
    let mut running = Vec::new();
    for worker in workers {
        running.extend(worker.running.iter().map(|job| (job, worker)));
    }
    running.sort_by_key(|(job, _)| job.started_at);
    running.truncate(SHOWN);
    let shown = |(job, worker): (&RunningJob, &WorkerSummary)| Running {
        job: job.clone(),
        worker: worker.id,
        place: place_of(worker),
    };
    running.into_iter().map(shown).collect()
}

fn place_of(worker: &WorkerSummary) -> String {
    format!("{}, {}", worker.info.host, worker.info.pid)
}
