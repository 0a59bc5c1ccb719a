//! Which refusals to expect where. All are problem documents, and `default` stands for those that are not listed; these are
//! the ones that a client is to be ready for.

use serde_json::{Value, json};

const MALFORMED: (&str, &str) =
    ("400", "The body is not JSON, or a parameter cannot be understood");
const NO_BODY: (&str, &str) =
    ("400", "There is a body, which is not taken here, or a parameter that cannot be understood");
const UNKNOWN: (&str, &str) = ("404", "There is no such job");
const GONE: (&str, &str) = ("410", "The job was deleted, or forgotten to make room");
const TOO_LARGE: (&str, &str) = ("413", "The body is too large; `max_bytes` says what is taken");
const WRONG_TYPE: (&str, &str) = ("415", "The body is not of a type that is taken");
const UNFIT: (&str, &str) = ("422", "The submission does not fit; `errors` says where");
const AWAY: (&str, &str) = ("503", "Not right now; `Retry-After` says when to ask again");

/// Lists the refusals of every operation, beside those it lists itself.
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
        expected.extend([MALFORMED, TOO_LARGE, WRONG_TYPE, UNFIT]);
    }
    if ["jobs", "tasks", "queues", "workers"].iter().any(|tag| operation["tags"][0] == *tag) {
        expected.extend([NO_BODY, AWAY]);
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

/// What is answered to a batch is told item by item, or by a problem if it is none.
fn or_problems(responses: &mut Value) {
    for (code, response) in responses.as_object_mut().into_iter().flatten() {
        if code.starts_with(['4', '5']) {
            response["content"][PROBLEM] = content();
        }
    }
}

/// The members that some problems have beside those of all.
fn describe_members(problem: &mut Value) {
    let members = &mut problem["properties"];
    members["errors"] = json!({
        "type": "array", "items": { "$ref": "#/components/schemas/Violation" },
        "description": "Everything that is wrong with a submission.",
    });
    members["max_bytes"] =
        json!({ "type": "integer", "minimum": 0, "description": "How large a body may be." });
    members["outcome"] = json!({
        "type": "string", "enum": ["unknown"],
        "description": "The request may have taken effect: repeat it with its idempotency key.",
    });
    members["error"] = json!({
        "oneOf": [{ "$ref": "#/components/schemas/JobError" }, { "type": "null" }],
        "description": "Why the job failed whose result was asked for.",
    });
}
