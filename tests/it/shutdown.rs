//! SIGTERM, and a second one.

use crunch_tests::{Stack, Stage};
use serde_json::json;

#[tokio::test]
async fn a_terminated_worker_finishes_its_jobs_and_claims_no_more() {
    let (_stack, api, mut worker) = Stack::simple(2).await;
    let stage = Stage::open().await;
    let running = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;

    worker.signal(rustix::process::Signal::TERM);
    worker.wait_for_log("shutting down").await;
    let waiting = api.submit("act", &stage.payload()).await;
    actor.returns(&json!("done")).await;
    assert_eq!(worker.exited().await.code(), Some(0));
    assert_eq!(api.wait_for_status(&running, "succeeded").await["result"], "done");
    assert_eq!(api.job(&waiting).await["status"], "queued");
    assert!(stage.is_empty().await);
    let workers = api.get("/workers").await.json();

    assert_eq!(workers["items"], json!([]), "the worker has unregistered");
}

#[tokio::test]
async fn a_job_that_outlasts_the_grace_period_is_released_uncharged() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let mut first = stack.worker_with(&api, 1, &[("CRUNCH_WORKER_GRACE_MS", "0")]).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    let mut actor = stage.wait_for_handler().await;
    let second = stack.worker(&api, 1).await;

    first.signal(rustix::process::Signal::TERM);
    actor.wait_for_stop_request().await;
    assert_eq!(first.exited().await.code(), Some(0));
    let again = stage.wait_for_handler().await;
    assert_eq!((again.pid, again.attempt), (second.pid(), 1));
    again.returns(&json!(null)).await;
    let attempts = {
        api.wait_for_status(&id, "succeeded").await;
        api.get(&format!("/jobs/{id}/attempts")).await.json()
    };

    assert_eq!(attempts["items"][0]["outcome"], "released");
    assert_eq!(api.job(&id).await["attempt"], 1);
}

#[tokio::test]
async fn a_second_signal_does_not_wait_for_the_grace() {
    let (_stack, api, mut worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    let mut actor = stage.wait_for_handler().await;
    worker.signal(rustix::process::Signal::TERM);
    worker.wait_for_log("shutting down").await;
    worker.signal(rustix::process::Signal::TERM);
    actor.wait_for_stop_request().await;
    assert_eq!(worker.exited().await.code(), Some(0));
    assert_eq!(api.job(&id).await["status"], "queued");
}

#[tokio::test]
async fn a_worker_without_redis_still_shuts_down() {
    let (mut stack, api, mut worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    stack.redis.kill();
    actor.returns(&json!(null)).await;
    worker.wait_for_log("cannot reach Redis, retrying").await;
    worker.signal(rustix::process::Signal::TERM);
    worker.wait_for_log("shutting down").await;
    worker.signal(rustix::process::Signal::TERM);
    assert_eq!(worker.exited().await.code(), Some(0));
}

#[tokio::test]
async fn an_idle_worker_without_redis_does_not_wait_for_the_grace() {
    let (mut stack, _api, mut worker) = Stack::simple(1).await;
    stack.redis.kill();
    worker.wait_for_log("cannot reach Redis, retrying").await;
    worker.signal(rustix::process::Signal::TERM);
    worker.wait_for_log("shutting down").await;
    assert_eq!(worker.exited().await.code(), Some(0));
    assert!(!worker.log().contains("releasing jobs"), "{}", worker.log());
}
