//! Receivers that webhooks must not reach. The unit tests of the API cover every spelling of an address; these tests
//! cover what needs a whole system.

use crunch_tests::{Receiver, Stack};
use serde_json::json;

use super::{SECRET, stack_with, submit, wait_for_delivery};
use crate::http::{assert_problem, pointers};

/// Delivers webhooks, and allows only receivers on the public internet.
const GUARDED: [(&str, &str); 2] =
    [("CRUNCH_WEBHOOK_SECRETS", SECRET), ("CRUNCH_API_UNKNOWN_TASKS", "accept")];

#[tokio::test]
async fn an_internal_address_is_refused_at_submission() {
    let mut stack = Stack::start();
    let api = stack.api_with(&GUARDED).await;
    for url in [
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://[::ffff:7f00:1]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.1/",
        "http://example.com:22/",
    ] {
        let webhook = json!({ "url": url });
        let answer = api.post("/jobs", &json!({ "task": "t", "webhook": webhook })).await;
        assert_problem(&answer, 422, "invalid-submission");
        assert_eq!(pointers(&answer.json()), ["/webhook/url"], "{url}");
        let batch = json!({ "jobs": [{ "task": "t", "webhook": webhook }] });
        let answer = api.post("/jobs/batch", &batch).await.json();
        assert_eq!(pointers(&answer["items"][0]["problem"]), ["/jobs/0/webhook/url"], "{url}");
        let answer = api.post(&format!("/crunch?webhook.url={url}"), &json!(1)).await;
        assert_problem(&answer, 400, "invalid-parameter");
    }
}

#[tokio::test]
async fn a_name_that_resolves_to_an_internal_address_is_refused_at_connect() {
    let (mut stack, open, _worker) = stack_with(&[]).await;
    let receiver = Receiver::open().await;
    // Submitted to an API that allows internal addresses, delivered by one that does not: the one that connects decides.
    open.post_empty("/queues/crunch.webhooks/pause").await;
    let url = receiver.url("/").replace("127.0.0.1", "localhost");
    let by_name = json!({ "webhook": { "url": url } });
    let by_name = open.submit_with("echo", &json!(1), &by_name).await;
    let by_address = submit(&open, &receiver).await;
    for id in [&by_name, &by_address] {
        open.wait_for_status(id, "succeeded").await;
    }

    drop(open);
    let guarded = stack.api_with(&GUARDED).await;
    guarded.post_empty("/queues/crunch.webhooks/resume").await;

    for id in [by_name, by_address] {
        let delivery = wait_for_delivery(&guarded, &id, "retrying").await;
        assert_eq!(delivery["attempts"][0]["error"]["code"], "webhook_forbidden");
    }
    assert!(receiver.has_no_call().await);
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let (_stack, api, _worker) = stack_with(&[("CRUNCH_WEBHOOK_DELAYS_MS", "86400000")]).await;
    let (receiver, inner) = (Receiver::open().await, Receiver::open().await);
    for status in [301, 302, 303, 307, 308] {
        let id = submit(&api, &receiver).await;
        let location = format!("Location: {}\r\n", inner.url("/"));
        receiver.next_call().await.answer(status, &location).await;
        let delivery = wait_for_delivery(&api, &id, "retrying").await;
        assert_eq!(delivery["response_status"], status);
    }
    assert!(inner.has_no_call().await);
}
