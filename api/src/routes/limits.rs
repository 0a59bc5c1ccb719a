//! Limits that queues share.

use actix_web::{HttpRequest, web};
use crunch_common::broker::{SharedChange, SharedLimit};
use crunch_common::queue::LimitName;

use super::Answer;
use super::shared_parameters::LimitPath;
use crate::action_log::Action;
use crate::auth::Caller;
use crate::document::{Items, RemovedLimitDocument, SharedLimitDocument, ok};
use crate::problem::{FORBIDDEN, NOT_FOUND, Problem, TOO_MANY_LIMITS};
use crate::rule::{SharedLimitRequest, read_shared};
use crate::state::App;
use crate::{body, json};

/// The largest body, in bytes: a limit with all its members has a tenth.
const MAX_BODY: u64 = 4096;

/// Lists the limits that queues share, or may share.
#[utoipa::path(get, path = "/limits", tag = "queues", operation_id = "listLimits",
    responses(
        (status = 200, description = "By name. A key that is limited to some queues gets those that one of these shares", body = Items<SharedLimitDocument>),
    ))]
pub(crate) async fn list(app: web::Data<App>, caller: Caller) -> Answer {
    let limits = Box::pin(app.broker.shared_limits()).await?;
    let shown = limits.iter().filter(|limit| may_see(&caller, limit));
    let items = shown.map(|limit| document(&caller, limit)).collect();
    Ok(ok(&Items { items }))
}

/// Returns a limit that queues share, and whether it lets a job start now.
#[utoipa::path(get, path = "/limits/{name}", tag = "queues", operation_id = "getLimit",
    params(LimitPath),
    responses(
        (status = 200, description = "The limit", body = SharedLimitDocument),
        (status = 404, description = "There is no such limit, or none that a queue of the key shares"),
    ))]
pub(crate) async fn show(app: web::Data<App>, caller: Caller, name: web::Path<String>) -> Answer {
    let found = find(&app, limit_name(&name)?).await?;
    let shown = found.filter(|limit| may_see(&caller, limit)).ok_or_else(no_such_limit)?;
    Ok(ok(&document(&caller, &shown)))
}

/// Sets how many jobs of some queues may run together, and start in a time. Queues share it once their own limit names it. It replaces
/// the one before and applies at once; what runs beyond a lower limit runs on.
#[utoipa::path(put, path = "/limits/{name}", tag = "queues", operation_id = "setLimit",
    params(LimitPath),
    request_body = SharedLimitRequest,
    responses(
        (status = 200, description = "The limit", body = SharedLimitDocument),
        (status = 403, description = "The key is limited to some queues"),
        (status = 404, description = "No limit can have such a name"),
        (status = 409, description = "There are as many limits as may be"),
        (status = 422, description = "The limit is invalid; `errors` lists the places"),
    ))]
pub(crate) async fn set(
    app: web::Data<App>,
    caller: Caller,
    name: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer {
    let name = limit_name(&name)?;
    for_all_queues(&caller)?;
    let bytes = body::json(&request, payload, &app.budgets.requests, MAX_BODY).await?;
    let limit = read_shared(json::check(&bytes)?).map_err(Problem::violations)?;
    let changed = app.broker.set_shared_limit(&name, Some(limit)).await;
    if changed.map_err(Problem::in_doubt)? == SharedChange::TooMany {
        let detail = "there are a hundred limits in the partition of this name";
        return Err(Problem::new(TOO_MANY_LIMITS, detail));
    }
    Action::named("set-limit").on_limit(&name).record(&app, &caller).await;
    let found = find(&app, name).await?.ok_or_else(no_such_limit)?;
    Ok(ok(&document(&caller, &found)))
}

/// Removes a limit that queues share. Their jobs start without it from now on.
#[utoipa::path(delete, path = "/limits/{name}", tag = "queues", operation_id = "removeLimit",
    params(LimitPath),
    responses(
        (status = 200, description = "There is no such limit any more", body = RemovedLimitDocument),
        (status = 403, description = "The key is limited to some queues"),
        (status = 404, description = "No limit can have such a name"),
    ))]
pub(crate) async fn remove(app: web::Data<App>, caller: Caller, name: web::Path<String>) -> Answer {
    let name = limit_name(&name)?;
    for_all_queues(&caller)?;
    let queues = match app.broker.set_shared_limit(&name, None).await.map_err(Problem::in_doubt)? {
        SharedChange::Removed(queues) => {
            Action::named("remove-limit").on_limit(&name).record(&app, &caller).await;
            queues
        }
        SharedChange::Done | SharedChange::Unknown | SharedChange::TooMany => Vec::new(),
    };
    Ok(ok(&RemovedLimitDocument::new(&queues)))
}

fn limit_name(text: &str) -> Result<LimitName, Problem> {
    let no_name =
        |error| Problem::new(NOT_FOUND, format!("there can be no such limit: its name {error}"));
    text.parse().map_err(no_name)
}

fn no_such_limit() -> Problem {
    Problem::new(NOT_FOUND, "there is no such limit")
}

async fn find(app: &App, name: LimitName) -> Result<Option<SharedLimit>, Problem> {
    let status = Box::pin(app.broker.shared_limit(&name)).await?;
    Ok(status.map(|status| SharedLimit { name, status }))
}

fn document(caller: &Caller, limit: &SharedLimit) -> SharedLimitDocument {
    SharedLimitDocument::new(limit, |queue| caller.may_use(queue))
}

pub(crate) fn may_see(caller: &Caller, limit: &SharedLimit) -> bool {
    caller.queues().is_none() || limit.status.queues.iter().any(|queue| caller.may_use(queue))
}

/// Other queues may share it too.
fn for_all_queues(caller: &Caller) -> Result<(), Problem> {
    if caller.queues().is_some() {
        let detail = "a limit may concern all queues, and this key is limited to some";
        return Err(Problem::new(FORBIDDEN, detail));
    }
    Ok(())
}
