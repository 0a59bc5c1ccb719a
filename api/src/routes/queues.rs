//! The queues, and the operations on them.

use actix_web::{HttpRequest, web};
use crunch_common::broker::{Error, QueueQuery, QueueSummary};
use crunch_common::queue::QueueName;
use crunch_common::task::TaskName;

use super::Answer;
use super::job_access::{no_such_queue, queue_name};
use super::paging::Paging;
use super::shared_parameters::{PageQuery, QueuePath};
use crate::action_log::Action;
use crate::auth::Caller;
use crate::document::{Count, Page, PurgeReport, QueueCounts, QueueDocument, ok};
use crate::metrics;
use crate::problem::Problem;
use crate::query;
use crate::state::App;

/// How many failed jobs one redrive queues again by default, and at most.
const DEFAULT_REDRIVE: u64 = 1000;
const MAX_REDRIVE: u64 = 100_000;

/// Lists the queues that were used or served in the last hour or are not empty, a page at a time.
#[utoipa::path(get, path = "/queues", tag = "queues", operation_id = "listQueues",
    params(PageQuery),
    responses((status = 200, description = "Queues by name; a page may be short, only a null `next_cursor` ends the list", body = Page<QueueDocument>)))]
pub(crate) async fn list(app: web::Data<App>, caller: Caller, request: HttpRequest) -> Answer {
    let paging = Paging::<QueueName>::of(&request)?;
    let query = QueueQuery {
        among: caller.queues().cloned(),
        after: paging.after.clone(),
        limit: paging.limit,
    };
    let (page, workers) = (app.broker.queues(&query).await?, app.broker.fleet().await?);
    let items = page.items.iter().map(|queue| QueueDocument::new(queue, &workers)).collect();
    Ok(paging.page(&request, items, page.next))
}

/// Returns one queue.
#[utoipa::path(get, path = "/queues/{queue}", tag = "queues", operation_id = "getQueue",
    params(QueuePath),
    responses(
        (status = 200, description = "The queue", body = QueueDocument),
        (status = 404, description = "There is no such queue: it was not used or served in the last hour, it is empty, and no declared task has it"),
    ))]
pub(crate) async fn show(app: web::Data<App>, caller: Caller, name: web::Path<String>) -> Answer {
    one(&app, &queue_name(&caller, &name)?).await
}

/// Stops the claiming of a queue's jobs; running jobs continue, new ones are still accepted.
#[utoipa::path(post, path = "/queues/{queue}/pause", tag = "queues", operation_id = "pauseQueue",
    params(QueuePath),
    responses(
        (status = 200, description = "The queue", body = QueueDocument),
        (status = 404, description = "There is no such queue: it was not used or served in the last hour, it is empty, and no declared task has it"),
    ))]
pub(crate) async fn pause(app: web::Data<App>, caller: Caller, name: web::Path<String>) -> Answer {
    let name = queue_name(&caller, &name)?;
    let declared = app.catalog.declares_queue(&name);
    if !app.broker.pause(&name, declared).await.map_err(Problem::in_doubt)? {
        return Err(no_such_queue());
    }
    Action::named("pause").on_queue(&name).record(&app, &caller).await;
    one(&app, &name).await
}

/// Allows the claiming of a queue's jobs again.
#[utoipa::path(post, path = "/queues/{queue}/resume", tag = "queues", operation_id = "resumeQueue",
    params(QueuePath),
    responses(
        (status = 200, description = "The queue", body = QueueDocument),
        (status = 404, description = "There is no such queue: it was not used or served in the last hour, it is empty, and no declared task has it"),
    ))]
pub(crate) async fn resume(app: web::Data<App>, caller: Caller, name: web::Path<String>) -> Answer {
    let name = queue_name(&caller, &name)?;
    app.broker.resume(&name).await.map_err(Problem::in_doubt)?;
    Action::named("resume").on_queue(&name).record(&app, &caller).await;
    one(&app, &name).await
}

/// Queues a queue's failed jobs again, the oldest first.
#[utoipa::path(post, path = "/queues/{queue}/redrive", tag = "queues", operation_id = "redriveQueue",
    params(
        QueuePath,
        ("task" = Option<String>, Query, pattern = "^[a-z0-9][a-z0-9_.-]{0,63}$", description = "Only jobs of this task"),
        ("limit" = Option<u64>, Query, minimum = 1, maximum = 100_000, description = "How many jobs at most; default 1000"),
    ),
    responses(
        (status = 200, description = "The number of jobs", body = Count),
        (status = 404, description = "There is no such queue: it was not used or served in the last hour, it is empty, and no declared task has it"),
    ))]
pub(crate) async fn redrive(
    app: web::Data<App>,
    caller: Caller,
    name: web::Path<String>,
    request: HttpRequest,
) -> Answer {
    let name = queue_name(&caller, &name)?;
    let (mut task, mut limit) = (None::<TaskName>, DEFAULT_REDRIVE);
    for (parameter, text) in query::pairs(request.query_string())? {
        let invalid = |accepted| query::invalid(&parameter, format!("expected {accepted}"));
        match parameter.as_str() {
            "task" => task = Some(text.parse().map_err(|_| invalid("a task name"))?),
            "limit" => {
                let number = text.parse().ok().filter(|number| (1..=MAX_REDRIVE).contains(number));
                limit = number.ok_or_else(|| invalid("a whole number from 1 to 100000"))?;
            }
            _ => return Err(query::unknown(&parameter, ["task", "limit"].into_iter())),
        }
    }
    let redriven = app.broker.redrive(&name, task.as_ref(), limit).await;
    let action = Action::named("redrive").on_queue(&name);
    let count = count_or_problem(&app, &name, recorded(&app, &caller, action, redriven).await?)?;
    Ok(ok(&Count { count }))
}

/// Cancels a queue's queued and scheduled jobs. Running and retrying ones continue, and ended ones stay.
#[utoipa::path(post, path = "/queues/{queue}/purge", tag = "queues", operation_id = "purgeQueue",
    params(QueuePath),
    responses(
        (status = 200, description = "How many jobs were canceled, and what is left", body = PurgeReport),
        (status = 404, description = "There is no such queue: it was not used or served in the last hour, it is empty, and no declared task has it"),
    ))]
pub(crate) async fn purge(app: web::Data<App>, caller: Caller, name: web::Path<String>) -> Answer {
    let name = queue_name(&caller, &name)?;
    let purged = app.broker.purge(&name).await;
    let action = Action::named("purge").on_queue(&name);
    let count = count_or_problem(&app, &name, recorded(&app, &caller, action, purged).await?)?;
    metrics::finished("", name.as_str(), "canceled", count);
    let left = app.broker.queue(&name).await.map_err(Problem::in_doubt)?;
    let left = left.unwrap_or_else(|| QueueSummary::empty(name));
    Ok(ok(&PurgeReport { count, left: QueueCounts::of(&left) }))
}

/// Records an action on the jobs of a queue; also one that has failed, which may have changed some of them.
async fn recorded(
    app: &App,
    caller: &Caller,
    action: Action,
    changed: Result<Option<u64>, Error>,
) -> Result<Option<u64>, Problem> {
    match &changed {
        Ok(Some(count)) => action.changing(*count).record(app, caller).await,
        // There is no such queue.
        Ok(None) => {}
        Err(_) => action.record(app, caller).await,
    }
    changed.map_err(Problem::in_doubt)
}

async fn one(app: &App, name: &QueueName) -> Answer {
    let queue = match app.broker.queue(name).await? {
        Some(queue) => queue,
        None if app.catalog.declares_queue(name) => QueueSummary::empty(name.clone()),
        None => return Err(no_such_queue()),
    };
    Ok(ok(&QueueDocument::new(&queue, &app.broker.fleet().await?)))
}

/// Returns how many jobs of a queue were changed; 0 for a queue that is only declared.
fn count_or_problem(app: &App, name: &QueueName, count: Option<u64>) -> Result<u64, Problem> {
    let declared = || app.catalog.declares_queue(name).then_some(0);
    count.or_else(declared).ok_or_else(no_such_queue)
}
