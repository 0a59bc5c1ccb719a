//! Attempts: what is charged, what is not, and which worker runs the next one.

use crunch_tests::{Stack, Stage};
use reqwest::StatusCode;
use serde_json::{Value, json};

fn outcomes(attempts: &Value) -> Vec<(u64, &str)> {
    let items = attempts["items"].as_array().unwrap();
    let number = |item: &'_ Value| item["number"].as_u64().unwrap();
    items.iter().map(|item| (number(item), item["outcome"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn a_failed_attempt_is_retried_and_recorded() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let id = api.submit_with("act", &stage.payload(), &json!({ "max_attempts": 2 })).await;
    stage.wait_for_handler().await.fails("not yet").await;
    let second = stage.wait_for_handler().await;
    assert_eq!((second.id.as_str(), second.attempt), (id.as_str(), 2));
    let running = api.wait_for_status(&id, "running").await;
    assert_eq!(running["error"], json!(null));
    second.fails("never").await;

    let job = api.wait_for_status(&id, "failed").await;
    assert_eq!((&job["attempt"], &job["error"]["message"]), (&json!(2), &json!("never")));
    assert_eq!(job["error"]["retryable"], true);
    let attempts = api.get(&format!("/jobs/{id}/attempts")).await.json();
    assert_eq!(outcomes(&attempts), [(1, "failed"), (2, "failed")]);
    assert_eq!(attempts["items"][0]["error"]["message"], "not yet");
}

#[tokio::test]
async fn a_failed_job_is_retried_by_hand_under_its_id() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    stage.wait_for_handler().await.send(&json!({ "fail_for_good": "broken" })).await;
    api.wait_for_status(&id, "failed").await;

    let retried = api.post(&format!("/jobs/{id}/retry"), &json!({})).await;
    assert_eq!(retried.status, StatusCode::ACCEPTED);
    assert_eq!(retried.json()["error"], json!(null));
    stage.wait_for_handler().await.returns(&json!("mended")).await;
    let job = api.wait_for_status(&id, "succeeded").await;
    assert_eq!((&job["result"], &job["attempt"]), (&json!("mended"), &json!(1)));
    assert_eq!(
        api.post(&format!("/jobs/{id}/retry"), &json!({})).await.status,
        StatusCode::CONFLICT
    );
}

#[tokio::test]
async fn a_dead_workers_job_runs_again_uncharged() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let lease = [("CRUNCH_LEASE_MS", "1000")];
    let mut first = stack.worker_with(&api, 1, &lease).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    let _running = stage.wait_for_handler().await;
    let second = stack.worker_with(&api, 1, &lease).await;
    first.kill().await;

    let again = stage.wait_for_handler().await;
    assert_eq!((again.pid, again.attempt), (second.pid(), 1));
    again.returns(&json!("done")).await;
    api.wait_for_status(&id, "succeeded").await;
    let attempts = api.get(&format!("/jobs/{id}/attempts")).await.json();
    assert_eq!(outcomes(&attempts), [(1, "lost"), (1, "succeeded")]);
}

#[tokio::test]
async fn a_handler_that_blocks_the_runtime_keeps_its_lease() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let lease = [("CRUNCH_LEASE_MS", "1000")];
    let _worker = stack.worker_with(&api, 4, &lease).await;

    // More than there are threads in the runtime.
    let mut hogs = Vec::new();
    for _ in 0..4 {
        hogs.push(api.submit("hog", &json!({ "for_ms": 3000 })).await);
    }

    let _other = stack.worker_with(&api, 4, &lease).await;
    for id in hogs {
        api.wait_for_status(&id, "succeeded").await;
        let attempts = api.get(&format!("/jobs/{id}/attempts")).await.json();
        assert_eq!(outcomes(&attempts), [(1, "succeeded")]);
    }
}

#[tokio::test]
async fn a_job_of_a_task_this_worker_lacks_waits_for_one_that_has_it() {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    let mut worker = stack.worker(&api, 1).await;
    let options = json!({ "queue": "echo" });
    let id = api.submit_with("no.worker.has.it", &json!({}), &options).await;

    let job = api.wait_for_job(&id, "is parked", |job| job["waiting_for"] != json!(null)).await;
    assert_eq!((&job["status"], &job["attempt"]), (&json!("queued"), &json!(0)));
    let waiting_for = json!({ "reason": "worker_with_task", "detail": "no.worker.has.it" });
    assert_eq!((&job["error"], &job["waiting_for"]), (&json!(null), &waiting_for));
    worker.wait_for_log("no code for this task on this worker").await;

    let deadline = json!({ "queue": "echo", "deadline_ms": 1000 });
    let expired = api.submit_with("no.worker.has.it", &json!({}), &deadline).await;
    let job = api.wait_for_status(&expired, "failed").await;
    assert_eq!(job["error"]["code"], "deadline_exceeded");
    let next = api.submit("echo", &json!(1)).await;
    api.wait_for_status(&next, "succeeded").await;
}
