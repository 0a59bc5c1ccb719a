//! Every path on one screen.

pub(crate) mod deliveries;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod jobs;
pub(crate) mod metrics;
pub(crate) mod pages;
pub(crate) mod queues;
pub(crate) mod results;
pub(crate) mod submit;
pub(crate) mod tasks;
pub(crate) mod workers;

use actix_web::http::{Method, header};
use actix_web::web::{self, ServiceConfig};
use actix_web::{FromRequest, Handler, HttpRequest, HttpResponse, Responder, Route};
use crunch_common::job::JobId;

use crate::config::TaskRoute;
use crate::problem::{METHOD_NOT_ALLOWED, NOT_FOUND, Problem};
use crate::state::App;

/// What a handler answers.
type Answer = Result<HttpResponse, Problem>;

/// Every path and what is offered there; the first that fits a request serves it.
fn table(task_routes: &[TaskRoute]) -> Vec<At> {
    let configured = task_routes.iter().map(|route| At::path(&route.path).post(submit::by_route));
    let own = [
        At::path("/jobs").get(jobs::list).post(submit::by_envelope),
        At::path("/jobs/batch").post(submit::batch),
        At::path("/tasks/{task}/jobs").post(submit::by_task),
        At::path("/result/{token}").get(results::by_token),
        At::path("/jobs/{id}").get(jobs::show).delete(jobs::delete),
        At::path("/jobs/{id}/result").get(results::raw),
        At::path("/jobs/{id}/payload").get(results::payload),
        At::path("/jobs/{id}/attempts").get(jobs::attempts),
        At::path("/jobs/{id}/deliveries").get(deliveries::list),
        At::path("/jobs/{id}/events").get(events::stream),
        At::path("/jobs/{id}/logs").get(events::log),
        At::path("/jobs/{id}/cancel").post(jobs::cancel),
        At::path("/jobs/{id}/retry").post(jobs::retry),
        At::path("/tasks").get(tasks::list),
        At::path("/tasks/{task}").get(tasks::show),
        At::path("/queues").get(queues::list),
        At::path("/queues/{queue}").get(queues::show),
        At::path("/queues/{queue}/pause").post(queues::pause),
        At::path("/queues/{queue}/resume").post(queues::resume),
        At::path("/queues/{queue}/redrive").post(queues::redrive),
        At::path("/queues/{queue}/purge").post(queues::purge),
        At::path("/workers").get(workers::list),
        At::path("/livez").get(health::live),
        At::path("/readyz").get(health::ready),
        At::path("/metrics").get(metrics::show),
        At::path("/openapi.json").get(pages::openapi),
        At::path("/problems/{slug}").get(pages::problem),
        At::path("/").get(pages::home),
    ];
    configured.chain(own).collect()
}

pub(crate) fn configure(app: &App, config: &mut ServiceConfig) {
    table(&app.task_routes).into_iter().for_each(|at| at.add(config));
    config.default_service(web::to(nothing_here));
}

async fn nothing_here() -> Answer {
    Err(Problem::new(NOT_FOUND, "there is nothing here"))
}

/// The methods of one path. HEAD comes with GET; OPTIONS and 405 tell what is offered.
struct At {
    path: String,
    methods: Vec<Method>,
    routes: Vec<Route>,
}

impl At {
    fn path(path: &str) -> Self {
        Self { path: path.to_owned(), methods: Vec::new(), routes: Vec::new() }
    }

    fn get<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on(Method::GET, handler.clone()).on(Method::HEAD, handler)
    }

    fn post<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on(Method::POST, handler)
    }

    fn delete<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on(Method::DELETE, handler)
    }

    fn on<F, Args>(mut self, method: Method, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.routes.push(web::method(method.clone()).to(handler));
        self.methods.push(method);
        self
    }

    fn add(self, config: &mut ServiceConfig) {
        let mut allow: Vec<_> = self.methods.iter().map(Method::as_str).collect();
        allow.push("OPTIONS");
        let allow = allow.join(", ");
        let offered = allow.clone();
        let options = web::method(Method::OPTIONS).to(move || {
            let allow = offered.clone();
            async move { HttpResponse::NoContent().insert_header((header::ALLOW, allow)).finish() }
        });
        let refuse = web::to(move |request: HttpRequest| {
            let detail = format!("{} is not offered here", request.method());
            let problem = Problem::new(METHOD_NOT_ALLOWED, detail).header(header::ALLOW, &allow);
            async move { Answer::Err(problem) }
        });
        let resource =
            self.routes.into_iter().fold(web::resource(self.path), |at, route| at.route(route));
        config.service(resource.route(options).default_service(refuse));
    }
}

/// The id in the path; anything that is not one is a job that does not exist.
fn job_id(text: &str) -> Result<JobId, Problem> {
    text.parse().map_err(|_| Problem::no_such_job())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_openapi_document_describes_every_route_and_no_other() {
        let task_routes =
            ["/crunch=crunch".parse().unwrap(), "/v1/thumbs=image.thumbnail".parse().unwrap()];
        let served = table(&task_routes).into_iter().flat_map(|at| {
            // HEAD is GET without a body; no document lists it.
            let methods = at.methods.into_iter().filter(|method| *method != Method::HEAD);
            methods.map(move |method| format!("{method} {}", at.path)).collect::<Vec<_>>()
        });
        let document = serde_json::to_value(crate::openapi::document(&task_routes)).unwrap();
        let described = document["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        });
        assert_eq!(described.collect::<BTreeSet<_>>(), served.collect::<BTreeSet<_>>());
    }
}
