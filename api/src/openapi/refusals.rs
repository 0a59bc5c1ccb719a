//! The errors of each operation. All are problem documents, and `default` stands for those not listed; the listed ones
//! are those that a client should handle.

use serde_json::{Value, json};

const MALFORMED: (&str, &str) = ("400", "The body is not JSON, or a parameter is invalid");
const NO_BODY: (&str, &str) =
    ("400", "The request has a body, which is not accepted here, or an invalid parameter");
const UNKNOWN: (&str, &str) = ("404", "There is no such job");
const GONE: (&str, &str) = ("410", "The job was deleted, or removed early to free memory");
const TOO_LARGE: (&str, &str) = ("413", "The body is too large; `max_bytes` is the limit");
const WRONG_TYPE: (&str, &str) = ("415", "The content type of the body is not accepted");
const INVALID: (&str, &str) = ("422", "The submission is invalid; `errors` lists the places");
const UNAVAILABLE: (&str, &str) =
    ("503", "Temporarily unavailable; `Retry-After` is the time to wait");

/// Adds the errors of every operation to those it lists itself.
pub(super) fn list(document: &mut Value) {
    for (path, item) in document["paths"].as_object_mut().into_iter().flatten() {
        for (_method, operation) in item.as_object_mut().into_iter().flatten() {
            for (code, description) in expected(path, operation) {
                let responses = &mut operation["responses"];
                if responses.get(code).is_none() {
                    responses[code] = problem(description);
                }
            }
            or_problems(&mut operation["responses"]);
        }
    }
    describe_members(&mut document["components"]["schemas"]["Problem"]);
}

fn expected(path: &str, operation: &Value) -> Vec<(&'static str, &'static str)> {
    let mut expected = Vec::new();
    if path.starts_with("/jobs/{id}") || path.starts_with("/result/") {
        expected.extend([UNKNOWN, GONE]);
    }
    if operation.get("requestBody").is_some() {
        expected.extend([MALFORMED, TOO_LARGE, WRONG_TYPE, INVALID]);
    }
    if ["jobs", "tasks", "queues", "workers"].iter().any(|tag| operation["tags"][0] == *tag) {
        expected.extend([NO_BODY, UNAVAILABLE]);
    }
    expected
}

fn problem(description: &str) -> Value {
    json!({ "description": description, "content": { PROBLEM: content() } })
}

const PROBLEM: &str = "application/problem+json";

fn content() -> Value {
    json!({ "schema": { "$ref": "#/components/schemas/Problem" } })
}

/// Adds the problem document to all errors: a batch is answered item by item, or with a problem if it is not a batch.
fn or_problems(responses: &mut Value) {
    for (code, response) in responses.as_object_mut().into_iter().flatten() {
        if code.starts_with(['4', '5']) {
            response["content"][PROBLEM] = content();
        }
    }
}

/// Describes the members that only some problems have.
fn describe_members(problem: &mut Value) {
    let members = &mut problem["properties"];
    members["errors"] = json!({
        "type": "array", "items": { "$ref": "#/components/schemas/Violation" },
        "description": "Everything that is wrong with a submission.",
    });
    members["max_bytes"] = json!({ "type": "integer", "minimum": 0, "description": "The largest body that is accepted." });
    members["outcome"] = json!({
        "type": "string", "enum": ["unknown"],
        "description": "The request may have taken effect: repeat it with its idempotency key.",
    });
    members["error"] = json!({
        "oneOf": [{ "$ref": "#/components/schemas/JobError" }, { "type": "null" }],
        "description": "Why the job failed whose result was requested.",
    });
}
