//! The contract with HTTP clients: codes, headers, documents and the order of checks, on the wire.

mod action_log;
mod actions;
mod acts;
mod batch;
mod bodies;
mod browsers;
mod envelope;
mod errors;
mod events;
mod groups;
mod history;
mod idempotency;
pub(crate) mod keys;
mod lines;
mod lists;
mod names;
mod openapi;
mod outages;
mod pages;
mod parameters;
mod protocol;
mod queue_limits;
mod rates;
mod reads;
mod routes;
mod schedules;
mod schemas;
mod search;
mod shared_limits;
mod shutdown;
mod slow;
mod submit;
mod sums;
mod system;
mod tickets;
mod tls;
mod unique;
mod unknown_tasks;
mod unused_bodies;
mod waiting;
mod workers;

use crunch_tests::{Answer, Api, Stack};
use serde_json::Value;

/// An API without workers that accepts jobs of any task.
async fn api_without_workers() -> (Stack, Api) {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    (stack, api)
}

/// Checks that an answer is a complete problem document of that type, and that its page exists; returns the document.
async fn expect_problem(api: &Api, answer: &Answer, status: u16, slug: &str) -> Value {
    assert_problem(answer, status, slug);
    let page = api.get(&format!("/problems/{slug}")).await;
    assert_eq!(
        (page.status.as_u16(), page.header("content-type")),
        (200, "text/html; charset=utf-8")
    );
    answer.json()
}

/// The same without a request for the page.
pub(crate) fn assert_problem(answer: &Answer, status: u16, slug: &str) {
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (status, slug), "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(!answer.header("x-request-id").is_empty());
    assert_eq!(answer.header("retry-after"), if status == 503 { "1" } else { "" });
    let problem = answer.json();
    assert_eq!(problem["status"], status);
    assert!(problem["instance"].as_str().unwrap().starts_with('/'), "{problem}");
    let text = std::str::from_utf8(&answer.body).unwrap();
    let positions: Vec<_> = ["type", "title", "status", "detail", "instance"]
        .iter()
        .map(|member| text.find(&format!("\"{member}\":")).unwrap())
        .collect();
    assert!(positions.is_sorted(), "{text}");
}

/// The pointers of a 422.
pub(crate) fn pointers(problem: &Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().into_iter().flatten();
    errors.map(|error| error["pointer"].as_str().unwrap()).collect()
}
