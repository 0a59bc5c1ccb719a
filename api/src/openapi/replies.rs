//! Completes the answers of all operations: members that are always present, headers, and links from a submitted job to
//! the operations on it.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// Operations that create a job; those of single tasks are derived from them.
const SUBMISSIONS: [&str; 2] = ["submitJob", "submitJobOfTask"];

/// Adds to the whole document what all operations have in common.
pub(super) fn complete(document: &mut Value) {
    require_members(document);
    refer_to_items(document);
    forbid_other_members(document);
    document["components"]["headers"] = headers();
    document["components"]["links"] = links();
    for (_path, item) in document["paths"].as_object_mut().into_iter().flatten() {
        for (_method, operation) in item.as_object_mut().into_iter().flatten() {
            shorten_summary(operation);
            remove_null(operation);
            unlimit_wait(operation);
            annotate(operation);
        }
    }
}

/// Marks all members of answers as required, as they are `null` when unknown; those of request bodies are not.
fn require_members(document: &mut Value) {
    let mut sent = BTreeSet::new();
    for (_path, item) in document["paths"].as_object().into_iter().flatten() {
        for (_method, operation) in item.as_object().into_iter().flatten() {
            collect_schemas(&operation["requestBody"], document, &mut sent);
        }
    }
    let schemas = document["components"]["schemas"].as_object_mut();
    for (name, schema) in schemas.into_iter().flatten() {
        // Some members of a problem depend on its type.
        if !sent.contains(name)
            && name != "Problem"
            && let Some(properties) = schema["properties"].as_object()
        {
            schema["required"] = properties.keys().cloned().collect();
        }
    }
}

/// Lets lists refer to the schema of their items, instead of repeating it.
fn refer_to_items(document: &mut Value) {
    let Some(schemas) = document["components"]["schemas"].as_object_mut() else { return };
    let known: BTreeSet<_> = schemas.keys().cloned().collect();
    for (name, schema) in schemas {
        let item = name.strip_prefix("Items_").or_else(|| name.strip_prefix("Page_"));
        if let Some(item) = item.filter(|item| known.contains(*item)) {
            schema["properties"]["items"]["items"] =
                json!({ "$ref": format!("#/components/schemas/{item}") });
        }
    }
}

/// Makes submissions one object each, and bodies without other members than the described ones.
fn forbid_other_members(document: &mut Value) {
    let schemas = &mut document["components"]["schemas"];
    for name in ["Submission", "ScheduledJobOptions"] {
        join_parts(&mut schemas[name]);
    }
    schemas["Submission"]["required"] = json!(["task"]);
    // A scheduled job has no time of its own, and its key is its tick.
    if let Some(members) = schemas["ScheduledJobOptions"]["properties"].as_object_mut() {
        members
            .retain(|name, _| !["delay_ms", "run_at", "idempotency_key"].contains(&name.as_str()));
    }
    for name in ["metadata", "webhook"] {
        let property = schemas["Submission"]["properties"][name].clone();
        schemas["ScheduledJobOptions"]["properties"][name] = property;
    }
    schemas["QueueLimitRequest"]["properties"]["limits"]["uniqueItems"] = json!(true);
    for name in [
        "Submission",
        "ScheduledJobOptions",
        "ScheduleRequest",
        "BackfillRequest",
        "Batch",
        "StreamTicketRequest",
        "GroupRuleRequest",
        "QueueLimitRequest",
        "SharedLimitRequest",
        "RateRequest",
    ] {
        schemas[name]["additionalProperties"] = json!(false);
    }
}

/// Makes one object of a schema that consists of several.
fn join_parts(schema: &mut Value) {
    let parts = schema.as_object_mut().and_then(|it| it.remove("allOf")).unwrap_or_default();
    for (name, property) in parts.as_array().into_iter().flatten().flat_map(properties) {
        schema["properties"][name] = property.clone();
    }
    schema["type"] = json!("object");
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

/// Collects the names of all schemas that `value` refers to, directly or indirectly.
fn collect_schemas(value: &Value, document: &Value, found: &mut BTreeSet<String>) {
    if let Some(name) = value["$ref"].as_str().and_then(|it| it.rsplit('/').next())
        && found.insert(name.to_owned())
    {
        collect_schemas(&document["components"]["schemas"][name], document, found);
    }
    let members = value.as_object().into_iter().flat_map(Map::values);
    let items = value.as_array().into_iter().flatten();
    members.chain(items).for_each(|value| collect_schemas(value, document, found));
}

/// Uses the summary as description, if there is none, and its first clause as summary.
fn shorten_summary(operation: &mut Value) {
    let Some(sentence) = operation["summary"].as_str().map(str::to_owned) else { return };
    if operation.get("description").is_none() {
        operation["description"] = json!(sentence);
    }
    let end = sentence.find([';', ':']).unwrap_or(sentence.len());
    operation["summary"] = json!(sentence[..end].trim_end_matches('.'));
}

/// Removes `null` from the types of optional parameters: neither a query nor a header can express it.
fn remove_null(operation: &mut Value) {
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        if let Some(Value::Array(types)) = parameter.pointer_mut("/schema/type") {
            types.retain(|it| it != "null");
            if let [only] = &types[..] {
                parameter["schema"]["type"] = only.clone();
            }
        }
    }
}

/// Removes the upper limit of `wait`: a longer wait than the maximum is cut to it, so no number is too large.
fn unlimit_wait(operation: &mut Value) {
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    let waits = parameters.into_iter().flatten().filter(|parameter| parameter["name"] == "wait");
    for schema in waits.filter_map(|parameter| parameter["schema"].as_object_mut()) {
        schema.remove("format");
        schema.insert("minimum".to_owned(), json!(0));
    }
}

fn annotate(operation: &mut Value) {
    let submits = SUBMISSIONS.iter().any(|id| operation["operationId"] == *id);
    for (code, response) in operation["responses"].as_object_mut().into_iter().flatten() {
        add(response, "headers", &["X-Request-Id"]);
        if code == "503" || code == "202" {
            add(response, "headers", &["Retry-After"]);
        }
        if submits && (code == "202" || code == "200") {
            let names = [
                "Location",
                "Operation-Location",
                "Content-Location",
                "Link",
                "Idempotency-Replayed",
                "Crunch-Existing",
            ];
            add(response, "headers", &names);
            add(response, "links", &["job", "result", "status", "cancel"]);
        }
        if code == "304" {
            add(response, "headers", &["ETag"]);
        }
    }
}

/// Adds references to shared components of a kind to those that a response already has.
fn add(response: &mut Value, kind: &str, names: &[&str]) {
    for name in names {
        if response[kind][name].is_null() {
            response[kind][name] = json!({ "$ref": format!("#/components/{kind}/{name}") });
        }
    }
}

fn headers() -> Value {
    let header =
        |description: &str, schema: Value| json!({ "description": description, "schema": schema });
    let uri = || json!({ "type": "string", "format": "uri-reference" });
    json!({
        "X-Request-Id": header("The client's id of the request, or a new one", json!({ "type": "string" })),
        "Retry-After": header("Seconds to wait before the next request", json!({ "type": "integer", "minimum": 1 })),
        "Location": header("The URL of the job; absolute", uri()),
        "Operation-Location": header("The job, `/jobs/{id}`; absolute", uri()),
        "Content-Location": header("The job, `/jobs/{id}`", uri()),
        "Link": header("`</jobs/{id}>; rel=\"monitor\"`", json!({ "type": "string" })),
        "Idempotency-Replayed": header("Only if an earlier request with the same key created the job", json!({ "type": "string", "enum": ["true"] })),
        "Crunch-Existing": header("Only if no job was created, because this one holds its lock", json!({ "type": "string", "enum": ["true"] })),
        "ETag": header("The version of the answer", json!({ "type": "string" })),
    })
}

fn links() -> Value {
    let link = |operation: &str, parameter: &str, description: &str| {
        let parameters = json!({ parameter: "$response.body#/id" });
        json!({ "operationId": operation, "parameters": parameters, "description": description })
    };
    json!({
        "job": link("getJob", "id", "The state of the job"),
        "status": link("getResultByToken", "token", "The same, also expressed by the status code"),
        "result": link("getResult", "id", "The result as raw bytes"),
        "cancel": link("cancelJob", "id", "Cancels the job"),
    })
}
