//! A new job, from scratch or from an earlier one.

use actix_web::web::{self, Bytes};
use actix_web::{HttpResponse, http::StatusCode};
use askama::Template;
use crunch_common::broker::JobRecord;
use crunch_common::job::{ContentType, Payload, Priority};
use crunch_common::schema::Schema;
use crunch_common::task::TaskName;

use super::form::Form;
use super::jobs::Filters;
use super::page::{self, Page, Section, TokenField};
use super::posted::Posted;
use super::viewer::Viewer;
use super::{Call, job, pretty, see_other, unique};
use crate::auth::Scope;
use crate::checks;
use crate::problem::{Problem, UNKNOWN_TASK, Violation};
use crate::query;
use crate::routes::job_access::{find_job, found_or_problem};
use crate::state::App;
use crate::submit::{
    Accepted, Options, Submission, check_fit, check_webhook, enqueue_one, undeclared,
};

/// The options that the form has, with the names of the API's parameters.
const OPTIONS: [&str; 9] = [
    "queue",
    "priority",
    "group",
    "delay_ms",
    "timeout_ms",
    "deadline_ms",
    "start_within_ms",
    "max_attempts",
    "webhook.url",
];
/// A payload that is larger is copied, and not shown to be changed.
const MAX_SHOWN: u64 = 256 * 1024;

/// What the form shows: what was given, or comes from an earlier job.
#[derive(Template, Default)]
#[template(path = "dashboard/new.html")]
struct NewJobPage {
    task: String,
    /// The fields of the payload, as HTML.
    fields: String,
    /// The page with the payload as JSON text instead of fields, or the other way round, and what it is called.
    other_view: Option<(String, &'static str)>,
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

    /// Whether anything is chosen or given of what the job is unique by.
    fn is_unique(&self) -> bool {
        unique::FIELDS.iter().any(|name| !self.option(name).is_empty())
    }

    fn choices(name: &str) -> Vec<(&'static str, &'static str)> {
        unique::choices(name)
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
        tasks: task_names(app).await?,
        ..NewJobPage::default()
    };
    let payload = if given.get("from").is_empty() {
        None
    } else {
        fill(&mut template, app, find_job(app, &viewer.caller, given.get("from")).await?).await?
    };
    let schema = payload_schema(app, &template.task).await?;
    let as_json = given.get(VIEW) == AS_JSON;
    if schema.is_some() {
        template.other_view = Some(other_view(&given, as_json));
    }
    let form = form(schema.as_ref().filter(|_| !as_json), payload.as_deref());
    template.fields = form.html().map_err(|error| page::unwritten(&error))?;
    Page::new("New job", Section::Jobs, &template)
}

/// The parameter of the page that chooses between fields and JSON text, and its value.
const VIEW: &str = "view";
const AS_JSON: &str = "json";

fn other_view(given: &Filters, as_json: bool) -> (String, &'static str) {
    let here = given.without(VIEW);
    let query = if as_json { here } else { format!("{here}&{VIEW}={AS_JSON}") };
    let name = if as_json { "Fill in fields instead" } else { "Write JSON instead" };
    (format!("/dashboard/jobs/new?{query}"), name)
}

fn form(schema: Option<&Schema>, payload: Option<&str>) -> Form {
    match (schema.map(Schema::as_str), payload) {
        (None, payload) => Form::json(None, &pretty::json(payload.unwrap_or("{}"))),
        (schema, Some(payload)) => Form::filled(schema, payload),
        (schema, None) => Form::empty(schema),
    }
}

/// The schema of a task's payload; `None` if it has none, or if there is no such task.
async fn payload_schema(app: &App, task: &str) -> Result<Option<Schema>, Problem> {
    let Ok(name) = task.trim().parse::<TaskName>() else { return Ok(None) };
    let declared = app.catalog.find(&name).await?;
    Ok(declared.and_then(|declared| declared.task.payload_schema.clone()))
}

pub(super) async fn task_names(app: &App) -> Result<Vec<String>, Problem> {
    let tasks = app.catalog.read().await?;
    let names = tasks.iter().map(|declared| &declared.task.name);
    Ok(names.filter(|name| !name.is_reserved()).map(ToString::to_string).collect())
}

/// Fills the form with the options of a job, and returns its payload if that can be shown.
async fn fill(
    template: &mut NewJobPage,
    app: &App,
    job: JobRecord,
) -> Result<Option<String>, Problem> {
    let labels = job.options.metadata.iter().map(|(name, value)| format!("{name}={value}"));
    template.metadata = labels.collect::<Vec<_>>().join("\n");
    template.task = job.task.to_string();
    template.options = vec![
        ("queue", job.queue.to_string()),
        ("priority", job.priority.to_string()),
        ("max_attempts", job.options.max_attempts.to_string()),
    ];
    if let Some(group) = &job.options.group {
        template.options.push(("group", group.to_string()));
    }
    template.options.extend(job.options.unique.iter().flat_map(unique::fields));
    if job.options.payload_size > MAX_SHOWN || !job.options.content_type.is_json() {
        template.copied = Some(job.id.to_string());
        return Ok(None);
    }
    let payload = found_or_problem(app.broker.payload(job.id).await?)?;
    Ok(payload.and_then(|payload| String::from_utf8(payload.bytes.to_vec()).ok()))
}

/// Submits the job in the form; shows the form again if it is not valid.
pub(super) async fn submit(
    call: &Call,
    viewer: &Viewer,
    posted: Posted,
) -> Result<HttpResponse, Problem> {
    let text = |name| posted.get(name).unwrap_or_default().to_owned();
    let schema = payload_schema(&call.app, &text("task")).await?;
    let pairs = posted.fields().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let form = Form::submitted(schema.as_ref().map(Schema::as_str), pairs);
    let problem = match accept(call, viewer, &posted, &form).await {
        Ok(page) => return Ok(see_other(&page)),
        Err(problem) if problem.kind.status.is_server_error() => return Err(problem),
        Err(problem) => problem,
    };
    let (at_fields, mut failure) = (in_payload(&problem), elsewhere(&problem));
    if failure.is_empty() && at_fields.is_empty() {
        failure.push(problem.detail().to_owned());
    }
    let form = form.with_violations(at_fields);
    let names = OPTIONS.into_iter().chain(unique::FIELDS);
    let template = NewJobPage {
        task: text("task"),
        fields: form.html().map_err(|error| page::unwritten(&error))?,
        other_view: None,
        options: names.map(|name| (name, text(name))).collect(),
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

/// Where the payload is in a submission: pointers to its errors begin with this.
const PAYLOAD: &str = "/payload";

/// What is wrong with the payload, with pointers into it.
fn in_payload(problem: &Problem) -> Vec<Violation> {
    let inside = |error: Violation| {
        let pointer = error.pointer.strip_prefix(PAYLOAD)?;
        Some(Violation::new(pointer, error.detail))
    };
    problem.errors().filter_map(inside).collect()
}

/// What is wrong with the options.
fn elsewhere(problem: &Problem) -> Vec<String> {
    let others = problem.errors().filter(|error| !error.pointer.starts_with(PAYLOAD));
    others.map(|error| error.to_string()).collect()
}

/// Checks and enqueues a job as `POST /tasks/{task}/jobs` does; returns the path of its page.
async fn accept(
    call: &Call,
    viewer: &Viewer,
    posted: &Posted,
    form: &Form,
) -> Result<String, Problem> {
    let app = &call.app;
    let name = posted.get("task").unwrap_or_default().trim();
    let name: TaskName =
        name.parse().map_err(|_| Problem::new(UNKNOWN_TASK, "there is no such task"))?;
    let declared = app.catalog.find(&name).await?;
    let declared = declared.ok_or_else(|| undeclared(UNKNOWN_TASK, &name, &app.catalog))?;
    let mut options = Options::from_query(&options_in(posted)?)?;
    options.unique = unique::read(posted)?;
    let Payload { bytes, content_type } = match posted.get("copied") {
        Some(id) => copied(app, viewer, id).await?,
        None => entered(form).await?,
    };
    let submission = Submission { payload: bytes, content_type, options };
    check_fit(&declared, &submission, "").await?;
    check_webhook(app, &submission.options, "")?;
    let job = submission.into_job((app, &viewer.caller), (&declared.task, PAYLOAD), None).await?;
    let replaces = job.options.unique.as_ref().is_some_and(unique::replaces);
    Ok(match enqueue_one(app, job).await? {
        Accepted::Existing(job) => job::path_of_existing(job.id, replaces),
        accepted => format!("/dashboard/jobs/{}", accepted.job().id),
    })
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

/// The payload that was entered.
async fn entered(form: &Form) -> Result<Payload, Problem> {
    let text = form.payload().map_err(|violations| {
        let place = |it: Violation| Violation::new(format!("{PAYLOAD}{}", it.pointer), it.detail);
        Problem::violations(violations.into_iter().map(place).collect())
    })?;
    let bytes = Bytes::from(text);
    checks::read(&bytes, |_, _| ()).await?;
    Ok(Payload { bytes, content_type: ContentType::json() })
}
