//! The dashboard: pages for people, at `/dashboard`. A page is made by the functions that serve the public routes, with
//! the rights of the viewer's key, so nothing can be seen or done here that the key could not do over the API.
//!
//! It has its own table of paths, and its own guard: a session's cookie is accepted here and by no route of the API.
//! Everything works without script; `assets/live.js` only repeats what its links and forms do.

mod action_log;
mod actions;
mod all_queues;
mod assets;
mod chart;
mod deliveries;
mod errors;
mod failed_logins;
mod find;
mod form;
mod groups;
mod job;
mod jobs;
mod kept;
mod limits;
mod login;
mod overview;
mod page;
mod past;
mod paused_schedules;
mod posted;
mod pretty;
mod queues;
mod schedule_form;
mod schedules;
mod secret;
mod session;
mod submission;
mod system;
mod tasks;
mod text;
mod ticks;
mod unique;
mod viewer;
mod waits;
mod workers;

use actix_web::http::header;
use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};

use self::all_queues::AllQueues;
use self::failed_logins::FailedLogins;
use self::kept::KeptPages;
use self::page::Page;
use self::past::LastHour;
use self::paused_schedules::PausedSchedules;
use self::posted::Posted;
use self::session::Sessions;
use self::ticks::LivePages;
use self::viewer::Viewer;
use crate::auth::Scope::{Admin, Cancel, Read, Submit};
use crate::problem::{FORBIDDEN, METHOD_NOT_ALLOWED, NOT_FOUND, Problem, UNAUTHORIZED};
use crate::state::App;

/// The path of the overview; all others begin with it.
const ROOT: &str = "/dashboard";

/// What all pages share.
#[derive(Debug, Default)]
pub(crate) struct Dashboard {
    sessions: Sessions,
    failed_logins: FailedLogins,
    kept: KeptPages,
    all_queues: AllQueues,
    last_hour: LastHour,
    paused_schedules: PausedSchedules,
    live_pages: LivePages,
}

pub(crate) fn configure(dashboard: &web::Data<Dashboard>, config: &mut ServiceConfig) {
    let all = web::scope(ROOT).app_data(dashboard.clone());
    config.service(all.default_service(web::to(answer)));
}

/// A request to the dashboard, and the state it is answered from.
struct Call {
    dashboard: web::Data<Dashboard>,
    app: web::Data<App>,
    request: HttpRequest,
}

async fn answer(
    dashboard: web::Data<Dashboard>,
    app: web::Data<App>,
    request: HttpRequest,
    body: web::Payload,
) -> HttpResponse {
    let call = Call { dashboard, app, request };
    let answered = Box::pin(dispatch(&call, body)).await;
    let mut response = answered.unwrap_or_else(|problem| {
        page::problem(&problem, call.request.extensions().get::<Viewer>())
    });
    page::harden(response.headers_mut());
    response
}

/// Chooses by method and path who answers.
async fn dispatch(call: &Call, body: web::Payload) -> Result<HttpResponse, Problem> {
    let path = call.request.path().to_owned();
    let segments = segments(&path);
    let reads = [Method::GET, Method::HEAD].contains(call.request.method());
    match segments[..] {
        ["assets", file] if reads => return assets::file(file),
        ["login"] if reads => return login::form(call),
        ["session"] if call.request.method() == Method::POST => {
            return login::open(call, body).await;
        }
        _ => {}
    }
    if reads {
        return match viewer::of(call).await {
            Ok(viewer) => Ok(viewer.remember(Box::pin(read(call, &viewer, &segments)).await?)),
            Err(problem) if problem.kind == UNAUTHORIZED => Ok(login::redirect(call)),
            Err(problem) => Err(problem),
        };
    }
    if call.request.method() != Method::POST {
        let detail = "a page is read with GET, and its forms are sent with POST";
        return Err(
            Problem::new(METHOD_NOT_ALLOWED, detail).header(header::ALLOW, "GET, HEAD, POST")
        );
    }
    call.app.browsers.require_own_page(call.request.head())?;
    let viewer = viewer::of(call).await?;
    require_scope(call, &viewer, &segments)?;
    let is_job = segments == ["jobs", "new"];
    let posted = posted::read(call, body, &viewer, is_job).await?;
    Box::pin(act(call, &viewer, &segments, posted)).await
}

/// The parts of a path below the root.
fn segments(path: &str) -> Vec<&str> {
    let below = path.strip_prefix(ROOT).unwrap_or_default();
    below.split('/').filter(|segment| !segment.is_empty()).collect()
}

/// Everything that is read, with its scope.
async fn read(call: &Call, viewer: &Viewer, segments: &[&str]) -> Result<HttpResponse, Problem> {
    viewer.require(Read)?;
    let query = call.request.query_string();
    match segments {
        ["find"] => find::answer(call, viewer, query).await,
        ["ticks"] => ticks::stream(call, viewer, query).await,
        ["jobs", id, "payload"] => job::payload(call, viewer, id).await,
        ["jobs", id, "result"] => job::result(call, viewer, id).await,
        _ => {
            call.app.limits.count(&viewer.caller, &call.request)?;
            let at = (call.request.path(), query);
            let page = kept::get(&call.dashboard, &call.app, viewer, at).await?;
            Ok(page::respond(&call.request, viewer, &page))
        }
    }
}

/// All pages.
async fn page(
    dashboard: &Dashboard,
    app: &web::Data<App>,
    viewer: &Viewer,
    (path, query): (&str, &str),
) -> Result<Page, Problem> {
    match segments(path)[..] {
        [] => overview::page(dashboard, app, viewer).await,
        ["queues"] => queues::list(&dashboard.last_hour, app, viewer, query).await,
        ["queues", name] => Box::pin(queues::one(&dashboard.last_hour, app, viewer, name)).await,
        ["queues", name, "groups"] => groups::list(app, viewer, name, query).await,
        ["queues", name, "rule"] => groups::form(app, viewer, name, query).await,
        ["limits"] => limits::list(app, viewer).await,
        ["queues", name, "purge"] => queues::confirm_purge(app, viewer, name).await,
        ["jobs"] => jobs::list(app, viewer, query).await,
        ["jobs", "new"] => submission::page(app, viewer, query).await,
        ["jobs", "actions"] => actions::confirm(app, viewer, query).await,
        ["jobs", id] => job::page(app, viewer, id, query).await,
        ["errors"] => errors::list(app, viewer, query).await,
        ["workers"] => workers::list(app, viewer, query).await,
        ["tasks"] => tasks::list(app, viewer).await,
        ["tasks", name] => tasks::one(&dashboard.last_hour, app, viewer, name).await,
        ["schedules"] => schedules::list(app, viewer, query).await,
        ["schedules", name] => schedules::one(app, viewer, name).await,
        ["schedules", name, "change"] => schedule_form::change(app, viewer, name).await,
        ["new-schedule"] => schedule_form::new(app, viewer, query).await,
        ["actions"] => action_log::list(app, viewer, query).await,
        ["deliveries"] => deliveries::list(app, viewer, query).await,
        ["system"] => system::page(app, viewer).await,
        _ => Err(Problem::new(NOT_FOUND, "there is no such page")),
    }
}

/// Checks that the viewer has the scope that the route of a verb requires, before the form is read; and that there are not
/// too many requests.
fn require_scope(call: &Call, viewer: &Viewer, segments: &[&str]) -> Result<(), Problem> {
    let scope = match segments {
        ["logout"] => return Ok(()),
        ["jobs", "new"] | ["new-schedule"] => Submit,
        ["schedules", _, "pause" | "resume" | "run" | "remove" | "change"] => Submit,
        ["jobs", _, "cancel"] => Cancel,
        ["jobs", "actions"] | ["jobs", _, "retry" | "delete"] => Admin,
        ["queues", _, "pause" | "resume" | "purge" | "rule"] => Admin,
        ["workers", _, "quiet" | "resume" | "stop"] => Admin,
        _ => return Err(Problem::new(NOT_FOUND, "there is no such form")),
    };
    viewer.require(scope)?;
    call.app.limits.count(&viewer.caller, &call.request)
}

/// All verbs. Each form was checked before: its sender and token, and the viewer's rights.
async fn act(
    call: &Call,
    viewer: &Viewer,
    segments: &[&str],
    posted: Posted,
) -> Result<HttpResponse, Problem> {
    let answer = match segments {
        ["logout"] => login::end(call, viewer).await,
        ["jobs", "new"] => submission::submit(call, viewer, posted).await,
        ["jobs", "actions"] => actions::act(call, viewer, posted).await,
        ["jobs", id, verb] => job::act(call, viewer, id, verb).await,
        ["queues", name, "rule"] => groups::act(call, viewer, name, &posted).await,
        ["queues", name, verb] => queues::act(call, viewer, name, verb, &posted).await,
        ["new-schedule"] => Box::pin(schedule_form::put(call, viewer, None, &posted)).await,
        ["schedules", name, "change"] => {
            Box::pin(schedule_form::put(call, viewer, Some(name), &posted)).await
        }
        ["schedules", name, verb] => schedules::act(call, viewer, name, verb).await,
        ["workers", id, verb] => workers::act(call, viewer, id, verb).await,
        _ => Err(Problem::new(NOT_FOUND, "there is no such form")),
    };
    // What was kept shows the state before.
    call.dashboard.kept.clear();
    call.dashboard.paused_schedules.clear().await;
    answer
}

/// Sends the browser to another page.
fn see_other(path: &str) -> HttpResponse {
    HttpResponse::build(StatusCode::SEE_OTHER).insert_header((header::LOCATION, path)).finish()
}

/// The problem of a viewer whose key lacks a scope.
fn lacks(scope: crate::auth::Scope) -> Problem {
    Problem::new(FORBIDDEN, format!("the key lacks the scope {scope}"))
}
