//! What is sent to a webhook, per Standard Webhooks 1.0.

use serde_json::{Value, json};

/// The events, and when each is sent.
const EVENTS: [(&str, &str, &str); 3] = [
    ("job.succeeded", "onJobSucceeded", "A job has succeeded"),
    ("job.failed", "onJobFailed", "A job has failed, and will not be tried again"),
    ("job.canceled", "onJobCanceled", "A job was canceled"),
];

/// Describes what receivers get and what they may answer.
pub(super) fn describe(document: &mut Value) {
    document["components"]["schemas"]["JobEvent"] = event();
    for (kind, id, summary) in EVENTS {
        document["webhooks"][kind]["post"] = json!({
            "operationId": id,
            "summary": summary,
            "tags": ["webhooks"],
            // Who sent it, the signature tells.
            "security": [],
            "description": "Sent to the `webhook` of a submission. The same event may come more than once: `webhook-id` stays the same.",
            "parameters": parameters(),
            "requestBody": {
                "required": true,
                "content": { "application/json": { "schema": { "$ref": "#/components/schemas/JobEvent" } } },
            },
            "responses": {
                "2XX": { "description": "Heard. Anything else is sent again, with growing delays" },
                "410": { "description": "Nothing more is to be sent" },
            },
        });
    }
}

fn event() -> Value {
    let kinds: Vec<_> = EVENTS.iter().map(|(kind, _, _)| kind).collect();
    json!({
        "type": "object",
        "description": "What happened to a job.",
        "required": ["type", "timestamp", "data"],
        "properties": {
            "type": { "type": "string", "enum": kinds },
            "timestamp": { "type": "string", "format": "date-time", "description": "When it happened." },
            "data": { "$ref": "#/components/schemas/Job" },
        },
    })
}

fn parameters() -> Value {
    let header = |name: &str, description: &str, schema: Value| json!({ "name": name, "in": "header", "required": true, "description": description, "schema": schema });
    json!([
        header(
            "webhook-id",
            "The event's id, the same however often it is sent",
            json!({ "type": "string" })
        ),
        header(
            "webhook-timestamp",
            "When this was sent, in Unix seconds",
            json!({ "type": "integer" })
        ),
        header(
            "webhook-signature",
            "One or more signatures, separated by spaces: `v1,` and the Base64 of an HMAC-SHA256 of id, timestamp and body, joined by points",
            json!({ "type": "string" }),
        ),
    ])
}
