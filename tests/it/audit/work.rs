//! Repeated audits of a busy system find nothing, while jobs are in every state.

use std::sync::atomic::{AtomicBool, Ordering};

use crunch_common::broker::Library;
use crunch_tests::{Api, Stack, Stage, eventually};
use serde_json::json;

const PRIORITIES: [&str; 4] = ["low", "normal", "high", "urgent"];

/// How many audits in a row.
const AUDITS: usize = 6;

/// Submits jobs of each kind, and cancels, retries, deletes and redrives some.
async fn use_everything(api: &Api, round: usize) {
    let jobs: Vec<_> = (0..50)
        .map(|n| {
            json!({ "task": "square", "payload": { "n": n, "busy_ms": n % 5 },
            "priority": PRIORITIES[n % 4] })
        })
        .collect();
    let batch = api.post("/jobs/batch", &json!({ "jobs": jobs })).await.json();

    api.submit_with("echo", &json!(round), &json!({ "delay_ms": 20 })).await;
    api.submit_with("echo", &json!(round), &json!({ "delay_ms": 60_000 })).await;
    // No test listens on that stage, so the job fails, and is tried again.
    api.submit("act", &json!({ "stage": "127.0.0.1:1" })).await;
    let request = api.request(reqwest::Method::POST, "/jobs").json(&json!({ "task": "echo" }));
    api.send(request.header("Idempotency-Key", format!("round-{round}"))).await;

    let retried = api.submit("hog", &json!({ "for_ms": 0 })).await;
    api.post(&format!("/jobs/{retried}/cancel"), &json!({})).await;
    api.post(&format!("/jobs/{retried}/retry"), &json!({})).await;

    let deleted = api.submit("hog", &json!({ "for_ms": 0 })).await;
    api.post(&format!("/jobs/{deleted}/cancel"), &json!({})).await;
    api.send(api.request(reqwest::Method::DELETE, &format!("/jobs/{deleted}"))).await;
    api.submit("hog", &json!({})).await;
    api.post("/queues/hog/redrive", &json!({})).await;
    // Waits, so that jobs are not submitted faster than they run.
    api.wait_for_status(batch["items"][49]["job"]["id"].as_str().unwrap(), "succeeded").await;
}

#[tokio::test]
async fn audits_of_a_busy_system_find_nothing() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let workers = [stack.worker(&api, 4).await, stack.worker(&api, 4).await];
    let stage = Stage::open().await;
    api.submit("act", &stage.payload()).await;
    let mut actor = stage.wait_for_handler().await;
    actor.send(&json!({ "log": "on stage" })).await;

    let audits_are_done = AtomicBool::new(false);
    let broker = stack.redis.broker("crunch", Library::shipped());
    let auditing = async {
        let mut jobs = 0;
        for _ in 0..AUDITS {
            let audit = broker.audit(|_| ()).await.unwrap();
            assert!(audit.is_clean(), "{:#?}", audit.findings);
            assert_eq!(audit.undecided, 0);
            jobs = audit.jobs;
        }
        audits_are_done.store(true, Ordering::Relaxed);
        jobs
    };

    let working = async {
        let mut round = 0;
        while !audits_are_done.load(Ordering::Relaxed) {
            use_everything(&api, round).await;
            round += 1;
        }
        round
    };

    let (jobs, rounds) = tokio::join!(auditing, working);
    assert!(jobs > 50, "{jobs} jobs in {rounds} rounds");

    actor.returns(&json!(null)).await;
    eventually("everything has run", async || {
        let counts = api.get("/queues/square").await.json()["counts"].clone();
        (counts["queued"] == 0 && counts["running"] == 0).then_some(())
    })
    .await;
    drop(workers);
    stack.assert_clean_audit().await;
}
