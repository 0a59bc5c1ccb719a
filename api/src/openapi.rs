//! The OpenAPI document, gathered from the routes.

use utoipa::OpenApi;

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
    ),
    tags(
        (name = "jobs", description = "Submissions and what became of them"),
        (name = "tasks", description = "What workers know how to do"),
        (name = "queues", description = "Where jobs wait"),
        (name = "workers", description = "Who runs them"),
        (name = "health", description = "For supervisors and load balancers"),
    )
)]
struct Api;

/// The document.
pub(crate) fn document() -> utoipa::openapi::OpenApi {
    Api::openapi()
}
