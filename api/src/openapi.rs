//! The OpenAPI document: gathered from the routes, with the configured ones and what all routes share put in.

mod security;

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
        routes::events::stream,
        routes::events::log,
        routes::jobs::cancel,
        routes::jobs::retry,
        routes::tasks::list,
        routes::tasks::show,
        routes::queues::list,
        routes::queues::show,
        routes::queues::pause,
        routes::queues::resume,
        routes::queues::redrive,
        routes::queues::purge,
        routes::workers::list,
        routes::health::live,
        routes::health::ready,
        routes::metrics::show,
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
    security::describe(&mut document, task_routes);
    document
}

/// Submitting to one task: the general way without naming it.
fn behind(route: &TaskRoute, general: Operation) -> Operation {
    let mut operation = general;
    operation.operation_id = Some(format!("submit{}", route.path));
    operation.summary =
        Some(format!("Submits a job of the task `{}`; the body is its payload.", route.task));
    let parameters = operation.parameters.into_iter().flatten();
    operation.parameters =
        Some(parameters.filter(|it| !matches!(it, RefOr::T(it) if it.name == "task")).collect());
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
            response.content.insert("application/problem+json".to_owned(), problem().into());
        }
    }
}

fn problem() -> openapi::Content {
    ContentBuilder::new().schema(Some(Ref::from_schema_name(ProblemDocument::name()))).build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn shipped() -> Value {
        let routes = ["/crunch=crunch".parse().unwrap(), "/v1/a=b".parse().unwrap()];
        serde_json::to_value(document(&routes)).unwrap()
    }

    fn operations(document: &Value) -> impl Iterator<Item = (&String, &Value)> {
        let items = document["paths"].as_object().unwrap().iter();
        items.flat_map(|(path, item)| {
            item.as_object().unwrap().values().map(move |operation| (path, operation))
        })
    }

    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        found.extend(value.get("$ref").and_then(Value::as_str));
        let members = value.as_object().into_iter().flat_map(|members| members.values());
        let items = value.as_array().into_iter().flatten();
        members.chain(items).for_each(|value| references(value, found));
    }

    #[test]
    fn what_the_document_refers_to_is_in_it() {
        let document = shipped();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.contains("#/components/schemas/Problem"), "{found:?}");
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn operations_have_names_of_their_own_and_declare_what_is_in_their_path() {
        let document = shipped();
        assert_eq!(document["openapi"], "3.1.0");
        let mut names = BTreeSet::new();
        for (path, operation) in operations(&document) {
            assert!(names.insert(operation["operationId"].as_str().unwrap()), "{operation}");
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let in_path = parameters.filter(|parameter| parameter["in"] == "path");
            let declared: Vec<_> = in_path
                .map(|parameter| format!("{{{}}}", parameter["name"].as_str().unwrap()))
                .collect();
            let named: Vec<_> = path.split('/').filter(|part| part.starts_with('{')).collect();
            assert_eq!(declared, named, "{path}");
        }
    }

    #[test]
    fn every_refusal_is_a_problem_document_or_the_answer_to_a_batch() {
        let document = shipped();
        for (path, operation) in operations(&document) {
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.contains_key("default"), "{path}");
            for (code, response) in responses {
                let refusal = code == "default" || code.starts_with(['4', '5']);
                let content = response["content"].as_object();
                let problem = content.is_some_and(|it| it.contains_key("application/problem+json"));
                assert_eq!(
                    problem,
                    refusal && !(path == "/jobs/batch" && ["422", "503"].contains(&code.as_str())),
                    "{path} {code}"
                );
            }
        }
    }
}
