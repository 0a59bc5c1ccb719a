//! A new job, from scratch or from an earlier one.

use actix_web::web::{self, Bytes};
use actix_web::{HttpResponse, http::StatusCode};
use askama::Template;
use crunch_common::broker::JobRecord;
use crunch_common::job::{ContentType, Payload, Priority};
use crunch_common::task::TaskName;

use super::jobs::Filters;
use super::page::{self, Page, Section, TokenField};
use super::posted::Posted;
use super::viewer::Viewer;
use super::{Call, pretty, see_other};
use crate::auth::Scope;
use crate::checks;
use crate::problem::{Problem, UNKNOWN_TASK};
use crate::query;
use crate::routes::job_access::{find_job, found_or_problem};
use crate::state::App;
use crate::submit::{Options, Submission, check_fit, check_webhook, enqueue_one, undeclared};

/// The options that the form has, with the names of the API's parameters.
const OPTIONS: [&str; 7] =
    ["queue", "priority", "delay_ms", "timeout_ms", "deadline_ms", "max_attempts", "webhook.url"];
/// A payload that is larger is copied, and not shown to be changed.
const MAX_SHOWN: u64 = 256 * 1024;

/// What the form shows: what was given, or comes from an earlier job.
#[derive(Template, Default)]
#[template(path = "dashboard/new.html")]
struct NewJobPage {
    task: String,
    payload: String,
    options: Vec<(&'static str, String)>,
    /// Labels, `key=value`, one a line.
    metadata: String,
    /// The job whose payload is copied as it is, because it cannot be shown as text.
    copied: Option<String>,
    tasks: Vec<String>,
    failure: Vec<String>,
}

impl NewJobPage {
    fn option(&self, name: &str) -> &str {
        self.options.iter().find(|(option, _)| *option == name).map_or("", |(_, value)| value)
    }

    fn priorities() -> [Priority; 4] {
        Priority::ALL
    }

    fn token() -> TokenField {
        TokenField
    }
}

/// Shows the form: empty, for a task, or with the content of an earlier job.
pub(super) async fn page(
    app: &web::Data<App>,
    viewer: &Viewer,
    query: &str,
) -> Result<Page, Problem> {
    viewer.require(Scope::Submit)?;
    let given = Filters::read(query)?;
    let mut template = NewJobPage {
        task: given.get("task").to_owned(),
        payload: "{}".to_owned(),
        tasks: task_names(app).await?,
        ..NewJobPage::default()
    };
    if !given.get("from").is_empty() {
        fill(&mut template, app, find_job(app, &viewer.caller, given.get("from")).await?).await?;
    }
    Page::new("New job", Section::Jobs, &template)
}

async fn task_names(app: &App) -> Result<Vec<String>, Problem> {
    let tasks = app.catalog.read().await?;
    let names = tasks.iter().map(|declared| &declared.task.name);
    Ok(names.filter(|name| !name.is_reserved()).map(ToString::to_string).collect())
}

/// Fills the form with the content of a job.
async fn fill(template: &mut NewJobPage, app: &App, job: JobRecord) -> Result<(), Problem> {
    let labels = job.options.metadata.iter().map(|(name, value)| format!("{name}={value}"));
    template.metadata = labels.collect::<Vec<_>>().join("\n");
    template.task = job.task.to_string();
    template.options = vec![
        ("queue", job.queue.to_string()),
        ("priority", job.priority.to_string()),
        ("max_attempts", job.options.max_attempts.to_string()),
    ];
    if job.options.payload_size > MAX_SHOWN || !job.options.content_type.is_json() {
        template.copied = Some(job.id.to_string());
        return Ok(());
    }
    let payload = found_or_problem(app.broker.payload(job.id).await?)?;
    let text = payload.and_then(|payload| String::from_utf8(payload.bytes.to_vec()).ok());
    template.payload = text.map_or_else(String::new, |text| pretty::json(&text));
    Ok(())
}

/// Submits the job in the form; shows the form again if it is not valid.
pub(super) async fn submit(
    call: &Call,
    viewer: &Viewer,
    posted: Posted,
) -> Result<HttpResponse, Problem> {
    let problem = match accept(call, viewer, &posted).await {
        Ok(job) => return Ok(see_other(&format!("/dashboard/jobs/{}", job.id))),
        Err(problem) if problem.kind.status.is_server_error() => return Err(problem),
        Err(problem) => problem,
    };
    let text = |name| posted.get(name).unwrap_or_default().to_owned();
    let mut failure: Vec<_> = problem.errors().collect();
    if failure.is_empty() {
        failure.push(problem.detail().to_owned());
    }
    let template = NewJobPage {
        task: text("task"),
        payload: text("payload"),
        options: OPTIONS.into_iter().map(|name| (name, text(name))).collect(),
        metadata: text("metadata"),
        copied: posted.get("copied").map(str::to_owned),
        tasks: task_names(&call.app).await?,
        failure,
    };
    let page = Page::new("New job", Section::Jobs, &template)?;
    let mut response = page::show_once(&page, viewer);
    *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    Ok(response)
}

/// Checks and enqueues a job as `POST /tasks/{task}/jobs` does.
async fn accept(call: &Call, viewer: &Viewer, posted: &Posted) -> Result<JobRecord, Problem> {
    let app = &call.app;
    let name = posted.get("task").unwrap_or_default().trim();
    let name: TaskName =
        name.parse().map_err(|_| Problem::new(UNKNOWN_TASK, "there is no such task"))?;
    let declared = app.catalog.find(&name).await?;
    let declared = declared.ok_or_else(|| undeclared(UNKNOWN_TASK, &name))?;
    let options = Options::from_query(&options_in(posted)?)?;
    let Payload { bytes, content_type } = match posted.get("copied") {
        Some(id) => copied(app, viewer, id).await?,
        None => typed(posted.get("payload").unwrap_or_default()).await?,
    };
    let submission = Submission { payload: bytes, content_type, options };
    check_fit(&declared, &submission, "").await?;
    check_webhook(app, &submission.options, "")?;
    let job = submission.into_job(app, &viewer.caller, &declared.task, None)?;
    Ok(enqueue_one(app, job).await?.job())
}

/// The options of a form, as the query of a submission.
fn options_in(posted: &Posted) -> Result<String, Problem> {
    let options = OPTIONS.into_iter().filter_map(|name| Some((name.to_owned(), posted.get(name)?)));
    let lines = posted.get("metadata").unwrap_or_default().lines().map(str::trim);
    let labels = lines.filter(|line| !line.is_empty()).map(|line| {
        let label = line.split_once('=');
        let (name, value) =
            label.ok_or_else(|| query::invalid("metadata", "expected key=value in each line"))?;
        Ok((format!("metadata.{}", name.trim()), value.trim()))
    });
    let labels: Vec<_> = labels.collect::<Result<_, Problem>>()?;
    let all: Vec<_> = options.map(|(name, value)| (name, value.trim())).chain(labels).collect();
    Ok(query::encoded(all.iter().map(|(name, value)| (name.as_str(), *value))))
}

/// The payload of an earlier job, byte by byte.
async fn copied(app: &App, viewer: &Viewer, id: &str) -> Result<Payload, Problem> {
    let job = find_job(app, &viewer.caller, id).await?;
    let payload = found_or_problem(app.broker.payload(job.id).await?)?;
    payload.ok_or_else(|| query::invalid("copied", "the payload of that job was deleted"))
}

/// The payload in the text field: JSON.
async fn typed(text: &str) -> Result<Payload, Problem> {
    let bytes = Bytes::copy_from_slice(text.trim().as_bytes());
    checks::read(&bytes, |_, _| ()).await?;
    Ok(Payload { bytes, content_type: ContentType::json() })
}
