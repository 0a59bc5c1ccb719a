//! The search box: takes any id, name or idempotency key, and leads to its page.

use actix_web::HttpResponse;
use askama::Template;
use crunch_common::broker::{ErrorGroup, ErrorGroupId, WorkerId};
use crunch_common::job::JobId;
use crunch_common::queue::QueueName;
use crunch_common::task::TaskName;

use super::page::{self, Page, Section};
use super::viewer::Viewer;
use super::workers;
use super::{Call, see_other, text};
use crate::idempotency::IdempotencyKey;
use crate::problem::Problem;
use crate::query;
use crate::routes::job_access::{find_job, known_queue};

/// A key is stored under a hash of itself, its caller and its route, so each combination is tried: some milliseconds of
/// Redis' time at most. With more combinations only some callers' keys are found.
const MAX_GUESSES: usize = 5000;

#[derive(Template)]
#[template(path = "dashboard/find.html")]
struct NotFound<'a> {
    text: &'a str,
}

pub(super) async fn answer(
    call: &Call,
    viewer: &Viewer,
    query: &str,
) -> Result<HttpResponse, Problem> {
    let pairs = query::pairs(query)?;
    let text = pairs.iter().find(|(name, _)| name == "q").map_or("", |(_, text)| text.trim());
    call.app.limits.count(&viewer.caller, &call.request)?;
    if let Some(path) = place_of(call, viewer, text).await? {
        return Ok(see_other(&path));
    }
    let page = Page::new("Not found", Section::None, &NotFound { text })?;
    Ok(page::show_once(&page, viewer))
}

/// Returns the page of what has this id or name, if the viewer may see it.
async fn place_of(call: &Call, viewer: &Viewer, text: &str) -> Result<Option<String>, Problem> {
    let app = &call.app;
    // People copy ids out of URLs.
    let last = text.rsplit('/').next().unwrap_or_default();
    if let Ok(id) = last.to_ascii_lowercase().parse::<JobId>()
        && find_job(app, &viewer.caller, &id.to_string()).await.is_ok()
    {
        return Ok(Some(format!("/dashboard/jobs/{id}")));
    }
    if let Ok(id) = text.parse::<WorkerId>()
        && workers::visible(app, viewer).await?.iter().any(|worker| worker.id == id)
    {
        return Ok(Some(format!("/dashboard/workers#{id}")));
    }
    if let Ok(group) = text.parse::<ErrorGroupId>()
        && !group.is_other()
        && let Some(ErrorGroup { queue: Some(queue), .. }) = app.broker.error_group(&group).await?
        && viewer.caller.may_use(&queue)
    {
        return Ok(Some(format!("/dashboard/jobs?error={group}")));
    }
    if let Ok(queue) = text.parse::<QueueName>()
        && known_queue(app, &viewer.caller, &queue).await.is_ok()
    {
        return Ok(Some(format!("/dashboard/queues/{queue}")));
    }
    if let Ok(task) = text.parse::<TaskName>()
        && app.catalog.read().await?.iter().any(|declared| declared.task.name == task)
    {
        return Ok(Some(format!("/dashboard/tasks/{task}")));
    }
    Ok(by_idempotency_key(call, viewer, text).await?.or_else(|| with_label(text)))
}

/// Returns the list of the jobs with a label, `name=value`. A name of other characters must be entered there.
fn with_label(text: &str) -> Option<String> {
    let (name, value) = text.split_once('=')?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let is_name = !name.is_empty() && name.bytes().all(is_plain);
    is_name.then(|| format!("/dashboard/jobs?{}", text::label_query(name, value)))
}

/// Returns the page of the job that was submitted with an idempotency key in the last 24 hours.
async fn by_idempotency_key(
    call: &Call,
    viewer: &Viewer,
    text: &str,
) -> Result<Option<String>, Problem> {
    let app = &call.app;
    let Ok(key) = IdempotencyKey::parse_header(text) else { return Ok(None) };
    let tasks = app.catalog.read().await?;
    let of_tasks = tasks.iter().map(|declared| format!("/tasks/{}/jobs", declared.task.name));
    let routes = app.task_routes.iter().map(|route| route.path.clone());
    let paths: Vec<_> = ["/jobs".to_owned()].into_iter().chain(routes).chain(of_tasks).collect();
    let mut scopes = app.authority.idempotency_scopes();
    scopes.truncate(MAX_GUESSES / (paths.len() + 1));
    for id in app.broker.jobs_by_key(&key.anywhere(&scopes, &paths)).await? {
        if find_job(app, &viewer.caller, &id.to_string()).await.is_ok() {
            return Ok(Some(format!("/dashboard/jobs/{id}")));
        }
    }
    Ok(None)
}
