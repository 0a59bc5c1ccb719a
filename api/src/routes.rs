//! All routes in one table.

pub(crate) mod action_log;
pub(crate) mod actions;
pub(crate) mod deliveries;
pub(crate) mod docs;
pub(crate) mod errors;
pub(crate) mod events;
pub(crate) mod groups;
mod guard;
pub(crate) mod health;
pub(crate) mod history;
pub(crate) mod job_access;
pub(crate) mod jobs;
pub(crate) mod limits;
pub(crate) mod metrics;
pub(crate) mod pages;
pub(crate) mod paging;
pub(crate) mod queue_limit;
pub(crate) mod queues;
pub(crate) mod results;
pub(crate) mod schedules;
mod shared_parameters;
pub(crate) mod submit;
pub(crate) mod summary;
pub(crate) mod system;
pub(crate) mod tasks;
pub(crate) mod tickets;
pub(crate) mod workers;

use actix_web::http::{Method, header};
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{FromRequest, Handler, HttpRequest, HttpResponse, Responder, Route};

use self::guard::Access::{self, NeedsAndCounts, NeedsOrPage, NeedsOrTicket, Open};
use self::guard::authorize;
use crate::auth::Scope::{Admin, Cancel, Read, Submit};
use crate::config::TaskRoute;
use crate::links::PROBES;
use crate::parameters::{Accepts, Unknown};
use crate::problem::{METHOD_NOT_ALLOWED, NOT_FOUND, Problem};
use crate::state::App;

/// The answer of a handler.
type Answer = Result<HttpResponse, Problem>;

/// Every path, its methods, and what they require of a caller; the first match serves a request.
fn table(task_routes: &[TaskRoute]) -> Vec<At> {
    let configured = task_routes
        .iter()
        .map(|route| At::path(&route.path).post(NeedsAndCounts(Submit), submit::by_route));
    let own = [
        At::path("/jobs").get(Read, jobs::list).post(NeedsAndCounts(Submit), submit::by_envelope),
        At::path("/jobs/actions").post(Admin, actions::act),
        At::path("/jobs/summary").get(Read, summary::show),
        At::path("/jobs/batch").post(NeedsAndCounts(Submit), submit::batch),
        At::path("/tasks/{task}/jobs").post(NeedsAndCounts(Submit), submit::by_task),
        At::one("/result/{token}").get(Read, results::by_token),
        At::one("/jobs/{id}").get(NeedsOrPage(Read), jobs::show).delete(Admin, jobs::delete),
        At::one("/jobs/{id}/result").get(Read, results::raw),
        At::one("/jobs/{id}/payload").get(Read, results::payload),
        At::path("/jobs/{id}/attempts").get(Read, jobs::attempts),
        At::path("/jobs/{id}/deliveries").get(Read, deliveries::list),
        At::one("/jobs/{id}/events").get(NeedsOrTicket(Read), events::stream),
        At::path("/stream-tickets").post(Read, tickets::create),
        At::path("/jobs/{id}/logs").get(Read, events::log),
        At::path("/jobs/{id}/cancel").post(Cancel, jobs::cancel),
        At::path("/jobs/{id}/retry").post(Admin, jobs::retry),
        At::path("/tasks").get(Read, tasks::list),
        At::one("/tasks/{task}").get(Read, tasks::show),
        At::path("/errors").get(Read, errors::list),
        At::one("/errors/{id}").get(Read, errors::show),
        At::path("/actions").get(Read, action_log::list),
        At::path("/history").get(Read, history::show),
        At::path("/workers").get(Read, workers::list),
        At::one("/workers/{id}").get(Read, workers::show),
        At::path("/workers/{id}/quiet").post(Admin, workers::quiet),
        At::path("/workers/{id}/resume").post(Admin, workers::resume),
        At::path("/workers/{id}/stop").post(Admin, workers::stop),
        At::path("/system").get(Read, system::show),
        At::page(PROBES[0]).get(Open, health::live),
        At::page(PROBES[1]).get(Open, health::ready),
        At::one("/metrics").get(Read, metrics::show),
        At::one("/openapi.json").get(Read, pages::openapi),
        At::page("/docs").get(Open, docs::page),
        At::page("/docs/{file}").get(Open, docs::file),
        At::page("/problems/{slug}").get(Read, pages::problem),
        At::page("/").get(Read, pages::home),
    ];
    configured.chain(own).chain(queue_paths()).collect()
}

/// The paths of queues, and of what decides when their jobs start.
fn queue_paths() -> impl Iterator<Item = At> {
    let own = [
        At::path("/queues").get(Read, queues::list),
        At::one("/queues/{queue}").get(Read, queues::show),
        At::path("/queues/{queue}/pause").post(Admin, queues::pause),
        At::path("/queues/{queue}/resume").post(Admin, queues::resume),
        At::path("/queues/{queue}/redrive").post(Admin, queues::redrive),
        At::path("/queues/{queue}/purge").post(Admin, queues::purge),
        At::path("/queues/{queue}/limit")
            .get(Read, queue_limit::show)
            .put(Admin, queue_limit::set)
            .delete(Admin, queue_limit::remove),
        At::path("/queues/{queue}/groups")
            .get(Read, groups::list)
            .put(Admin, groups::set_for_each)
            .delete(Admin, groups::remove_for_each),
        At::path("/queues/{queue}/groups/{group}")
            .put(Admin, groups::set)
            .delete(Admin, groups::remove),
        At::path("/limits").get(Read, limits::list),
        At::one("/limits/{name}")
            .get(Read, limits::show)
            .put(Admin, limits::set)
            .delete(Admin, limits::remove),
        At::path("/schedules").get(Read, schedules::list),
        At::one("/schedules/{name}")
            .get(Read, schedules::show)
            .put(Submit, schedules::put)
            .delete(Submit, schedules::delete),
        At::path("/schedules/{name}/pause").post(Submit, schedules::pause),
        At::path("/schedules/{name}/resume").post(Submit, schedules::resume),
        At::path("/schedules/{name}/run").post(Submit, schedules::run),
        At::path("/schedules/{name}/backfill")
            .post(Submit, schedules::start_backfill)
            .delete(Submit, schedules::stop_backfill),
    ];
    own.into_iter()
}

pub(crate) fn configure(app: &App, config: &mut ServiceConfig) {
    table(&app.task_routes).into_iter().for_each(|at| at.add(config));
    config.default_service(web::to(no_such_path));
}

async fn no_such_path() -> Answer {
    Err(Problem::new(NOT_FOUND, "there is no such path"))
}

/// The methods of one path. HEAD comes with GET; OPTIONS and 405 list the methods.
struct At {
    path: String,
    /// How a read treats query parameters that it does not know.
    unknown: Unknown,
    methods: Vec<(Method, Access)>,
    routes: Vec<Route>,
}

impl At {
    /// A list or a verb.
    fn path(path: &str) -> Self {
        let unknown = Unknown::Refused;
        Self { path: path.to_owned(), unknown, methods: Vec::new(), routes: Vec::new() }
    }

    /// One resource, to which links point.
    fn one(path: &str) -> Self {
        Self { unknown: Unknown::RefusedButMarkers, ..Self::path(path) }
    }

    /// A page for humans, or a probe.
    fn page(path: &str) -> Self {
        Self { unknown: Unknown::Ignored, ..Self::path(path) }
    }

    fn get<F, Args>(self, access: impl Into<Access>, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let access = access.into();
        self.on(Method::GET, access, handler.clone()).on(Method::HEAD, access, handler)
    }

    fn post<F, Args>(self, access: impl Into<Access>, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on(Method::POST, access.into(), handler)
    }

    fn put<F, Args>(self, access: impl Into<Access>, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on(Method::PUT, access.into(), handler)
    }

    fn delete<F, Args>(self, access: impl Into<Access>, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on(Method::DELETE, access.into(), handler)
    }

    fn on<F, Args>(mut self, method: Method, access: Access, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let accepts = match access {
            NeedsAndCounts(_) => Accepts::anything(),
            Open | Access::Needs(_) | NeedsOrPage(_) | NeedsOrTicket(_) => {
                Accepts::by(&method, &self.path, self.unknown)
            }
        };
        let guard = from_fn(move |request, next| authorize((access, accepts), request, next));
        self.routes.push(web::method(method.clone()).to(handler).wrap(guard));
        self.methods.push((method, access));
        self
    }

    fn add(self, config: &mut ServiceConfig) {
        let mut allow: Vec<_> = self.methods.iter().map(|(method, _)| method.as_str()).collect();
        allow.push("OPTIONS");
        let allow = allow.join(", ");
        let methods = allow.clone();
        let options = web::method(Method::OPTIONS).to(move || {
            let allow = methods.clone();
            async move { HttpResponse::NoContent().insert_header((header::ALLOW, allow)).finish() }
        });
        let refuse = web::to(move |request: HttpRequest| {
            let detail = format!("{} is not allowed on this path", request.method());
            let problem = Problem::new(METHOD_NOT_ALLOWED, detail).header(header::ALLOW, &allow);
            async move { Answer::Err(problem) }
        });
        let resource =
            self.routes.into_iter().fold(web::resource(self.path), |at, route| at.route(route));
        config.service(resource.route(options).default_service(refuse));
    }
}

/// Returns every route for the OpenAPI document: HEAD is GET without a body, so it is not listed.
pub(crate) fn offered(task_routes: &[TaskRoute]) -> Vec<(Method, String, Access)> {
    let listed = |at: At| {
        let methods = at.methods.into_iter().filter(|(method, _)| *method != Method::HEAD);
        methods.map(move |(method, access)| (method, at.path.clone(), access))
    };
    table(task_routes).into_iter().flat_map(listed).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_openapi_document_describes_every_route_and_no_other() {
        let task_routes =
            ["/crunch=crunch".parse().unwrap(), "/v1/thumbs=image.thumbnail".parse().unwrap()];
        let served = offered(&task_routes).into_iter();
        let served = served.map(|(method, path, _)| format!("{method} {path}"));
        let document = crate::openapi::document(&task_routes, &[], "http://localhost");
        let document = serde_json::to_value(document).unwrap();
        let described = document["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        });
        assert_eq!(described.collect::<BTreeSet<_>>(), served.collect::<BTreeSet<_>>());
    }
}
