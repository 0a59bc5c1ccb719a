//! The OpenAPI document: gathered from the routes, with the configured ones and what all routes share put in.

use utoipa::openapi::path::{HttpMethod, Operation};
use utoipa::openapi::{self, ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{Modify, OpenApi, ToSchema};

use crate::config::TaskRoute;
use crate::problem::{ProblemDocument, Violation};
use crate::routes;

#[derive(OpenApi)]
#[openapi(
    info(title = "Crunch", description = "Long computations over HTTP: submit a job, get a token, fetch the result. Execution is at least once."),
    paths(
        routes::submit::by_envelope,
        routes::submit::batch,
        routes::submit::by_task,
        routes::results::by_token,
        routes::results::raw,
        routes::results::payload,
        routes::jobs::list,
        routes::jobs::show,
        routes::jobs::delete,
        routes::jobs::attempts,
        routes::jobs::cancel,
        routes::jobs::retry,
        routes::tasks::list,
        routes::tasks::show,
        routes::queues::list,
        routes::queues::show,
        routes::queues::pause,
        routes::queues::resume,
        routes::queues::redrive,
        routes::workers::list,
        routes::health::live,
        routes::health::ready,
        routes::pages::home,
        routes::pages::openapi,
        routes::pages::problem,
    ),
    components(schemas(ProblemDocument, Violation)),
    modifiers(&Problems),
    tags(
        (name = "jobs", description = "Submissions and what became of them"),
        (name = "tasks", description = "What workers know how to do"),
        (name = "queues", description = "Where jobs wait"),
        (name = "workers", description = "Who runs them"),
        (name = "health", description = "For supervisors and load balancers"),
        (name = "pages", description = "For people, and for generators of clients"),
    )
)]
struct Api;

/// The document of an API with these routes beside its own.
pub(crate) fn document(task_routes: &[TaskRoute]) -> openapi::OpenApi {
    let mut document = Api::openapi();
    let general =
        document.paths.get_path_operation("/tasks/{task}/jobs", HttpMethod::Post).cloned();
    for route in task_routes {
        let operation = general.clone().map(|general| behind(route, general));
        let item = operation.map(|operation| openapi::PathItem::new(HttpMethod::Post, operation));
        document.paths.paths.extend(item.map(|item| (route.path.clone(), item)));
    }
    document
}

/// Submitting to one task: the general way without naming it.
fn behind(route: &TaskRoute, general: Operation) -> Operation {
    let mut operation = general;
    operation.operation_id = Some(format!("submit{}", route.path.replace('/', "_")));
    operation.summary =
        Some(format!("Submits a job of the task `{}`; the body is its payload.", route.task));
    operation.parameters = None;
    operation.responses.responses.remove("404");
    operation
}

/// Every refusal is a problem document, on every route.
struct Problems;

impl Modify for Problems {
    fn modify(&self, document: &mut openapi::OpenApi) {
        for item in document.paths.paths.values_mut() {
            let operations = [&mut item.get, &mut item.post, &mut item.delete];
            operations.into_iter().flatten().for_each(explain);
        }
    }
}

fn explain(operation: &mut Operation) {
    let problem = || {
        ContentBuilder::new()
            .schema(Some(Ref::from_schema_name(ProblemDocument::name())))
            .build()
            .into()
    };
    let responses = &mut operation.responses.responses;
    responses.entry("default".to_owned()).or_insert_with(|| {
        ResponseBuilder::new().description("A problem; `type` leads to its page").into()
    });
    for (code, response) in responses {
        let refusal = code == "default" || code.starts_with(['4', '5']);
        if let RefOr::T(response @ Response { .. }) = response
            && refusal
            && response.content.is_empty()
        {
            response.content.insert("application/problem+json".to_owned(), problem());
        }
    }
}
