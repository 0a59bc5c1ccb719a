//! One job: its attempts, its progress and log, its payload and its result, and its verbs.

use actix_web::http::header::{self, HeaderName};
use actix_web::{HttpResponse, web};
use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crunch_common::broker::{Attempt, Delivery, Error, GroupState, JobRecord, LogLine};
use crunch_common::job::{JobId, Payload, Status};
use crunch_common::time::Timestamp;

use super::jobs::Filters;
use super::page::{Page, Section};
use super::viewer::{Rights, Viewer};
use super::{Call, see_other, text, unique, waits};
use crate::action_log::Action;
use crate::problem::{NOT_FOUND, Problem};
use crate::routes::job_access::{find_job, found_or_problem};
use crate::routes::jobs as routes;
use crate::routes::results::reserve;
use crate::state::App;

/// Larger payloads and results are not shown, only offered to download: everyone who looks at the page would read them
/// from Redis once a second.
const MAX_SHOWN: u64 = 64 * 1024;
/// Images up to this size are shown.
const MAX_IMAGE: u64 = 256 * 1024;

#[derive(Template)]
#[template(path = "dashboard/job.html")]
struct Job {
    job: JobRecord,
    attempts: Vec<Attempt>,
    log: Vec<LogLine>,
    payload: Shown,
    result: Option<Shown>,
    deliveries: Vec<Delivery>,
    /// Why it waits.
    waits: Vec<String>,
    /// What became of the submission that led here.
    notice: Option<&'static str>,
    rights: Rights,
}

/// A payload or a result, as far as it is shown.
struct Shown {
    size: u64,
    content_type: String,
    content: Content,
}

enum Content {
    Text(String),
    /// A `data:` URL.
    Image(String),
    /// Too large, or not text.
    Hidden,
    /// It was deleted to free memory.
    Deleted,
}

impl Job {
    fn id(&self) -> String {
        self.job.id.to_string()
    }

    /// When it was or will be due, unless it has ended.
    fn due(&self) -> Option<Timestamp> {
        self.job.run_at.filter(|_| !self.job.status.is_terminal())
    }

    /// The job that holds its lock, if it waits for the end of that.
    fn holder(&self) -> Option<JobId> {
        let waiting = self.job.waiting_for.as_ref().filter(|it| it.reason == "lock")?;
        waiting.detail.as_ref()?.parse().ok()
    }

    fn may_retry(&self) -> bool {
        crunch_common::broker::BulkAction::Retry.applies_to(self.job.status)
    }
}

/// The parameter of the page after a submission that was answered with this job, and its values.
const EXISTING: &str = "existing";
const UNCHANGED: &str = "unchanged";
const REPLACED: &str = "replaced";

/// The page of a job that already existed when another one with the same lock was submitted.
pub(super) fn path_of_existing(id: JobId, is_replaced: bool) -> String {
    let value = if is_replaced { REPLACED } else { UNCHANGED };
    format!("/dashboard/jobs/{id}?{EXISTING}={value}")
}

fn notice(value: &str) -> Option<&'static str> {
    match value {
        UNCHANGED => Some("No job was created: this one holds the lock."),
        REPLACED => Some(
            "No job was created: this one has the same lock, and now the payload and the options that were submitted.",
        ),
        _ => None,
    }
}

pub(super) async fn page(
    app: &web::Data<App>,
    viewer: &Viewer,
    id: &str,
    query: &str,
) -> Result<Page, Problem> {
    let notice = notice(Filters::read(query)?.get(EXISTING));
    let job = find_job(app, &viewer.caller, id).await?;
    let (attempts, log, deliveries, waits) = tokio::try_join!(
        app.broker.attempts(job.id),
        app.broker.log(job.id, 0),
        app.broker.deliveries(job.id),
        Box::pin(waits(app, &job)),
    )?;
    let payload = shown_payload(app, &job).await?;
    let result = shown_result(app, &job).await?;
    let title = format!("Job {id}");
    let template = Job {
        attempts: found_or_problem(attempts)?,
        log: found_or_problem(log)?.1,
        payload,
        result,
        deliveries: found_or_problem(deliveries)?,
        waits,
        notice,
        job,
        rights: viewer.rights(),
    };
    Page::new(title, Section::Jobs, &template)
}

async fn waits(app: &App, job: &JobRecord) -> Result<Vec<String>, Error> {
    if job.status == Status::Running || job.status.is_terminal() {
        return Ok(Vec::new());
    }
    let (queue, workers, limit, group) = tokio::try_join!(
        app.broker.queue(&job.queue),
        app.broker.fleet(),
        Box::pin(app.broker.queue_limit(&job.queue)),
        group_state(app, job),
    )?;
    Ok(waits::reasons(job, queue.as_ref(), &workers, limit, group))
}

/// Whether the group of a job that is queued takes turns; idle if the job has none.
async fn group_state(app: &App, job: &JobRecord) -> Result<GroupState, Error> {
    match &job.options.group {
        Some(group) if job.status == Status::Queued => {
            app.broker.group_state(&job.queue, group).await
        }
        Some(_) | None => Ok(GroupState::Idle),
    }
}

async fn shown_payload(app: &App, job: &JobRecord) -> Result<Shown, Problem> {
    let (size, content_type) = (job.options.payload_size, job.options.content_type.clone());
    let content = if is_shown(size, content_type.as_str()) {
        found_or_problem(app.broker.payload(job.id).await?)?.map_or(Content::Deleted, content)
    } else {
        Content::Hidden
    };
    Ok(Shown { size, content_type: content_type.as_str().to_owned(), content })
}

async fn shown_result(app: &App, job: &JobRecord) -> Result<Option<Shown>, Problem> {
    let Some(result) = &job.result else { return Ok(None) };
    let content_type = result.content_type.as_str().to_owned();
    let content = match &result.inline {
        Some(bytes) => {
            content(Payload { bytes: bytes.clone(), content_type: result.content_type.clone() })
        }
        None if is_shown(result.size, &content_type) => {
            let (_, result) = found_or_problem(app.broker.result(job.id).await?)?;
            result.map_or(Content::Deleted, content)
        }
        None => Content::Hidden,
    };
    Ok(Some(Shown { size: result.size, content_type, content }))
}

fn is_shown(size: u64, content_type: &str) -> bool {
    size <= if is_image(content_type) { MAX_IMAGE } else { MAX_SHOWN }
}

/// Formats that browsers decode and that contain no script. SVG does.
fn is_image(content_type: &str) -> bool {
    ["image/png", "image/jpeg", "image/gif", "image/webp"].contains(&content_type)
}

fn content(payload: Payload) -> Content {
    let Payload { bytes, content_type } = payload;
    if is_image(content_type.as_str()) {
        let encoded = STANDARD.encode(&bytes);
        return Content::Image(format!("data:{};base64,{encoded}", content_type.as_str()));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) if content_type.is_json() => Content::Text(super::pretty::json(text)),
        Ok(text) => Content::Text(text.to_owned()),
        Err(_) => Content::Hidden,
    }
}

/// Downloads the payload of a job.
pub(super) async fn payload(
    call: &Call,
    viewer: &Viewer,
    id: &str,
) -> Result<HttpResponse, Problem> {
    call.app.limits.count(&viewer.caller, &call.request)?;
    let job = find_job(&call.app, &viewer.caller, id).await?;
    reserve(&call.app, &call.request, job.options.payload_size)?;
    let payload = found_or_problem(call.app.broker.payload(job.id).await?)?;
    download(&format!("{id}-payload"), payload)
}

/// Downloads the result of a job.
pub(super) async fn result(
    call: &Call,
    viewer: &Viewer,
    id: &str,
) -> Result<HttpResponse, Problem> {
    call.app.limits.count(&viewer.caller, &call.request)?;
    let job = find_job(&call.app, &viewer.caller, id).await?;
    reserve(&call.app, &call.request, job.result.as_ref().map_or(0, |result| result.size))?;
    let (_, result) = found_or_problem(call.app.broker.result(job.id).await?)?;
    download(&format!("{id}-result"), result)
}

/// Answers with bytes that a client chose: the browser stores them and does not show them.
fn download(name: &str, payload: Option<Payload>) -> Result<HttpResponse, Problem> {
    let payload = payload.ok_or_else(|| Problem::new(NOT_FOUND, "there is nothing to download"))?;
    let extension = match payload.content_type.as_str().split_once('/') {
        Some((_, "json")) => ".json",
        Some((_, "png")) => ".png",
        Some((_, "jpeg")) => ".jpg",
        Some(("text", _)) => ".txt",
        _ => "",
    };
    Ok(HttpResponse::Ok()
        .content_type(payload.content_type.as_str())
        .insert_header((
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}{extension}\""),
        ))
        .insert_header((header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"))
        .insert_header((HeaderName::from_static("x-download-options"), "noopen"))
        .body(payload.bytes))
}

/// Cancels, retries or deletes a job.
pub(super) async fn act(
    call: &Call,
    viewer: &Viewer,
    id: &str,
    verb: &str,
) -> Result<HttpResponse, Problem> {
    let (app, caller, path) = (call.app.clone(), viewer.caller.clone(), id.to_owned().into());
    match verb {
        "cancel" => {
            let job = find_job(&call.app, &viewer.caller, id).await?;
            let canceled = routes::cancel(app, caller, path).await?;
            // Clients cancel their own jobs: only here it is what an operator does.
            let action = Action::named("cancel").on_job(&job.id).on_queue(&job.queue);
            action.changing(1).record(&call.app, &viewer.caller).await;
            canceled
        }
        "retry" => routes::retry(app, caller, path).await?,
        "delete" => {
            routes::delete(app, caller, path).await?;
            return Ok(see_other("/dashboard/jobs"));
        }
        _ => return Err(Problem::new(NOT_FOUND, "there is no such form")),
    };
    Ok(see_other(&format!("/dashboard/jobs/{id}")))
}
