//! The first page: how much waits and runs, and what needs attention.

use std::collections::BTreeSet;
use std::sync::Arc;

use actix_web::web;
use askama::Template;
use crunch_common::broker::{
    Error, ErrorGroup, ErrorGroupQuery, NodeHealth, QueuePage, QueueQuery, QueueSummary,
    RunningJob, WorkerId, WorkerState, WorkerSummary,
};
use crunch_common::queue::QueueName;

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

/// Something that an operator should look at.
struct Warning {
    subject: String,
    /// A page about it.
    link: String,
    text: String,
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
    let mut warnings = warnings(&queues.items, &workers, &nodes);
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

fn warnings(
    queues: &[QueueSummary],
    workers: &[WorkerSummary],
    nodes: &[NodeHealth],
) -> Vec<Warning> {
    let served: BTreeSet<&QueueName> =
        workers.iter().flat_map(|worker| &worker.info.queues).collect();
    let mut all: Vec<_> = nodes.iter().flat_map(of_node).collect();
    for queue in queues {
        let waiting = queue.queued + queue.scheduled + queue.retrying;
        let of_queue = |text: String| Warning {
            subject: queue.name.to_string(),
            link: format!("/dashboard/queues/{}", queue.name),
            text,
        };
        let jobs = match waiting {
            1 => "1 job waits".to_owned(),
            _ => format!("{} jobs wait", text::count(waiting)),
        };
        if queue.paused {
            all.push(of_queue(format!("is paused; {jobs}")));
        } else if waiting > 0 && !served.contains(&queue.name) {
            all.push(of_queue(format!("has no worker; {jobs}")));
        }
    }
    for worker in workers.iter().filter(|worker| worker.info.state == WorkerState::Quiet) {
        all.push(Warning {
            subject: place_of(worker),
            link: format!("/dashboard/workers#{}", worker.id),
            text: "is quiet: it takes no jobs".to_owned(),
        });
    }
    for (worker, suspended) in
        workers.iter().flat_map(|worker| worker.info.suspended.iter().map(move |it| (worker, it)))
    {
        all.push(Warning {
            subject: suspended.task.to_string(),
            link: "/dashboard/workers".to_owned(),
            text: format!("cannot run on {}: {}", worker.info.host, suspended.reason),
        });
    }
    all
}

/// What Redis should be looked at for.
fn of_node(node: &NodeHealth) -> Vec<Warning> {
    let of_node = |text: String| Warning {
        subject: node.address.clone().unwrap_or_else(|| "Redis".to_owned()),
        link: "/dashboard/system".to_owned(),
        text,
    };
    let state = match &node.state {
        Ok(state) => state,
        Err(error) => return vec![of_node(format!("does not answer: {error}"))],
    };
    let mut all = Vec::new();
    if state.memory_policy != "noeviction" {
        all.push(of_node(format!("may delete jobs: its memory policy is {}", state.memory_policy)));
    }
    if let Some(max) = state.max_memory.filter(|&max| state.used_memory / 4 >= max / 5) {
        let share = text::percent(state.used_memory as f64 / max as f64);
        all.push(of_node(format!("uses {share} of its memory")));
    }
    if !state.disk_ok {
        all.push(of_node("could not write to its disk".to_owned()));
    }
    all
}
