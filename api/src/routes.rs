//! Every path on one screen.

pub(crate) mod health;
pub(crate) mod jobs;
mod pages;
pub(crate) mod queues;
pub(crate) mod results;
pub(crate) mod submit;
pub(crate) mod tasks;
pub(crate) mod workers;

use actix_web::http::{Method, header};
use actix_web::web::{self, ServiceConfig};
use actix_web::{FromRequest, Handler, HttpRequest, HttpResponse, Responder, Route};
use crunch_common::job::JobId;

use crate::problem::{METHOD_NOT_ALLOWED, NOT_FOUND, Problem};
use crate::state::App;

/// What a handler answers.
type Answer = Result<HttpResponse, Problem>;

pub(crate) fn configure(app: &App, config: &mut ServiceConfig) {
    for route in app.task_routes.iter() {
        At::path(&route.path).post(submit::by_route).add(config);
    }
    At::path("/jobs").get(jobs::list).post(submit::by_envelope).add(config);
    At::path("/jobs/batch").post(submit::batch).add(config);
    At::path("/tasks/{task}/jobs").post(submit::by_task).add(config);

    At::path("/result/{id}").get(results::by_token).add(config);
    At::path("/jobs/{id}").get(jobs::show).delete(jobs::delete).add(config);
    At::path("/jobs/{id}/result").get(results::raw).add(config);
    At::path("/jobs/{id}/payload").get(results::payload).add(config);
    At::path("/jobs/{id}/attempts").get(jobs::attempts).add(config);
    At::path("/jobs/{id}/cancel").post(jobs::cancel).add(config);
    At::path("/jobs/{id}/retry").post(jobs::retry).add(config);

    At::path("/tasks").get(tasks::list).add(config);
    At::path("/tasks/{task}").get(tasks::show).add(config);
    At::path("/queues").get(queues::list).add(config);
    At::path("/queues/{queue}").get(queues::show).add(config);
    At::path("/queues/{queue}/pause").post(queues::pause).add(config);
    At::path("/queues/{queue}/resume").post(queues::resume).add(config);
    At::path("/queues/{queue}/redrive").post(queues::redrive).add(config);
    At::path("/workers").get(workers::list).add(config);

    At::path("/livez").get(health::live).add(config);
    At::path("/readyz").get(health::ready).add(config);
    At::path("/openapi.json").get(pages::openapi).add(config);
    At::path("/problems/{slug}").get(pages::problem).add(config);
    At::path("/").get(pages::home).add(config);
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
