//! The groups of a queue and their rules.

use actix_web::{HttpRequest, web};
use crunch_common::broker::{GroupRule, RuleChange};
use crunch_common::job::GroupName;
use crunch_common::queue::QueueName;
use percent_encoding::percent_decode_str;

use super::Answer;
use super::job_access::{known_queue, no_such_queue, queue_name};
use super::paging::Paging;
use super::shared_parameters::{GroupPath, PageQuery, QueuePath};
use crate::action_log::Action;
use crate::auth::Caller;
use crate::document::{GroupPageDocument, RuleDocument, ok, removed};
use crate::problem::{NOT_FOUND, Problem, TOO_MANY_RULES};
use crate::rule::RuleRequest;
use crate::state::App;
use crate::{body, json, rule};

/// The largest body, in bytes: a rule with all its members has a tenth.
const MAX_BODY: u64 = 4096;

/// Lists the groups of a queue that have jobs that wait, and those that have a rule of their own.
#[utoipa::path(get, path = "/queues/{queue}/groups", tag = "queues", operation_id = "listGroups",
    params(QueuePath, PageQuery),
    responses(
        (status = 200, description = "Those that take turns, the next one first; then those that wait for their rate, for the end of a job, and those without jobs that wait", body = GroupPageDocument),
        (status = 404, description = "There is no such queue: it was not used or served in the last hour, it is empty, and no declared task has it"),
    ))]
pub(crate) async fn list(
    app: web::Data<App>,
    caller: Caller,
    queue: web::Path<String>,
    request: HttpRequest,
) -> Answer {
    let paging = Paging::<u64>::of(&request)?;
    let queue = queue_name(&caller, &queue)?;
    let page = app.broker.groups_of(&queue, paging.after.unwrap_or(0), paging.limit).await?;
    if page.items.is_empty() && page.each.is_none() {
        known_queue(&app, &caller, &queue).await?;
    }
    let (mut response, next_cursor) = paging.linked(&request, page.next);
    Ok(response.json(GroupPageDocument::new(page, next_cursor)))
}

/// Sets the rule for each group of a queue that has none of its own. It applies from the next turn of each.
#[utoipa::path(put, path = "/queues/{queue}/groups", tag = "queues", operation_id = "setRuleForEachGroup",
    params(QueuePath),
    request_body = RuleRequest,
    responses(
        (status = 200, description = "The rule", body = RuleDocument),
        (status = 404, description = "There is no such queue: it was not used or served in the last hour, it is empty, and no declared task has it"),
        (status = 409, description = "A thousand groups of the queue have rules"),
        (status = 422, description = "The rule is invalid; `errors` lists the places"),
    ))]
pub(crate) async fn set_for_each(
    app: web::Data<App>,
    caller: Caller,
    queue: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer {
    let queue = queue_name(&caller, &queue)?;
    let rule = rule_in(&app, &request, payload).await?;
    change(&app, &caller, (&queue, None), Some(&rule)).await?;
    Ok(ok(&RuleDocument::from(&rule)))
}

/// Removes the rule for each group of a queue that has none of its own.
#[utoipa::path(delete, path = "/queues/{queue}/groups", tag = "queues", operation_id = "removeRuleForEachGroup",
    params(QueuePath),
    responses(
        (status = 204, description = "There is no such rule any more"),
        (status = 404, description = "There is no such queue: it was not used or served in the last hour, it is empty, and no declared task has it"),
    ))]
pub(crate) async fn remove_for_each(
    app: web::Data<App>,
    caller: Caller,
    queue: web::Path<String>,
) -> Answer {
    let queue = queue_name(&caller, &queue)?;
    change(&app, &caller, (&queue, None), None).await?;
    Ok(removed())
}

/// Sets the rule of a group, which need not have any jobs. It applies from its next turn.
#[utoipa::path(put, path = "/queues/{queue}/groups/{group}", tag = "queues", operation_id = "setGroupRule",
    params(QueuePath, GroupPath),
    request_body = RuleRequest,
    responses(
        (status = 200, description = "The rule", body = RuleDocument),
        (status = 404, description = "There is no such queue, or no group can have such a name"),
        (status = 409, description = "A thousand groups of the queue have rules"),
        (status = 422, description = "The rule is invalid; `errors` lists the places"),
    ))]
pub(crate) async fn set(
    app: web::Data<App>,
    caller: Caller,
    path: web::Path<(String, String)>,
    request: HttpRequest,
    payload: web::Payload,
) -> Answer {
    let (queue, group) = (queue_name(&caller, &path.0)?, group_name(&request)?);
    let rule = rule_in(&app, &request, payload).await?;
    change(&app, &caller, (&queue, Some(&group)), Some(&rule)).await?;
    Ok(ok(&RuleDocument::from(&rule)))
}

/// Removes the rule of a group. That for each group applies again.
#[utoipa::path(delete, path = "/queues/{queue}/groups/{group}", tag = "queues", operation_id = "removeGroupRule",
    params(QueuePath, GroupPath),
    responses(
        (status = 204, description = "The group has no rule of its own any more"),
        (status = 404, description = "There is no such queue, or no group can have such a name"),
    ))]
pub(crate) async fn remove(
    app: web::Data<App>,
    caller: Caller,
    path: web::Path<(String, String)>,
    request: HttpRequest,
) -> Answer {
    let (queue, group) = (queue_name(&caller, &path.0)?, group_name(&request)?);
    change(&app, &caller, (&queue, Some(&group)), None).await?;
    Ok(removed())
}

/// Returns the group in a path. It is read from the path as it was sent: the library replaces bytes that are not text, and
/// would thereby change which group is meant.
fn group_name(request: &HttpRequest) -> Result<GroupName, Problem> {
    let last = request.uri().path().rsplit('/').next().unwrap_or_default();
    let text = percent_decode_str(last).decode_utf8();
    text.ok().and_then(|text| text.parse().ok()).ok_or_else(|| {
        let expected = "the name of a group is 1 to 128 bytes of text without control characters";
        Problem::new(NOT_FOUND, format!("there can be no such group: {expected}"))
    })
}

async fn rule_in(
    app: &App,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<GroupRule, Problem> {
    let bytes = body::json(request, payload, &app.budgets.requests, MAX_BODY).await?;
    rule::read(json::check(&bytes)?).map_err(Problem::violations)
}

/// Sets a rule, or removes it if there is none to set, and records that.
///
/// # Errors
/// If there is no such queue, or too many of its groups have rules.
pub(crate) async fn change(
    app: &App,
    caller: &Caller,
    (queue, group): (&QueueName, Option<&GroupName>),
    rule: Option<&GroupRule>,
) -> Result<(), Problem> {
    let declared = app.catalog.declares_queue(queue);
    let changed = app.broker.set_group_rule(queue, declared, group, rule).await;
    match changed.map_err(Problem::in_doubt)? {
        RuleChange::Done => {}
        RuleChange::UnknownQueue => return Err(no_such_queue()),
        RuleChange::TooMany => {
            let detail = format!("a thousand groups of queue {queue} have rules");
            return Err(Problem::new(TOO_MANY_RULES, detail));
        }
    }
    let action = if rule.is_some() { "set-group-rule" } else { "remove-group-rule" };
    let action = Action::named(action).on_queue(queue);
    let action = match group {
        Some(group) => action.on_group(group),
        None => action,
    };
    action.record(app, caller).await;
    Ok(())
}
