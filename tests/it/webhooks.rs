//! Webhooks: the ends of jobs, delivered to receivers over HTTP.

mod attempts;
mod deliveries;
mod guard;
mod health;
mod settings;
mod submit;

use crunch_tests::{Api, Call, Receiver, Stack, Worker, eventually};
use serde_json::{Value, json};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What an API needs to deliver to a receiver of a test, and to retry at once.
pub(crate) const SETTINGS: [(&str, &str); 3] = [
    ("CRUNCH_WEBHOOK_SECRETS", SECRET),
    ("CRUNCH_WEBHOOK_ALLOW", "127.0.0.0/8"),
    ("CRUNCH_WEBHOOK_DELAYS_MS", "1,1,1,1"),
];

/// Starts a stack whose API delivers webhooks, with further environment.
async fn stack_with(settings: &[(&str, &str)]) -> (Stack, Api, Worker) {
    let mut stack = Stack::start();
    let all: Vec<_> = SETTINGS.iter().chain(settings).copied().collect();
    let api = stack.api_with(&all).await;
    let worker = stack.worker(&api, 2).await;
    (stack, api, worker)
}

/// Submits a job that succeeds at once, with a webhook to this receiver.
async fn submit(api: &Api, receiver: &Receiver) -> String {
    api.submit_with("echo", &json!(7), &json!({ "webhook": { "url": receiver.url("/") } })).await
}

/// The deliveries of a job.
async fn deliveries(api: &Api, id: &str) -> Vec<Value> {
    let answer = api.get(&format!("/jobs/{id}/deliveries")).await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, "no-store"));
    answer.json()["items"].as_array().unwrap().clone()
}

/// Waits until the newest delivery of a job has this status; returns it.
async fn wait_for_delivery(api: &Api, id: &str, status: &str) -> Value {
    eventually(&format!("the delivery of {id} is {status}"), async || {
        deliveries(api, id).await.pop().filter(|delivery| delivery["status"] == status)
    })
    .await
}

/// Asserts that a call reports this event of this job.
fn assert_event(call: &Call, event: &str, id: &str) {
    let message = call.json();
    assert_eq!((&message["type"], &message["data"]["id"]), (&json!(event), &json!(id)));
}
