//! What all answers share: the members that are always there, headers, and the links from a job taken to what can be done
//! with it.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// Operations that make a job; those of single tasks are made of them.
const SUBMISSIONS: [&str; 2] = ["submitJob", "submitJobOfTask"];

/// Says of the whole document what no single operation need repeat.
pub(super) fn complete(document: &mut Value) {
    always_there(document);
    one_by_one(document);
    nothing_unknown(document);
    document["components"]["headers"] = headers();
    document["components"]["links"] = links();
    for (_path, item) in document["paths"].as_object_mut().into_iter().flatten() {
        for (_method, operation) in item.as_object_mut().into_iter().flatten() {
            head(operation);
            not_null(operation);
            any_patience(operation);
            annotate(operation);
        }
    }
}

/// Documents that are answered have all their members, `null` when unknown; those that are sent need not.
fn always_there(document: &mut Value) {
    let mut sent = BTreeSet::new();
    for (_path, item) in document["paths"].as_object().into_iter().flatten() {
        for (_method, operation) in item.as_object().into_iter().flatten() {
            gather(&operation["requestBody"], document, &mut sent);
        }
    }
    let schemas = document["components"]["schemas"].as_object_mut();
    for (name, schema) in schemas.into_iter().flatten() {
        // What a problem has beside the usual depends on the problem.
        if !sent.contains(name)
            && name != "Problem"
            && let Some(properties) = schema["properties"].as_object()
        {
            schema["required"] = properties.keys().cloned().collect();
        }
    }
}

/// Lists of something refer to what it is, instead of repeating it.
fn one_by_one(document: &mut Value) {
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

/// A submission is one object, and has no members but those that are named.
fn nothing_unknown(document: &mut Value) {
    let submission = &mut document["components"]["schemas"]["Submission"];
    let parts = submission.as_object_mut().and_then(|it| it.remove("allOf")).unwrap_or_default();
    for (name, property) in parts.as_array().into_iter().flatten().flat_map(properties) {
        submission["properties"][name] = property.clone();
    }
    submission["type"] = json!("object");
    submission["required"] = json!(["task"]);
    submission["additionalProperties"] = json!(false);
    document["components"]["schemas"]["Batch"]["additionalProperties"] = json!(false);
    document["components"]["schemas"]["StreamTicketRequest"]["additionalProperties"] = json!(false);
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

/// The names of all schemas that `value` refers to, and those they refer to.
fn gather(value: &Value, document: &Value, found: &mut BTreeSet<String>) {
    if let Some(name) = value["$ref"].as_str().and_then(|it| it.rsplit('/').next())
        && found.insert(name.to_owned())
    {
        gather(&document["components"]["schemas"][name], document, found);
    }
    let members = value.as_object().into_iter().flat_map(Map::values);
    let items = value.as_array().into_iter().flatten();
    members.chain(items).for_each(|value| gather(value, document, found));
}

/// A sentence is a description; its first words are the heading above it.
fn head(operation: &mut Value) {
    let Some(sentence) = operation["summary"].as_str().map(str::to_owned) else { return };
    if operation.get("description").is_none() {
        operation["description"] = json!(sentence);
    }
    let end = sentence.find([';', ':']).unwrap_or(sentence.len());
    operation["summary"] = json!(sentence[..end].trim_end_matches('.'));
}

/// A parameter that may be left out is not one that may be null: neither a query nor a header can say that.
fn not_null(operation: &mut Value) {
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

/// Whoever would wait longer than is offered waits as long as is offered: no number is too large.
fn any_patience(operation: &mut Value) {
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
            let told = [
                "Location",
                "Operation-Location",
                "Content-Location",
                "Link",
                "Idempotency-Replayed",
            ];
            add(response, "headers", &told);
            add(response, "links", &["job", "result", "status", "cancel"]);
        }
        if code == "304" {
            add(response, "headers", &["ETag"]);
        }
    }
}

/// Refers to shared parts of that kind, beside those that a response has already.
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
        "X-Request-Id": header("The client's own id of the request, or a new one", json!({ "type": "string" })),
        "Retry-After": header("Seconds to wait before asking again", json!({ "type": "integer", "minimum": 1 })),
        "Location": header("Where to ask for the job; absolute", uri()),
        "Operation-Location": header("The job, `/jobs/{id}`; absolute", uri()),
        "Content-Location": header("The job, `/jobs/{id}`", uri()),
        "Link": header("`</jobs/{id}>; rel=\"monitor\"`", json!({ "type": "string" })),
        "Idempotency-Replayed": header("Only if an earlier request with the same key made the job", json!({ "type": "string", "enum": ["true"] })),
        "ETag": header("The version of what is answered", json!({ "type": "string" })),
    })
}

fn links() -> Value {
    let link = |operation: &str, parameter: &str, description: &str| {
        let parameters = json!({ parameter: "$response.body#/id" });
        json!({ "operationId": operation, "parameters": parameters, "description": description })
    };
    json!({
        "job": link("getJob", "id", "How the job stands"),
        "status": link("getResultByToken", "token", "The same, told by the status code too"),
        "result": link("getResult", "id", "What came out, as it is"),
        "cancel": link("cancelJob", "id", "To stop it"),
    })
}
