//! Receivers that do not accept a webhook at once, and APIs that die during a delivery.

use std::time::Duration;

use crunch_common::time::Timestamp;
use crunch_tests::{Receiver, Stack, eventually};
use serde_json::{Value, json};

use super::{SECRET, SETTINGS, assert_event, stack_with, submit, wait_for_delivery};

#[tokio::test]
async fn a_delivery_is_retried_with_the_same_id_until_it_succeeds() {
    let (_stack, api, _worker) = stack_with(&[]).await;
    let receiver = Receiver::open().await;
    let id = submit(&api, &receiver).await;

    let mut ids = Vec::new();
    for status in [500, 404, 429] {
        let call = receiver.next_call().await;
        assert!(call.is_signed_by(SECRET));
        ids.push(call.header("webhook-id").to_owned());
        call.answer(status, "").await;
    }
    // The fourth call is closed without a response.
    drop(receiver.next_call().await);
    let last = receiver.next_call().await;
    assert_event(&last, "job.succeeded", &id);
    ids.push(last.header("webhook-id").to_owned());
    last.answer(202, "").await;

    ids.dedup();
    assert_eq!(ids.len(), 1);

    let delivery = wait_for_delivery(&api, &id, "succeeded").await;
    let codes: Vec<_> = delivery["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| attempt["error"]["code"].as_str().unwrap_or("none").to_owned())
        .collect();
    assert_eq!(codes, ["http_500", "http_404", "http_429", "webhook_broken", "none"]);
    assert_eq!((&delivery["attempt"], &delivery["response_status"]), (&json!(5), &json!(202)));
}

/// Any client that may submit jobs can name a receiver that accepts nothing.
#[tokio::test]
async fn a_receiver_that_refuses_every_call_does_not_fill_the_log() {
    const JOBS: usize = 50;
    let (_stack, api, _worker) = stack_with(&[("CRUNCH_WEBHOOK_DELAYS_MS", "1")]).await;
    let job = json!({ "task": "echo", "webhook": { "url": "http://127.0.0.1:1/" } });
    let batch = json!({ "jobs": vec![job; JOBS] });
    assert_eq!(api.post("/jobs/batch", &batch).await.status, 202);

    eventually("every delivery is given up", async || {
        let counts = api.get("/queues/crunch.webhooks").await.json()["counts"].take();
        (counts["failed"] == JOBS).then_some(())
    })
    .await;

    let log = api.process.log();
    let lines = log.lines().filter(|line| line.contains("webhook not delivered")).count();
    assert!((2..20).contains(&lines), "{lines} lines of {JOBS} deliveries: {log}");
}

#[tokio::test]
async fn after_the_last_attempt_a_delivery_is_a_dead_letter_and_can_be_redriven() {
    let (stack, api, _worker) = stack_with(&[("CRUNCH_WEBHOOK_DELAYS_MS", "1")]).await;
    let receiver = Receiver::open().await;
    let id = submit(&api, &receiver).await;
    for _ in 0..2 {
        receiver.next_call().await.answer(503, "").await;
    }

    let delivery = wait_for_delivery(&api, &id, "failed").await;
    assert_eq!((&delivery["response_status"], &delivery["max_attempts"]), (&json!(503), &json!(2)));

    let redriven = api.post_empty("/queues/crunch.webhooks/redrive").await;
    assert_eq!(redriven.json(), json!({ "count": 1 }));
    let call = receiver.next_call().await;
    assert_eq!(call.header("webhook-id"), delivery["id"].as_str().unwrap());
    call.answer(200, "").await;
    wait_for_delivery(&api, &id, "succeeded").await;
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_delivery_is_retried_when_nothing_listens() {
    let (_stack, api, _worker) = stack_with(&[("CRUNCH_WEBHOOK_DELAYS_MS", "1,86400000")]).await;
    let url = Receiver::open().await.url("/");
    let id = api.submit_with("echo", &json!(1), &json!({ "webhook": { "url": url } })).await;

    let delivery = eventually("two attempts have failed", async || {
        let delivery = wait_for_delivery(&api, &id, "retrying").await;
        (delivery["attempt"] == 2).then_some(delivery)
    })
    .await;

    assert_eq!(delivery["attempts"][0]["error"]["code"], "webhook_unreachable");
    assert_eq!(delivery["response_status"], json!(null));
    assert!(until_next_attempt(&delivery) > Duration::from_secs(17 * 3600), "{delivery:#}");
}

/// How long it is until the next attempt of a delivery.
fn until_next_attempt(delivery: &Value) -> Duration {
    let next: Timestamp = delivery["next_at"].as_str().unwrap().parse().unwrap();
    Timestamp::now().until(next)
}

#[tokio::test]
async fn the_retry_after_of_a_receiver_is_respected() {
    let (_stack, api, _worker) = stack_with(&[]).await;
    let receiver = Receiver::open().await;
    for (status, header, at_least) in [
        (429, "retry-after: 600\r\n", 500),
        (503, "Retry-After: 7200\r\n", 7000),
        (503, "retry-after: 999999999\r\n", 86_000),
    ] {
        let id = submit(&api, &receiver).await;
        receiver.next_call().await.answer(status, header).await;
        let delivery = wait_for_delivery(&api, &id, "retrying").await;
        let wait = until_next_attempt(&delivery).as_secs();
        assert!((at_least..=86_400).contains(&wait), "{header}: {wait}");
    }
}

#[tokio::test]
async fn a_call_that_gets_no_response_times_out() {
    let (_stack, api, _worker) = stack_with(&[("CRUNCH_WEBHOOK_DELAYS_MS", "86400000")]).await;
    let receiver = Receiver::open().await;
    let id = submit(&api, &receiver).await;
    let _unanswered = receiver.next_call().await;
    let delivery = wait_for_delivery(&api, &id, "retrying").await;
    assert_eq!(delivery["attempts"][0]["error"]["code"], "timeout");
}

#[tokio::test]
async fn a_receiver_that_answers_410_gets_no_more_deliveries_of_that_job() {
    let (_stack, api, _worker) = stack_with(&[]).await;
    let receiver = Receiver::open().await;
    let webhook = json!({ "webhook": { "url": receiver.url("/") }, "delay_ms": 3_600_000 });
    let id = api.submit_with("echo", &json!(1), &webhook).await;

    api.post_empty(&format!("/jobs/{id}/cancel")).await;
    receiver.next_call().await.answer(410, "").await;

    let delivery = wait_for_delivery(&api, &id, "failed").await;
    assert_eq!(
        (&delivery["attempts"][0]["error"]["code"], &delivery["response_status"]),
        (&json!("webhook_gone"), &json!(410))
    );

    api.post_empty(&format!("/jobs/{id}/retry")).await;
    api.wait_for_status(&id, "succeeded").await;
    assert_eq!(
        super::deliveries(&api, &id).await,
        [delivery],
        "the second end must make no delivery"
    );

    // Deliveries of other jobs to the same receiver continue.
    let other = submit(&api, &receiver).await;
    let call = receiver.next_call().await;
    assert_event(&call, "job.succeeded", &other);
    call.answer(200, "").await;
}

#[tokio::test]
async fn a_delivery_in_progress_is_repeated_when_its_api_dies() {
    let mut stack = Stack::start();
    let mut api = stack.api_with(&SETTINGS).await;
    let _worker = stack.worker(&api, 1).await;
    let receiver = Receiver::open().await;
    let id = submit(&api, &receiver).await;
    let first = receiver.next_call().await;

    api.process.kill().await;
    let other = stack.api_with(&SETTINGS).await;
    let second = receiver.next_call().await;
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
    assert_event(&second, "job.succeeded", &id);
    second.answer(200, "").await;

    let delivery = wait_for_delivery(&other, &id, "succeeded").await;
    let outcomes: Vec<_> =
        delivery["attempts"].as_array().unwrap().iter().map(|it| it["outcome"].clone()).collect();
    assert_eq!(outcomes, [json!("lost"), json!("succeeded")]);
}

#[tokio::test]
async fn an_api_that_stops_finishes_its_delivery_and_deregisters() {
    let (mut stack, mut api, _worker) = stack_with(&[]).await;
    let receiver = Receiver::open().await;
    let id = submit(&api, &receiver).await;
    let call = receiver.next_call().await;

    api.process.signal(rustix::process::Signal::TERM);
    api.process.wait_for_log("closing").await;
    call.answer(200, "").await;
    assert!(api.process.exited().await.success());

    let other = stack.api().await;
    let delivery = wait_for_delivery(&other, &id, "succeeded").await;
    assert_eq!(delivery["attempt"], 1);
    let workers = other.get("/workers").await.json();
    assert_eq!(workers["items"].as_array().unwrap().len(), 1, "{workers:#}");
}

#[tokio::test]
async fn a_delivery_that_does_not_end_in_time_is_released_uncharged() {
    let (mut stack, mut api, _worker) = stack_with(&[]).await;
    let receiver = Receiver::open().await;
    let id = submit(&api, &receiver).await;
    let first = receiver.next_call().await;

    assert!(api.process.terminate().await.success());
    let other = stack.api_with(&SETTINGS).await;
    let second = receiver.next_call().await;
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
    second.answer(200, "").await;

    let delivery = wait_for_delivery(&other, &id, "succeeded").await;
    assert_eq!(
        (&delivery["attempt"], &delivery["attempts"][0]["outcome"]),
        (&json!(1), &json!("released"))
    );
}
