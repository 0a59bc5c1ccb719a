//! Receivers that do not take a webhook at once, and APIs that die over it.

use std::time::Duration;

use crunch_common::time::Timestamp;
use crunch_tests::{Receiver, Stack, eventually};
use serde_json::{Value, json};

use super::{SECRET, SETTINGS, delivery_becomes, stack_with, submit, tells};

#[tokio::test]
async fn whatever_is_not_success_is_tried_again_with_the_same_id_until_it_is() {
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
    // One that hangs up without an answer.
    drop(receiver.next_call().await);
    let last = receiver.next_call().await;
    tells(&last, "job.succeeded", &id);
    ids.push(last.header("webhook-id").to_owned());
    last.answer(202, "").await;
    ids.dedup();
    assert_eq!(ids.len(), 1);
    let delivery = delivery_becomes(&api, &id, "succeeded").await;
    let codes: Vec<_> = delivery["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| attempt["error"]["code"].as_str().unwrap_or("none").to_owned())
        .collect();
    assert_eq!(codes, ["http_500", "http_404", "http_429", "webhook_broken", "none"]);
    assert_eq!((&delivery["attempt"], &delivery["response_status"]), (&json!(5), &json!(202)));
}

/// Whoever may submit can name a receiver that takes nothing.
#[tokio::test]
async fn a_receiver_that_takes_nothing_does_not_fill_the_log() {
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
    let delivery = delivery_becomes(&api, &id, "failed").await;
    assert_eq!((&delivery["response_status"], &delivery["max_attempts"]), (&json!(503), &json!(2)));
    let redriven = api.post_empty("/queues/crunch.webhooks/redrive").await;
    assert_eq!(redriven.json(), json!({ "count": 1 }));
    let call = receiver.next_call().await;
    assert_eq!(call.header("webhook-id"), delivery["id"].as_str().unwrap());
    call.answer(200, "").await;
    delivery_becomes(&api, &id, "succeeded").await;
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn nobody_listening_is_tried_again() {
    let (_stack, api, _worker) = stack_with(&[("CRUNCH_WEBHOOK_DELAYS_MS", "1,86400000")]).await;
    let url = Receiver::open().await.url("/");
    let id = api.submit_with("echo", &json!(1), &json!({ "webhook": { "url": url } })).await;
    let delivery = eventually("two attempts have failed", async || {
        let delivery = delivery_becomes(&api, &id, "retrying").await;
        (delivery["attempt"] == 2).then_some(delivery)
    })
    .await;
    assert_eq!(delivery["attempts"][0]["error"]["code"], "webhook_unreachable");
    assert_eq!(delivery["response_status"], json!(null));
    assert!(wait(&delivery) > Duration::from_secs(17 * 3600), "{delivery:#}");
}

/// How long a delivery waits for its next attempt, from now on.
fn wait(delivery: &Value) -> Duration {
    let next: Timestamp = delivery["next_at"].as_str().unwrap().parse().unwrap();
    Timestamp::now().until(next)
}

#[tokio::test]
async fn a_receiver_that_asks_for_time_gets_it() {
    let (_stack, api, _worker) = stack_with(&[]).await;
    let receiver = Receiver::open().await;
    for (status, header, at_least) in [
        (429, "retry-after: 600\r\n", 500),
        (503, "Retry-After: 7200\r\n", 7000),
        (503, "retry-after: 999999999\r\n", 86_000),
    ] {
        let id = submit(&api, &receiver).await;
        receiver.next_call().await.answer(status, header).await;
        let delivery = delivery_becomes(&api, &id, "retrying").await;
        let wait = wait(&delivery).as_secs();
        assert!((at_least..=86_400).contains(&wait), "{header}: {wait}");
    }
}

#[tokio::test]
async fn a_receiver_that_takes_the_call_and_never_answers_is_left_after_its_time() {
    let (_stack, api, _worker) = stack_with(&[("CRUNCH_WEBHOOK_DELAYS_MS", "86400000")]).await;
    let receiver = Receiver::open().await;
    let id = submit(&api, &receiver).await;
    let _silent = receiver.next_call().await;
    let delivery = delivery_becomes(&api, &id, "retrying").await;
    assert_eq!(delivery["attempts"][0]["error"]["code"], "timeout");
}

#[tokio::test]
async fn a_receiver_that_is_gone_hears_no_more_of_that_job() {
    let (_stack, api, _worker) = stack_with(&[]).await;
    let receiver = Receiver::open().await;
    let webhook = json!({ "webhook": { "url": receiver.url("/") }, "delay_ms": 3_600_000 });
    let id = api.submit_with("echo", &json!(1), &webhook).await;
    api.post_empty(&format!("/jobs/{id}/cancel")).await;
    receiver.next_call().await.answer(410, "").await;
    let delivery = delivery_becomes(&api, &id, "failed").await;
    assert_eq!(
        (&delivery["attempts"][0]["error"]["code"], &delivery["response_status"]),
        (&json!("webhook_gone"), &json!(410))
    );
    api.post_empty(&format!("/jobs/{id}/retry")).await;
    api.wait_for_status(&id, "succeeded").await;
    assert_eq!(super::deliveries(&api, &id).await, [delivery], "the second end makes none");
    // Another job of the same receiver is another matter.
    let other = submit(&api, &receiver).await;
    let call = receiver.next_call().await;
    tells(&call, "job.succeeded", &other);
    call.answer(200, "").await;
}

#[tokio::test]
async fn a_delivery_under_way_survives_the_death_of_its_api() {
    let mut stack = Stack::start();
    let mut doomed = stack.api_with(&SETTINGS).await;
    let _worker = stack.worker(&doomed, 1).await;
    let receiver = Receiver::open().await;
    let id = submit(&doomed, &receiver).await;
    let first = receiver.next_call().await;
    doomed.process.kill().await;
    let other = stack.api_with(&SETTINGS).await;
    let second = receiver.next_call().await;
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
    tells(&second, "job.succeeded", &id);
    second.answer(200, "").await;
    let delivery = delivery_becomes(&other, &id, "succeeded").await;
    let outcomes: Vec<_> =
        delivery["attempts"].as_array().unwrap().iter().map(|it| it["outcome"].clone()).collect();
    assert_eq!(outcomes, [json!("lost"), json!("succeeded")]);
}

#[tokio::test]
async fn an_api_that_stops_lets_a_delivery_end_and_says_goodbye() {
    let (mut stack, mut api, _worker) = stack_with(&[]).await;
    let receiver = Receiver::open().await;
    let id = submit(&api, &receiver).await;
    let call = receiver.next_call().await;
    api.process.signal(rustix::process::Signal::TERM);
    api.process.wait_for_log("closing").await;
    call.answer(200, "").await;
    assert!(api.process.exited().await.success());
    let other = stack.api().await;
    let delivery = delivery_becomes(&other, &id, "succeeded").await;
    assert_eq!(delivery["attempt"], 1);
    let workers = other.get("/workers").await.json();
    assert_eq!(workers["items"].as_array().unwrap().len(), 1, "{workers:#}");
}

#[tokio::test]
async fn a_delivery_that_does_not_end_in_time_is_given_back_uncharged() {
    let (mut stack, mut api, _worker) = stack_with(&[]).await;
    let receiver = Receiver::open().await;
    let id = submit(&api, &receiver).await;
    let held = receiver.next_call().await;
    assert!(api.process.terminate().await.success());
    let other = stack.api_with(&SETTINGS).await;
    let call = receiver.next_call().await;
    assert_eq!(held.header("webhook-id"), call.header("webhook-id"));
    call.answer(200, "").await;
    let delivery = delivery_becomes(&other, &id, "succeeded").await;
    assert_eq!(
        (&delivery["attempt"], &delivery["attempts"][0]["outcome"]),
        (&json!(1), &json!("released"))
    );
}
