//! Builds the OpenAPI document: collected from the routes, with the configured ones, the declared tasks, and what all
//! routes share added.

mod names;
mod refusals;
mod replies;
mod security;
mod tasks;
mod webhooks;

use crunch_common::task::TaskDescriptor;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::openapi::path::Operation;
use utoipa::openapi::{self, ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{Modify, OpenApi, ToSchema};

use crate::config::TaskRoute;
use crate::document::words::ActionWord;
use crate::problem::{ProblemDocument, Violation};
use crate::routes;
use crate::submit::ItemDocument;

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
        routes::summary::show,
        routes::actions::act,
        routes::jobs::show,
        routes::jobs::delete,
        routes::jobs::attempts,
        routes::deliveries::list,
        routes::events::stream,
        routes::events::log,
        routes::tickets::create,
        routes::jobs::cancel,
        routes::jobs::retry,
        routes::tasks::list,
        routes::tasks::show,
        routes::errors::list,
        routes::errors::show,
        routes::action_log::list,
        routes::history::show,
        routes::queues::list,
        routes::queues::show,
        routes::queues::pause,
        routes::queues::resume,
        routes::queues::redrive,
        routes::queues::purge,
        routes::queue_limit::show,
        routes::queue_limit::set,
        routes::queue_limit::remove,
        routes::limits::list,
        routes::limits::show,
        routes::limits::set,
        routes::limits::remove,
        routes::groups::list,
        routes::groups::set_for_each,
        routes::groups::remove_for_each,
        routes::groups::set,
        routes::groups::remove,
        routes::schedules::list,
        routes::schedules::show,
        routes::schedules::put,
        routes::schedules::delete,
        routes::schedules::pause,
        routes::schedules::resume,
        routes::schedules::run,
        routes::schedules::start_backfill,
        routes::schedules::stop_backfill,
        routes::workers::list,
        routes::workers::show,
        routes::workers::quiet,
        routes::workers::resume,
        routes::workers::stop,
        routes::health::live,
        routes::health::ready,
        routes::metrics::show,
        routes::system::show,
        routes::pages::home,
        routes::pages::openapi,
        routes::docs::page,
        routes::docs::file,
        routes::pages::problem,
    ),
    components(schemas(ProblemDocument, ItemDocument, Violation, ActionWord)),
    modifiers(&Problems),
    tags(
        (name = "jobs", description = "Jobs, their state and their results"),
        (name = "tasks", description = "Work that workers declared"),
        (name = "queues", description = "Where jobs wait"),
        (name = "schedules", description = "Jobs that are submitted by themselves, again and again"),
        (name = "actions", description = "What operators did"),
        (name = "history", description = "How attempts ended and how deep queues were, over time"),
        (name = "errors", description = "Failures, by their kind"),
        (name = "workers", description = "Processes that run jobs"),
        (name = "health", description = "For supervisors and load balancers"),
        (name = "webhooks", description = "Messages that are sent when a job ends"),
        (name = "pages", description = "For humans, and for generators of clients"),
    )
)]
struct Api;

/// Builds the document of an API with these configured routes and these tasks.
pub(crate) fn document(routes: &[TaskRoute], tasks: &[&TaskDescriptor], server: &str) -> Document {
    let mut api = Api::openapi();
    security::describe(&mut api, routes);
    // The output of utoipa is always JSON.
    let mut document = serde_json::to_value(api).unwrap_or_default();
    refusals::list(&mut document);
    replies::complete(&mut document);
    tasks::describe(&mut document, routes, tasks);
    webhooks::describe(&mut document);
    Document {
        openapi: document["openapi"].take(),
        info: document["info"].take(),
        servers: json!([{ "url": server, "description": "This API, as its clients see it" }]),
        // An empty list has a meaning, too: no key is needed.
        security: document.get_mut("security").map_or(json!([]), Value::take),
        tags: document["tags"].take(),
        paths: document["paths"].take(),
        webhooks: document["webhooks"].take(),
        components: document["components"].take(),
    }
}

/// Builds the document as JSON text.
pub(crate) fn write(
    routes: &[TaskRoute],
    tasks: &[&TaskDescriptor],
    server: &str,
) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&document(routes, tasks, server))
}

/// The document with its members in the usual order.
#[derive(Debug, Serialize)]
pub(crate) struct Document {
    openapi: Value,
    info: Value,
    servers: Value,
    security: Value,
    tags: Value,
    paths: Value,
    webhooks: Value,
    components: Value,
}

/// Describes every error as a problem document, on every route.
struct Problems;

impl Modify for Problems {
    fn modify(&self, document: &mut openapi::OpenApi) {
        for item in document.paths.paths.values_mut() {
            let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.delete];
            operations.into_iter().flatten().for_each(explain);
        }
    }
}

fn explain(operation: &mut Operation) {
    let responses = &mut operation.responses.responses;
    responses.entry("default".to_owned()).or_insert_with(|| {
        ResponseBuilder::new().description("A problem; `type` links to its page").into()
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

    use super::*;

    fn task(name: &str, payload: Option<&str>, result: Option<&str>) -> TaskDescriptor {
        let mut task = TaskDescriptor::new(name.parse().unwrap());
        task.payload_schema = payload.map(|text| serde_json::from_str(text).unwrap());
        task.result_schema = result.map(|text| serde_json::from_str(text).unwrap());
        task
    }

    fn with(tasks: &[TaskDescriptor]) -> Value {
        let routes = ["/crunch=crunch".parse().unwrap(), "/v1/a=b".parse().unwrap()];
        let tasks: Vec<_> = tasks.iter().collect();
        serde_json::to_value(document(&routes, &tasks, "http://localhost")).unwrap()
    }

    fn shipped() -> Value {
        let tree = r##"{"$id":"https://example.com/t","title":"Tree","$defs":{"node":{"title":"Node","properties":{"left":{"$ref":"#/$defs/node"},
            "up":{"$ref":"#"},"$ref":{"$ref":"#/$defs/node/properties/left"}}},"a/b":{"enum":[{"$ref":"#/none"}]}},
            "properties":{"root":{"$ref":"#/$defs/node"},"other":{"$ref":"#/properties/root"},"third":{"$ref":"#/$defs/a~1b"}}}"##;
        with(&[
            task("crunch", Some(tree), Some("true")),
            task("a.b", Some(r#"{"type":"object"}"#), None),
            task("a_b", Some(r#"{"type":"array"}"#), None),
            task("job", None, None),
            task("later", Some(r#"{"$ref":"https://example.com/"}"#), Some(r#"{"type":"?"}"#)),
        ])
    }

    fn operations(document: &Value) -> impl Iterator<Item = (&String, &Value)> {
        let items = document["paths"].as_object().unwrap().iter();
        items.flat_map(|(path, item)| {
            item.as_object().unwrap().values().map(move |operation| (path, operation))
        })
    }

    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        // In an enum it is an ordinary value.
        found.extend(value.get("$ref").and_then(Value::as_str).filter(|it| *it != "#/none"));
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
    fn every_refusal_may_be_a_problem_document() {
        let document = shipped();
        for (path, operation) in operations(&document) {
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.contains_key("default"), "{path}");
            for (code, response) in responses {
                let refusal = code == "default" || code.starts_with(['4', '5']);
                let content = response["content"].as_object();
                let problem = content.is_some_and(|it| it.contains_key("application/problem+json"));
                assert_eq!(problem, refusal, "{path} {code}");
            }
        }
    }

    #[test]
    fn every_task_has_a_path_of_its_own_with_its_schemas() {
        let document = shipped();
        let body = |path: &str| {
            let body = &document["paths"][path]["post"]["requestBody"];
            body["content"]["application/json"]["schema"].clone()
        };
        let payload = json!({ "$ref": "#/components/schemas/CrunchPayload" });
        assert_eq!(body("/tasks/crunch/jobs"), payload);
        assert_eq!(body("/crunch"), payload);
        assert_eq!(body("/tasks/job/jobs"), json!({}));
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas["ABPayload"]["type"], "object");
        assert_eq!(schemas["ABPayload2"]["type"], "array");
        assert_eq!(
            schemas["CrunchPayloadNode"]["properties"]["left"],
            json!({ "$ref": "#/components/schemas/CrunchPayloadNode" })
        );
        assert_eq!(schemas["CrunchPayloadNode"]["properties"]["up"], payload);
        let job = &document["paths"]["/crunch"]["post"]["responses"]["202"]["content"]["application/json"]
            ["schema"];
        assert_eq!(job["$ref"], "#/components/schemas/CrunchJob");
        assert_eq!(document["paths"]["/tasks/job/jobs"]["post"]["operationId"], "submitJob2");
    }

    #[test]
    fn a_schema_that_cannot_be_used_is_left_out_of_the_document() {
        let schemas = shipped()["components"]["schemas"].take();
        assert!(schemas.get("LaterPayload").is_none() && schemas.get("LaterResult").is_none());
    }

    #[test]
    fn the_document_is_bounded_however_much_is_declared() {
        let text = format!("{{\"description\":\"{}\"}}", "x".repeat(60_000));
        let many: Vec<_> = (0..600).map(|at| task(&format!("t{at}"), Some(&text), None)).collect();
        assert!(serde_json::to_vec(&with(&many)).unwrap().len() < 8 * 1024 * 1024);
    }

    #[test]
    fn what_a_taken_job_links_to_are_operations_with_those_parameters() {
        let document = shipped();
        let response = &document["paths"]["/crunch"]["post"]["responses"]["202"];
        for name in response["links"].as_object().unwrap().keys() {
            let link = &document["components"]["links"][name];
            let (_, operation) = operations(&document)
                .find(|(_, operation)| operation["operationId"] == link["operationId"])
                .unwrap();
            let (parameter, expression) =
                link["parameters"].as_object().unwrap().iter().next().unwrap();
            assert_eq!(operation["parameters"][0]["name"], **parameter);
            assert_eq!(expression, "$response.body#/id");
        }
    }
}
