//! Describes the messages to webhooks, per Standard Webhooks 1.0.

use serde_json::{Value, json};

/// The events, and when each is sent.
const EVENTS: [(&str, &str, &str); 3] = [
    ("job.succeeded", "onJobSucceeded", "A job has succeeded"),
    ("job.failed", "onJobFailed", "A job has failed, and will not be retried"),
    ("job.canceled", "onJobCanceled", "A job was canceled"),
];

/// Describes the requests to receivers, and their answers.
pub(super) fn describe(document: &mut Value) {
    document["components"]["schemas"]["JobEvent"] = event();
    for (kind, id, summary) in EVENTS {
        document["webhooks"][kind]["post"] = json!({
            "operationId": id,
            "summary": summary,
            "tags": ["webhooks"],
            // The signature authenticates the sender.
            "security": [],
            "description": "Sent to the `webhook` of a submission. The same event may arrive more than once, with the same `webhook-id`.",
            "parameters": parameters(),
            "requestBody": {
                "required": true,
                "content": { "application/json": { "schema": { "$ref": "#/components/schemas/JobEvent" } } },
            },
            "responses": {
                "2XX": { "description": "Received. After any other status the message is sent again, with growing delays" },
                "410": { "description": "The receiver wants no more messages about this job" },
            },
        });
    }
}

fn event() -> Value {
    let kinds: Vec<_> = EVENTS.iter().map(|(kind, _, _)| kind).collect();
    json!({
        "type": "object",
        "description": "The end of a job.",
        "required": ["type", "timestamp", "data"],
        "properties": {
            "type": { "type": "string", "enum": kinds },
            "timestamp": { "type": "string", "format": "date-time", "description": "When the job ended." },
            "data": { "$ref": "#/components/schemas/Job" },
        },
    })
}

fn parameters() -> Value {
    let header = |name: &str, description: &str, schema: Value| json!({ "name": name, "in": "header", "required": true, "description": description, "schema": schema });
    json!([
        header(
            "webhook-id",
            "The id of the event, the same each time it is sent",
            json!({ "type": "string" })
        ),
        header(
            "webhook-timestamp",
            "When this was sent, in Unix seconds",
            json!({ "type": "integer" })
        ),
        header(
            "webhook-signature",
            "One or more signatures, separated by spaces: `v1,` and the Base64 of an HMAC-SHA256 of id, timestamp and body, joined by dots",
            json!({ "type": "string" }),
        ),
    ])
}
