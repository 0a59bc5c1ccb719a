//! Jobs that must start in time, and handlers that put their job off.

use crunch_tests::{Api, Stack, Stage};
use serde_json::{Value, json};

async fn outcomes(api: &Api, id: &str) -> Vec<String> {
    let attempts = api.get(&format!("/jobs/{id}/attempts")).await.json();
    let items = attempts["items"].as_array().unwrap().iter();
    items.map(|attempt| attempt["outcome"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_job_that_no_worker_claims_in_time_is_canceled() {
    let (stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let blocker = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;

    let mut ids = Vec::new();
    for options in [
        // Long enough for the worker to start it when it is retried, even on a busy machine.
        json!({ "start_within_ms": 5000 }),
        json!({ "start_within_ms": 300, "group": "a" }),
        json!({ "start_within_ms": 300, "queue": "nobody", "priority": "low" }),
        json!({ "start_within_ms": 1, "delay_ms": 300, "deadline_ms": 60_000 }),
    ] {
        ids.push(api.submit_with("act", &stage.payload(), &options).await);
    }
    for id in &ids {
        let job = api.wait_for_status(id, "canceled").await;
        let error = (&job["error"]["code"], &job["error"]["retryable"], &job["cancel_requested"]);
        assert_eq!(error, (&json!("expired"), &json!(false), &json!(false)), "{job}");
        assert!(!job["expires_at"].is_null(), "{job}");
        assert_eq!(outcomes(&api, id).await, [""; 0]);
    }

    actor.returns(&json!(1)).await;
    api.wait_for_status(&blocker, "succeeded").await;
    assert!(stage.is_empty().await, "no handler of an expired job was called");
    api.post(&format!("/jobs/{}/retry", ids[0]), &Value::Null).await;
    stage.wait_for_handler().await.returns(&json!(2)).await;
    assert_eq!(api.wait_for_status(&ids[0], "succeeded").await["result"], 2);
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_job_that_started_in_time_may_take_longer_and_be_retried() {
    let (stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    // The worker is ready: the next job starts at once.
    let first = api.submit("echo", &json!(1)).await;
    api.wait_for_status(&first, "succeeded").await;
    let in_time = json!({ "start_within_ms": 4000 });
    let id = api.submit_with("act", &stage.payload(), &in_time).await;
    let actor = stage.wait_for_handler().await;
    // One that must start in the same time and waits behind it expires meanwhile.
    let late = api.submit_with("act", &stage.payload(), &in_time).await;
    api.wait_for_status(&late, "canceled").await;
    assert_eq!(api.job(&id).await["status"], "running");
    actor.fails("not yet").await;
    stage.wait_for_handler().await.returns(&json!(1)).await;
    api.wait_for_status(&id, "succeeded").await;
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_handler_puts_its_job_off() {
    let (stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let options = json!({ "max_attempts": 1 });
    let id = api.submit_with("act", &stage.payload(), &options).await;
    // Long enough for the other job on a busy machine: the worker has one slot, which this one has again afterwards.
    stage.wait_for_handler().await.send(&json!({ "snooze": 6000 })).await;
    let is_put_off = |job: &Value| job["status"] == "scheduled" && job["snoozes"] == 1;
    let job = api.wait_for_job(&id, "it is put off", is_put_off).await;
    assert_eq!((&job["attempt"], &job["error"]), (&json!(0), &Value::Null), "{job}");
    assert_eq!(job["waiting_for"], json!({ "reason": "snooze", "detail": null }), "{job}");

    let other = api.submit("echo", &json!(1)).await;
    api.wait_for_status(&other, "succeeded").await;
    let actor = stage.wait_for_handler().await;
    assert_eq!(actor.attempt, 1, "an attempt that put its job off is not charged");
    actor.returns(&json!(1)).await;
    let job = api.wait_for_status(&id, "succeeded").await;
    assert_eq!((&job["snoozes"], &job["waiting_for"]), (&json!(1), &Value::Null), "{job}");
    assert_eq!(outcomes(&api, &id).await, ["snoozed", "succeeded"]);

    let deadline = json!({ "deadline_ms": 30_000 });
    let id = api.submit_with("act", &stage.payload(), &deadline).await;
    stage.wait_for_handler().await.send(&json!({ "snooze": 40_000 })).await;
    let job = api.wait_for_status(&id, "failed").await;
    assert_eq!(job["error"]["code"], "deadline_exceeded", "{job}");
    stack.assert_clean_audit().await;
}
