//! The limit of a queue.

use actix_web::{HttpRequest, web};
use crunch_common::broker::{LimitChange, QueueLimit};
use crunch_common::queue::QueueName;

use super::Answer;
use super::job_access::{known_queue, no_such_queue, queue_name};
use super::shared_parameters::QueuePath;
use crate::action_log::Action;
use crate::auth::Caller;
use crate::document::{LimitDocument, ok, removed};
use crate::problem::{
    CONTENDED, JOBS_ELSEWHERE, LIMIT_IS_FULL, NOT_FOUND, OTHER_HOME, Problem, Violation,
};
use crate::rule::{LimitRequest, read_limit};
use crate::state::App;
use crate::{body, json};

/// The largest body, in bytes: a limit with all its members has a tenth.
const MAX_BODY: u64 = 4096;

/// Returns the limit of a queue, and whether it lets a job start now.
#[utoipa::path(get, path = "/queues/{queue}/limit", tag = "queues", operation_id = "getQueueLimit",
    params(QueuePath),
    responses(
        (status = 200, description = "The limit", body = LimitDocument),
        (status = 404, description = "The queue has no limit; or there is no such queue: it was not used or served in the last hour, it is empty, and no declared task has it"),
    ))]
pub(crate) async fn show(app: web::Data<App>, caller: Caller, queue: web::Path<String>) -> Answer {
    let queue = queue_name(&caller, &queue)?;
    if let Some(status) = app.broker.queue_limit(&queue).await? {
        return Ok(ok(&LimitDocument::from(status)));
    }
    known_queue(&app, &caller, &queue).await?;
    Err(Problem::new(NOT_FOUND, format!("queue {queue} has no limit")))
}

/// Sets how many jobs of a queue may run, and start in a time, whatever their groups. It replaces the limit before and applies at
/// once; what runs beyond a lower limit runs on.
#[utoipa::path(put, path = "/queues/{queue}/limit", tag = "queues", operation_id = "setQueueLimit",
    params(QueuePath),
    request_body = LimitRequest,
    responses(
        (status = 200, description = "The limit", body = LimitDocument),
        (status = 404, description = "There is no such queue: it was not used or served in the last hour, it is empty, and no declared task has it; or no limit of one of these names"),
        (status = 409, description = "Jobs of the queue wait or run where the limit could not apply to them; or it cannot share one of the limits; or another request changes the limit"),
        (status = 422, description = "The limit is invalid; `errors` lists the places"),
    ))]
pub(crate) async fn set(
    app: web::Data<App>,
    caller: Caller,
    queue: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer {
    let queue = queue_name(&caller, &queue)?;
    let bytes = body::json(&request, payload, &app.budgets.requests, MAX_BODY).await?;
    let limit = read_limit(json::check(&bytes)?).map_err(Problem::violations)?;
    change(&app, &caller, &queue, Some(limit)).await?;
    match app.broker.queue_limit(&queue).await? {
        Some(status) => Ok(ok(&LimitDocument::from(status))),
        None => Err(contended(&queue)),
    }
}

/// Removes the limit of a queue.
#[utoipa::path(delete, path = "/queues/{queue}/limit", tag = "queues", operation_id = "removeQueueLimit",
    params(QueuePath),
    responses(
        (status = 204, description = "The queue has no limit any more"),
        (status = 404, description = "There is no such queue: it was not used or served in the last hour, it is empty, and no declared task has it"),
        (status = 409, description = "Another request changes the limit"),
    ))]
pub(crate) async fn remove(
    app: web::Data<App>,
    caller: Caller,
    queue: web::Path<String>,
) -> Answer {
    let queue = queue_name(&caller, &queue)?;
    change(&app, &caller, &queue, None).await?;
    Ok(removed())
}

fn contended(queue: &QueueName) -> Problem {
    Problem::new(CONTENDED, format!("another request changes the limit of queue {queue}"))
}

/// Sets a limit, or removes it if there is none to set, and records that.
///
/// # Errors
/// If there is no such queue, or the limit could not apply to all its jobs.
pub(crate) async fn change(
    app: &App,
    caller: &Caller,
    queue: &QueueName,
    limit: Option<QueueLimit>,
) -> Result<(), Problem> {
    if queue.is_reserved() {
        let detail =
            "deliveries of webhooks are in the partitions of their jobs: no limit applies to them";
        return Err(Problem::violations(vec![Violation::new("", detail)]));
    }
    let declared = app.catalog.declares_queue(queue);
    let action = if limit.is_some() { "set-queue-limit" } else { "remove-queue-limit" };
    let changed = Box::pin(app.broker.set_queue_limit(queue, declared, limit)).await;
    match changed.map_err(Problem::in_doubt)? {
        LimitChange::Done => {}
        LimitChange::UnknownQueue => return Err(no_such_queue()),
        LimitChange::UnknownLimit => {
            let detail = "there is no limit of one of these names; PUT /limits/{name} makes one";
            return Err(Problem::new(NOT_FOUND, detail));
        }
        LimitChange::SharedByTooMany => {
            return Err(Problem::new(LIMIT_IS_FULL, "sixteen queues share one of these limits"));
        }
        LimitChange::OtherHome(limit) => {
            let detail = format!(
                "queue {queue} and limit {limit} are in different partitions: a queue whose name begins with {family}. is in that of \
                 the limit",
                family = limit.as_str().split('.').next().unwrap_or_default()
            );
            return Err(Problem::new(OTHER_HOME, detail));
        }
        LimitChange::Contended => return Err(contended(queue)),
        LimitChange::JobsElsewhere(jobs) => {
            let detail = format!("{jobs} jobs of queue {queue} wait or run in other partitions");
            return Err(Problem::new(JOBS_ELSEWHERE, detail).with("jobs", jobs.into()));
        }
    }
    Action::named(action).on_queue(queue).record(app, caller).await;
    Ok(())
}
