//! The form that creates a schedule or changes one. It sends what a `PUT` of the API has, with the condition that the
//! schedule is still as the form showed it.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes};
use askama::Template;
use crunch_common::broker::{Condition, ScheduleRecord};
use crunch_common::schedule::{MissedPolicy, Overlap, Rule};
use crunch_common::time::{Timestamp, whole_ms};
use serde_json::value::RawValue;
use serde_json::{Number, Value};

use super::jobs::Filters;
use super::page::{self, Page, Section, TokenField};
use super::posted::Posted;
use super::viewer::Viewer;
use super::{Call, pretty, see_other, submission};
use crate::auth::Scope;
use crate::checks;
use crate::problem::{PRECONDITION_FAILED, Problem, Violation};
use crate::routes::schedules as routes;
use crate::schedule::ScheduleRequest;
use crate::state::App;

/// The members of a schedule that are text in the form and in JSON.
const TEXTS: [&str; 7] = ["task", "cron", "time_zone", "start_at", "end_at", "missed", "overlap"];
/// Those that are whole numbers.
const NUMBERS: [&str; 4] = ["every_ms", "jitter_ms", "missed_at_most", "missed_within_ms"];
/// Those that are JSON.
const JSON: [&str; 2] = ["payload", "job"];
/// The fields of which no schedule is made.
const NAME: &str = "name";
const VERSION: &str = "version";

#[derive(Template, Default)]
#[template(path = "dashboard/schedule_form.html")]
struct ScheduleForm {
    /// The schedule that is changed; `None` if one is created.
    known: Option<String>,
    /// The version that the form was made from.
    version: String,
    values: Vec<(&'static str, String)>,
    tasks: Vec<String>,
    /// What is wrong at no field.
    failure: Vec<String>,
    wrong: Vec<Violation>,
    /// Whether the schedule was changed meanwhile, with the fields that are different now.
    now: Option<Vec<(&'static str, String)>>,
}

impl ScheduleForm {
    fn value(&self, name: &str) -> &str {
        self.values.iter().find(|(field, _)| *field == name).map_or("", |(_, value)| value)
    }

    /// What is wrong at a field.
    fn errors(&self, name: &str) -> Vec<String> {
        let of_field = self.wrong.iter().filter(|it| field_of(it) == name);
        of_field
            .map(|it| match it.pointer.split('/').nth(2) {
                Some(_) => it.to_string(),
                None => it.detail.clone(),
            })
            .collect()
    }

    /// The fields of one line: their names, what they are called, and what an empty one stands for.
    const fn lines() -> [(&'static str, &'static str, &'static str); 8] {
        [
            ("cron", "Line of cron", "30 2 * * *"),
            ("time_zone", "Its time zone", "UTC"),
            ("every_ms", "Or every, ms", "600000"),
            ("jitter_ms", "Up to this much later, ms", "0"),
            ("start_at", "Not before", "2026-11-30T08:00:00Z"),
            ("end_at", "Not after", "none"),
            ("missed_at_most", "All missed ticks: at most", "100"),
            ("missed_within_ms", "and not older than, ms", "86400000"),
        ]
    }

    /// The fields with a choice, what they are called, and what may be chosen.
    fn choices() -> [(&'static str, &'static str, Vec<&'static str>); 2] {
        let missed = MissedPolicy::ALL.into_iter().map(MissedPolicy::as_str).collect();
        let overlap = Overlap::ALL.into_iter().map(Overlap::as_str).collect();
        [("missed", "Missed ticks", missed), ("overlap", "While the last job runs", overlap)]
    }

    /// The fields for JSON, and what they are called.
    const fn texts() -> [(&'static str, &'static str, usize); 2] {
        [("payload", "Payload, as JSON", 8), ("job", "Options of its jobs, as JSON", 4)]
    }

    fn action(&self) -> String {
        match &self.known {
            Some(name) => format!("/dashboard/schedules/{name}/change"),
            None => "/dashboard/new-schedule".to_owned(),
        }
    }

    fn token() -> TokenField {
        TokenField
    }

    fn page(&self) -> Result<Page, Problem> {
        let title = match &self.known {
            Some(name) => format!("Change schedule {name}"),
            None => "New schedule".to_owned(),
        };
        Page::new(title, Section::Schedules, self)
    }
}

/// The field of an error: the first part of its pointer.
fn field_of(violation: &Violation) -> &str {
    violation.pointer.split('/').nth(1).unwrap_or_default()
}

/// All fields that make a schedule.
fn fields() -> impl Iterator<Item = &'static str> {
    TEXTS.into_iter().chain(NUMBERS).chain(JSON)
}

/// The values of the fields for a schedule.
fn values_of(record: &ScheduleRecord) -> Vec<(&'static str, String)> {
    let (timing, spec) = (&record.timing, &record.spec);
    let (cron, zone, every) = match &timing.rule {
        Rule::Cron(line) => (line.to_string(), timing.time_zone.to_string(), String::new()),
        Rule::Every(interval) => (String::new(), String::new(), whole_ms(*interval).to_string()),
    };
    let time = |time: Option<Timestamp>| time.map(|it| it.to_string()).unwrap_or_default();
    vec![
        ("task", spec.task.to_string()),
        ("cron", cron),
        ("time_zone", zone),
        ("every_ms", every),
        ("jitter_ms", whole_ms(timing.jitter).to_string()),
        ("start_at", time(timing.start_at)),
        ("end_at", time(timing.end_at)),
        ("missed", spec.missed.policy.as_str().to_owned()),
        ("missed_at_most", spec.missed.at_most.to_string()),
        ("missed_within_ms", whole_ms(spec.missed.within).to_string()),
        ("overlap", spec.overlap.as_str().to_owned()),
        ("payload", pretty::json(&String::from_utf8_lossy(&record.payload))),
        ("job", pretty::json(&spec.job)),
    ]
}

/// The form of a schedule that does not exist; a link may name its task.
pub(super) async fn new(
    app: &web::Data<App>,
    viewer: &Viewer,
    query: &str,
) -> Result<Page, Problem> {
    viewer.require(Scope::Submit)?;
    let given = Filters::of(query, &["task"])?;
    let values = [
        ("task", given.get("task")),
        ("missed", MissedPolicy::default().as_str()),
        ("overlap", Overlap::default().as_str()),
        ("payload", "{}"),
        ("job", "{}"),
    ];
    let form = ScheduleForm {
        values: values.map(|(name, value)| (name, value.to_owned())).to_vec(),
        tasks: submission::task_names(app).await?,
        ..ScheduleForm::default()
    };
    form.page()
}

/// The form of a schedule as it is now.
pub(super) async fn change(
    app: &web::Data<App>,
    viewer: &Viewer,
    name: &str,
) -> Result<Page, Problem> {
    viewer.require(Scope::Submit)?;
    let known = routes::find(app, &viewer.caller, name).await?;
    routes::may_change(&viewer.caller, &known)?;
    let form = ScheduleForm {
        known: Some(known.name.to_string()),
        version: known.version.to_string(),
        values: values_of(&known),
        tasks: submission::task_names(app).await?,
        ..ScheduleForm::default()
    };
    form.page()
}

/// Creates or changes the schedule in the form; shows the form again if that is refused.
pub(super) async fn put(
    call: &Call,
    viewer: &Viewer,
    known: Option<&str>,
    posted: &Posted,
) -> Result<HttpResponse, Problem> {
    let name = known.or_else(|| posted.get(NAME)).unwrap_or_default().trim();
    if known.is_some() {
        let record = routes::find(&call.app, &viewer.caller, name).await?;
        routes::may_change(&viewer.caller, &record)?;
    }
    let problem = match apply(call, viewer, (name, known.is_some()), posted).await {
        Ok(record) => return Ok(see_other(&format!("/dashboard/schedules/{}", record.name))),
        Err(problem) if problem.kind.status.is_server_error() => return Err(problem),
        Err(problem) => problem,
    };
    refused(call, viewer, (name, known.is_some()), (posted, &problem)).await
}

async fn apply(
    call: &Call,
    viewer: &Viewer,
    (name, is_known): (&str, bool),
    posted: &Posted,
) -> Result<ScheduleRecord, Problem> {
    let body = Bytes::from(body(posted)?);
    let wanted = checks::read(&body, ScheduleRequest::read).await?.map_err(Problem::violations)?;
    let version = posted.get(VERSION).and_then(|text| text.parse().ok()).unwrap_or(0);
    let condition = |_: Option<&ScheduleRecord>| {
        Ok(if is_known { Condition::Version(version) } else { Condition::New })
    };
    let put = routes::put_wanted(&call.app, &viewer.caller, name, (wanted, condition));
    Ok(Box::pin(put).await?.1)
}

/// The fields as the body of a request. What is no number is left as text, and rejected where the body is read; JSON is
/// sent as it was typed.
fn body(posted: &Posted) -> Result<String, Problem> {
    let (mut members, mut wrong) = (Vec::new(), Vec::new());
    for name in TEXTS {
        if let Some(text) = posted.get(name).map(str::trim).filter(|text| !text.is_empty()) {
            members.push((name, Value::from(text).to_string()));
        }
    }
    for name in NUMBERS {
        if let Some(text) = posted.get(name).map(str::trim).filter(|text| !text.is_empty()) {
            let number = serde_json::from_str::<Number>(text).map(Value::Number);
            members.push((name, number.unwrap_or_else(|_| Value::from(text)).to_string()));
        }
    }
    for name in JSON {
        let Some(text) = posted.get(name).filter(|text| !text.trim().is_empty()) else { continue };
        match serde_json::from_str::<&RawValue>(text) {
            Ok(json) => members.push((name, json.get().to_owned())),
            Err(error) => {
                wrong.push(Violation::new(format!("/{name}"), format!("expected JSON: {error}")));
            }
        }
    }
    if !wrong.is_empty() {
        return Err(Problem::violations(wrong));
    }
    let members: Vec<_> =
        members.into_iter().map(|(name, json)| format!("\"{name}\":{json}")).collect();
    Ok(format!("{{{}}}", members.join(",")))
}

/// Shows the form again, with what was typed and what is wrong with it.
async fn refused(
    call: &Call,
    viewer: &Viewer,
    (name, is_known): (&str, bool),
    (posted, problem): (&Posted, &Problem),
) -> Result<HttpResponse, Problem> {
    let typed = |name: &str| posted.get(name).unwrap_or_default().to_owned();
    let at_field = |it: &Violation| fields().any(|field| field == field_of(it));
    let (wrong, others): (Vec<_>, Vec<_>) = problem.errors().partition(at_field);
    let mut failure: Vec<_> = others.iter().map(ToString::to_string).collect();
    let is_conflict = problem.kind.slug == PRECONDITION_FAILED.slug;
    if failure.is_empty() && wrong.is_empty() && !is_conflict {
        failure.push(problem.detail().to_owned());
    }
    if is_conflict && !is_known {
        failure.push("there is a schedule with this name already".to_owned());
    }
    let values: Vec<_> = fields().map(|name| (name, typed(name))).collect();
    let now = if is_conflict && is_known {
        let record = routes::find(&call.app, &viewer.caller, name).await?;
        Some(different(values_of(&record), &values))
    } else {
        None
    };
    let form = ScheduleForm {
        known: is_known.then(|| name.to_owned()),
        version: typed(VERSION),
        values: values.into_iter().chain([(NAME, typed(NAME))]).collect(),
        tasks: submission::task_names(&call.app).await?,
        failure,
        wrong,
        now,
    };
    let mut response = page::show_once(&form.page()?, viewer);
    *response.status_mut() = status(problem);
    Ok(response)
}

fn status(problem: &Problem) -> StatusCode {
    match problem.kind.status {
        StatusCode::BAD_REQUEST => StatusCode::UNPROCESSABLE_ENTITY,
        status => status,
    }
}

/// The values of a schedule that are not those that were typed.
fn different(
    now: Vec<(&'static str, String)>,
    typed: &[(&'static str, String)],
) -> Vec<(&'static str, String)> {
    // Browsers send lines that end with CR and LF.
    let plain = |text: &str| text.replace("\r\n", "\n").trim().to_owned();
    let is_typed =
        |name: &str, value: &str| typed.iter().any(|it| it.0 == name && plain(&it.1) == value);
    now.into_iter().filter(|(name, value)| !is_typed(name, value)).collect()
}
