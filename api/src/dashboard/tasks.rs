//! The declared tasks, and one task with its schemas.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use askama::Template;
use crunch_common::broker::WorkerSummary;
use crunch_common::schema::Schema;
use crunch_common::task::{TaskDescriptor, TaskName};

use super::page::{Page, Section, unwritten};
use super::past::{self, HourOfTask, LastHour, Of, Took};
use super::pretty;
use super::viewer::{Rights, Viewer};
use super::{text, unique};
use crate::catalog::DeclaredTask;
use crate::problem::{Problem, UNKNOWN_TASK};
use crate::state::App;

/// A task, and how many workers have it.
struct Row {
    declared: Arc<DeclaredTask>,
    workers: usize,
}

impl Row {
    fn new(declared: &Arc<DeclaredTask>, workers: &[WorkerSummary]) -> Self {
        let has = |worker: &&WorkerSummary| worker.info.tasks.contains(&declared.task.name);
        Self { declared: declared.clone(), workers: workers.iter().filter(has).count() }
    }

    fn task(&self) -> &TaskDescriptor {
        &self.declared.task
    }

    fn accepts(&self) -> String {
        let accepts: Vec<_> = self.task().accepts.iter().map(ToString::to_string).collect();
        accepts.join(", ")
    }
}

#[derive(Template)]
#[template(path = "dashboard/tasks.html")]
struct Tasks {
    rows: Vec<Row>,
    rights: Rights,
}

pub(super) async fn list(app: &web::Data<App>, viewer: &Viewer) -> Result<Page, Problem> {
    let (tasks, workers) = (app.catalog.read().await?, app.broker.fleet().await?);
    let rows = tasks.iter().map(|declared| Row::new(declared, &workers)).collect();
    Page::new("Tasks", Section::Tasks, &Tasks { rows, rights: viewer.rights() })
}

#[derive(Template)]
#[template(path = "dashboard/task.html")]
struct Task {
    row: Row,
    /// Charts of the last hour.
    attempts: Option<String>,
    took: Option<Took>,
    durations: Option<String>,
    /// The last day.
    hours: Vec<HourOfTask>,
    payload_schema: Option<String>,
    result_schema: Option<String>,
    rights: Rights,
}

pub(super) async fn one(
    last_hour: &LastHour,
    app: &web::Data<App>,
    viewer: &Viewer,
    name: &str,
) -> Result<Page, Problem> {
    let unknown = || Problem::new(UNKNOWN_TASK, "no worker ever declared this task");
    let name: TaskName = name.parse().map_err(|_| unknown())?;
    let tasks = app.catalog.read().await?;
    let declared = tasks.iter().find(|declared| declared.task.name == name).ok_or_else(unknown)?;
    let schema = |schema: &Option<Schema>| schema.as_ref().map(|it| pretty::json(it.as_str()));
    let hour = last_hour.get(&app.broker).await?;
    let of_task = Of { queue: None, task: Some(&name) };
    let took = hour.durations(viewer, of_task);
    let durations = took.as_ref().map(Took::chart).transpose();
    let template = Task {
        attempts: hour.attempts(viewer, of_task).map_err(|error| unwritten(&error))?,
        durations: durations.map_err(|error| unwritten(&error))?,
        hours: past::last_day(&app.broker, viewer, &name).await?,
        took,
        payload_schema: schema(&declared.task.payload_schema),
        result_schema: schema(&declared.task.result_schema),
        row: Row::new(declared, &app.broker.fleet().await?),
        rights: viewer.rights(),
    };
    Page::new(format!("Task {name}"), Section::Tasks, &template)
}
