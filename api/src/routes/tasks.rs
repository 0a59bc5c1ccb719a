//! The tasks that workers declared.

use std::sync::Arc;

use actix_web::{HttpRequest, web};
use crunch_common::schema::Schema;
use crunch_common::task::TaskName;

use super::Answer;
use super::paging::Paging;
use super::shared_parameters::PageQuery;
use crate::catalog::DeclaredTask;
use crate::document::{Page, TaskDocument, ok};
use crate::problem::{Problem, UNKNOWN_TASK};
use crate::state::App;

/// A page of tasks ends when their schemas have this size in bytes: what a thousand typical tasks declare, and about as
/// much as the largest page of jobs. The last task may exceed it, by twice 64 KiB.
const MAX_SCHEMAS: usize = 4 * 1024 * 1024;

/// Lists the tasks that a worker declared in the last 30 days, a page at a time.
#[utoipa::path(get, path = "/tasks", tag = "tasks", operation_id = "listTasks",
    params(PageQuery),
    responses((status = 200, description = "Tasks by name; a page may be short, because their schemas have at most 4 MiB, and only a null `next_cursor` ends the list", body = Page<TaskDocument>)))]
pub(crate) async fn list(app: web::Data<App>, request: HttpRequest) -> Answer {
    let paging = Paging::<TaskName>::of(&request)?;
    let (tasks, workers) = (app.catalog.read().await?, app.broker.fleet().await?);
    let (page, more) = page_of(&tasks, &paging);
    let items = page.iter().map(|declared| TaskDocument::new(&declared.task, &workers)).collect();
    let last = page.last().filter(|_| more).map(|declared| declared.task.name.clone());
    Ok(paging.page(&request, items, last))
}

/// Returns the tasks of a page, and whether others follow.
fn page_of<'a>(
    tasks: &'a [Arc<DeclaredTask>],
    paging: &Paging<TaskName>,
) -> (&'a [Arc<DeclaredTask>], bool) {
    let passed = |after: &TaskName| tasks.partition_point(|declared| declared.task.name <= *after);
    let rest = &tasks[paging.after.as_ref().map_or(0, passed)..];
    let mut schemas = 0;
    let fits = |declared: &&Arc<DeclaredTask>| {
        let before = schemas;
        schemas += schema_bytes(declared);
        before < MAX_SCHEMAS
    };
    let page = &rest[..rest.iter().take(paging.limit).take_while(fits).count()];
    (page, page.len() < rest.len())
}

fn schema_bytes(declared: &DeclaredTask) -> usize {
    let schemas = [&declared.task.payload_schema, &declared.task.result_schema];
    schemas.into_iter().flatten().map(|schema: &Schema| schema.as_str().len()).sum()
}

/// Returns one task.
#[utoipa::path(get, path = "/tasks/{task}", tag = "tasks", operation_id = "getTask",
    params(("task" = String, Path, description = "The task's name")),
    responses(
        (status = 200, description = "The task", body = TaskDocument),
        (status = 404, description = "No worker ever declared it"),
    ))]
pub(crate) async fn show(app: web::Data<App>, name: web::Path<String>) -> Answer {
    let unknown = || Problem::new(UNKNOWN_TASK, "no worker ever declared this task");
    let name: TaskName = name.parse().map_err(|_| unknown())?;
    let tasks = app.catalog.read().await?;
    let declared = tasks.iter().find(|declared| declared.task.name == name).ok_or_else(unknown)?;
    Ok(ok(&TaskDocument::new(&declared.task, &app.broker.fleet().await?)))
}
