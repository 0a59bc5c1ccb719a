//! Describes every declared task at a separate path, with its schemas: so that a generated client knows payload and
//! result of a task.

use std::collections::HashMap;

use crunch_common::schema::{Schema, each_subschema};
use crunch_common::task::TaskDescriptor;
use serde_json::{Map, Value, json};

use super::names::{Names, pascal};
use crate::config::TaskRoute;

/// How many tasks are described, in the order of their names: a page with more would not be usable.
const MAX_TASKS: usize = 500;
/// How many bytes of schemas are included; further tasks are described without. Generators are slow with more.
const MAX_SCHEMA_BYTES: usize = 4 * 1024 * 1024;

/// The path of the general operation that the concrete ones are derived from.
const GENERAL: &str = "/tasks/{task}/jobs";

/// Describes every task at its own path, and every configured route as a submission of its task.
pub(super) fn describe(document: &mut Value, routes: &[TaskRoute], tasks: &[&TaskDescriptor]) {
    let mut names = Names::of(document);
    let general = share_parameters(document);
    let mut room = MAX_SCHEMA_BYTES;
    let mut known = HashMap::new();
    for task in tasks.iter().take(MAX_TASKS) {
        let shapes = Shapes::of(document, &mut names, task, &mut room);
        let id = names.take(&format!("submit{}", pascal(task.name.as_str())));
        let operation = submission_of(&general, &id, task, &shapes);
        document["paths"][format!("/tasks/{}/jobs", task.name)] = json!({ "post": operation });
        known.insert(&task.name, (task, shapes));
    }
    for route in routes {
        let id = names.take(&format!("post{}", pascal(&route.path)));
        let mut operation = match known.get(&route.task) {
            Some((task, shapes)) => submission_of(&general, &id, task, shapes),
            None => submission_of_undeclared(&general, &id, route),
        };
        // Here it is 503: a configured route means that the task will be declared.
        if let Some(responses) = operation["responses"].as_object_mut() {
            responses.remove("404");
        }
        document["paths"][&route.path] = json!({ "post": operation });
    }
}

/// Moves the parameters of the general operation to the components, so that all operations can refer to them; returns
/// the operation without the parameter for the task's name.
fn share_parameters(document: &mut Value) -> Value {
    let mut general = document["paths"][GENERAL]["post"].clone();
    let parameters = general["parameters"].take();
    let mut references = Vec::new();
    for parameter in parameters.as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap_or_default();
        if name == "task" {
            continue;
        }
        document["components"]["parameters"][name] = parameter.clone();
        references.push(json!({ "$ref": format!("#/components/parameters/{name}") }));
    }
    general["parameters"] = Value::Array(references);
    general
}

/// The names of a task's components.
#[derive(Debug, Default)]
struct Shapes {
    payload: Option<String>,
    job: Option<String>,
}

impl Shapes {
    fn of(
        document: &mut Value,
        names: &mut Names,
        task: &TaskDescriptor,
        room: &mut usize,
    ) -> Self {
        let stem = pascal(task.name.as_str());
        let mut put = |what: &str, schema: Option<&Schema>| {
            let schema = schema.filter(|it| it.as_str().len() <= *room && it.compile().is_ok())?;
            *room -= schema.as_str().len();
            embed(document, names, &format!("{stem}{what}"), schema)
        };
        let payload = put("Payload", task.payload_schema.as_ref());
        let result = put("Result", task.result_schema.as_ref());
        let job = result.map(|result| {
            let name = names.take(&format!("{stem}Job"));
            document["components"]["schemas"][&name] = job_with(&result, task);
            name
        });
        Self { payload, job }
    }
}

/// Returns the schema of a job document with a result of the given schema.
fn job_with(result: &str, task: &TaskDescriptor) -> Value {
    let result = json!([{ "$ref": reference(result) }, { "type": "null" }]);
    json!({
        "description": format!("A job of the task `{}`.", task.name),
        "allOf": [
            { "$ref": reference("Job") },
            { "type": "object", "properties": { "result": { "oneOf": result } } },
        ],
    })
}

fn reference(name: &str) -> String {
    format!("#/components/schemas/{name}")
}

/// Adds a schema and the definitions inside it to the components; its references are adapted.
fn embed(document: &mut Value, names: &mut Names, wanted: &str, schema: &Schema) -> Option<String> {
    let mut schema: Value = serde_json::from_str(schema.as_str()).ok()?;
    let name = names.take(wanted);
    let mut moved = Map::new();
    let mut places = HashMap::new();
    for keyword in ["$defs", "definitions"] {
        let definitions = schema.as_object_mut().and_then(|members| members.remove(keyword));
        let Some(Value::Object(definitions)) = definitions else { continue };
        for (key, definition) in definitions {
            let moved_to = names.take(&format!("{wanted}{}", pascal(&key)));
            let key = key.replace('~', "~0").replace('/', "~1");
            places.insert(format!("#/{keyword}/{key}"), reference(&moved_to));
            moved.insert(moved_to, definition);
        }
    }
    moved.insert(name.clone(), schema);
    for (name_of_part, mut part) in moved {
        resolve_references(&mut part, &places, &reference(&name));
        document["components"]["schemas"][name_of_part] = part;
    }
    Some(name)
}

/// Turns references inside the schema into references inside the document. Titles are removed: generators use them as
/// names, and two tasks may use the same.
fn resolve_references(part: &mut Value, places: &HashMap<String, String>, root: &str) {
    each_subschema(part, &mut |members| {
        for keyword in ["$schema", "$id", "title"] {
            members.remove(keyword);
        }
        if let Some(Value::String(reference)) = members.get_mut("$ref") {
            *reference = resolved(reference, places, root);
        }
    });
    if let Value::Bool(anything) = part {
        *part = if *anything { json!({}) } else { json!({ "not": {} }) };
    }
}

fn resolved(reference: &str, places: &HashMap<String, String>, root: &str) -> String {
    // A definition, or a place inside one: `#/$defs/name/…`.
    let end = reference.match_indices('/').nth(2).map_or(reference.len(), |(at, _)| at);
    match places.get(&reference[..end]) {
        Some(moved) => format!("{moved}{}", &reference[end..]),
        None => format!("{root}{}", reference.strip_prefix('#').unwrap_or_default()),
    }
}

/// Returns the general operation, adapted to one task.
fn submission_of(general: &Value, id: &str, task: &TaskDescriptor, shapes: &Shapes) -> Value {
    let mut operation = general.clone();
    operation["operationId"] = json!(id);
    operation["summary"] = json!(format!("Submits a job of the task `{}`", task.name));
    if !task.description.is_empty() {
        operation["description"] = json!(task.description);
    }
    let content = task.accepts.iter().map(|accepted| {
        let schema = match &shapes.payload {
            Some(payload) if accepted.is_json() => json!({ "$ref": reference(payload) }),
            _ if accepted.is_json() => json!({}),
            _ if accepted.as_str().starts_with("text/") => json!({ "type": "string" }),
            _ => json!({ "type": "string", "format": "binary" }),
        };
        (accepted.to_string(), json!({ "schema": schema }))
    });
    operation["requestBody"] = json!({
        "description": format!("The payload, at most {} bytes.", task.max_payload),
        "required": true,
        "content": content.collect::<Map<_, _>>(),
    });
    if let Some(job) = &shapes.job {
        set_result(&mut operation["responses"], &reference(job));
    }
    operation
}

fn submission_of_undeclared(general: &Value, id: &str, route: &TaskRoute) -> Value {
    let mut operation = general.clone();
    operation["operationId"] = json!(id);
    operation["summary"] = json!(format!("Submits a job of the task `{}`", route.task));
    operation["description"] = json!("No worker has declared this task yet.");
    operation
}

/// Replaces the job in the responses by one with the task's result.
fn set_result(responses: &mut Value, job: &str) {
    for (_code, response) in responses.as_object_mut().into_iter().flatten() {
        let schema = response.pointer_mut("/content/application~1json/schema");
        if let Some(schema) = schema.filter(|it| it["$ref"] == reference("Job")) {
            schema["$ref"] = json!(job);
        }
    }
}
