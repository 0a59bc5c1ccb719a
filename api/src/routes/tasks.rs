//! What can be done here: tasks that workers declared.

use actix_web::web;
use crunch_common::task::TaskName;

use super::Answer;
use crate::document::{Items, TaskDocument, ok};
use crate::problem::{Problem, UNKNOWN_TASK};
use crate::state::App;

/// Every task that a worker declared in the last 30 days.
#[utoipa::path(get, path = "/tasks", tag = "tasks", operation_id = "listTasks",
    responses((status = 200, description = "Tasks by name", body = Items<TaskDocument>)))]
pub(crate) async fn list(app: web::Data<App>) -> Answer {
    let (tasks, workers) = (app.catalog.read().await?, app.broker.fleet().await?);
    Ok(ok(&Items {
        items: tasks.iter().map(|declared| TaskDocument::new(&declared.task, &workers)).collect(),
    }))
}

/// One task.
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
