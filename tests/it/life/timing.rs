//! Delays, timeouts, deadlines, and which jobs start first.

use crunch_tests::{Stack, Stage};
use serde_json::json;

#[tokio::test]
async fn an_attempt_over_its_timeout_is_stopped_and_retried() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let options = json!({ "timeout_ms": 100, "max_attempts": 2 });
    let id = api.submit_with("act", &stage.payload(), &options).await;
    stage.wait_for_handler().await.wait_for_stop_request().await;
    let second = stage.wait_for_handler().await;
    assert_eq!(second.attempt, 2);
    second.returns(&json!("in time")).await;
    assert_eq!(api.wait_for_status(&id, "succeeded").await["result"], "in time");
}

#[tokio::test]
async fn a_job_past_its_deadline_is_not_run() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let blocker = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    let id = api.submit_with("act", &stage.payload(), &json!({ "deadline_ms": 1 })).await;
    api.wait_for_job(&id, "queued", |job| job["status"] == "queued").await;

    actor.returns(&json!(null)).await;
    let job = api.wait_for_status(&id, "failed").await;
    assert_eq!(job["error"]["code"], "deadline_exceeded");
    api.wait_for_status(&blocker, "succeeded").await;
}

#[tokio::test]
async fn a_delayed_job_starts_at_its_time_and_not_before() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let id = api.submit_with("echo", &json!(1), &json!({ "delay_ms": 500 })).await;
    assert_eq!(api.job(&id).await["status"], "scheduled");
    let job = api.wait_for_status(&id, "succeeded").await;
    let ms = |name: &str| {
        let time = job[name].as_str().unwrap();
        time.parse::<crunch_common::time::Timestamp>().unwrap().unix_ms()
    };
    assert_eq!(ms("run_at") - ms("created_at"), 500);
    assert!(ms("started_at") >= ms("run_at"), "{job}");
}

#[tokio::test]
async fn a_batch_starts_on_every_idle_worker_at_once() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(stack.worker(&api, 1).await);
    }
    let stage = Stage::open().await;

    let jobs: Vec<_> =
        (0..4).map(|_| json!({ "task": "act", "payload": stage.payload() })).collect();
    let batch = api.post("/jobs/batch", &json!({ "jobs": jobs })).await;
    assert_eq!(batch.json()["items"].as_array().unwrap().len(), 4);

    // All four run before any of them may end.
    let mut actors = Vec::new();
    for _ in 0..4 {
        actors.push(stage.wait_for_handler().await);
    }

    let mut pids: Vec<_> = actors.iter().map(|actor| actor.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 4);
    for actor in actors {
        actor.returns(&json!(null)).await;
    }
}

#[tokio::test]
async fn a_higher_priority_goes_first() {
    let (_stack, api, _worker) = Stack::with_one_partition().with_api_and_worker(1).await;
    let stage = Stage::open().await;
    api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;

    let mut ids = Vec::new();
    for priority in ["low", "normal", "urgent", "high"] {
        ids.push(api.submit_with("act", &stage.payload(), &json!({ "priority": priority })).await);
    }

    actor.returns(&json!(null)).await;
    for at in [2, 3, 1, 0] {
        let actor = stage.wait_for_handler().await;
        assert_eq!(actor.id, ids[at]);
        actor.returns(&json!(null)).await;
    }
}
