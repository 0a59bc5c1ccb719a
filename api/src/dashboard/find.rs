//! The search box: takes any id or name, and leads to its page.

use actix_web::HttpResponse;
use askama::Template;
use crunch_common::broker::{ErrorGroup, ErrorGroupId, WorkerId};
use crunch_common::job::JobId;
use crunch_common::queue::QueueName;
use crunch_common::task::TaskName;

use super::page::{self, Page, Section};
use super::viewer::Viewer;
use super::workers;
use super::{Call, see_other};
use crate::problem::Problem;
use crate::query;
use crate::routes::job_access::{find_job, known_queue};

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
    // People copy ids out of URLs.
    let text = text.rsplit('/').next().unwrap_or_default();
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
    if let Ok(id) = text.to_ascii_lowercase().parse::<JobId>()
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
        && app.catalog.find(&task).await?.is_some()
    {
        return Ok(Some(format!("/dashboard/tasks/{task}")));
    }
    Ok(None)
}
