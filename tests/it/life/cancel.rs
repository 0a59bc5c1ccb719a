//! Cancel, delete, pause, and the timeout of a handler that ignores it.

use std::time::Duration;

use crunch_tests::{DropMode, Filter, Stack, Stage};
use reqwest::{Method, StatusCode};
use serde_json::json;

#[tokio::test]
async fn a_running_job_is_asked_to_stop_and_ends_canceled() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    let mut actor = stage.wait_for_handler().await;

    let cancel = api.post(&format!("/jobs/{id}/cancel"), &json!({})).await;
    assert_eq!(
        (cancel.status, &cancel.json()["cancel_requested"]),
        (StatusCode::ACCEPTED, &json!(true))
    );

    actor.wait_for_stop_request().await;
    let job = api.wait_for_status(&id, "canceled").await;
    assert_eq!(job["error"]["code"], "canceled");
    assert_eq!(api.post(&format!("/jobs/{id}/cancel"), &json!({})).await.status, StatusCode::OK);
    let result = api.get(&format!("/jobs/{id}/result")).await;
    assert_eq!(
        (result.status, result.problem()),
        (StatusCode::CONFLICT, "job-canceled".to_owned())
    );
}

#[tokio::test]
async fn a_cancel_arrives_although_its_connection_was_dropped_silently() {
    let mut stack = Stack::start();
    let (api, proxy, stage) = (stack.api().await, stack.proxy(), Stage::open().await);
    // Replies to heartbeats report cancels too, so they are dropped below; with this lease the worker keeps its job
    // without them.
    let worker = stack.worker_via(&proxy, &api, 1, &[("CRUNCH_LEASE_MS", "600000")]).await;
    let id = api.submit("act", &stage.payload()).await;
    let mut actor = stage.wait_for_handler().await;

    proxy.drop_commands(Filter::verb("heartbeat"), u64::MAX, DropMode::Reset);
    proxy.stall_open_connections();
    let cancel_repeatedly = async {
        loop {
            api.post_empty(&format!("/jobs/{id}/cancel")).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };

    tokio::select! {
        () = actor.wait_for_stop_request() => {}
        () = cancel_repeatedly => {}
    }
    drop(worker);
}

#[tokio::test]
async fn a_waiting_job_that_is_canceled_never_runs() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let blocker = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    let waiting = api.submit("act", &stage.payload()).await;
    let later = api.submit_with("act", &stage.payload(), &json!({ "delay_ms": 3_600_000 })).await;

    for id in [&waiting, &later] {
        let cancel = api.post(&format!("/jobs/{id}/cancel"), &json!({})).await;
        assert_eq!((cancel.status, &cancel.json()["status"]), (StatusCode::OK, &json!("canceled")));
    }

    let last = api.submit("act", &stage.payload()).await;
    actor.returns(&json!(null)).await;
    // If the canceled job ran, it would run before the last one.
    assert_eq!(stage.wait_for_handler().await.id, last);
    api.wait_for_status(&blocker, "succeeded").await;
    assert_eq!(api.job(&waiting).await["started_at"], json!(null));
}

#[tokio::test]
async fn a_finished_job_can_be_deleted_but_not_canceled() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    let early = api.send(api.request(Method::DELETE, &format!("/jobs/{id}"))).await;
    assert_eq!(
        (early.status, early.problem()),
        (StatusCode::CONFLICT, "job-not-finished".to_owned())
    );
    actor.returns(&json!(1)).await;
    api.wait_for_status(&id, "succeeded").await;

    let cancel = api.post(&format!("/jobs/{id}/cancel"), &json!({})).await;
    assert_eq!(
        (cancel.status, cancel.problem()),
        (StatusCode::CONFLICT, "job-finished".to_owned())
    );
    let deleted = api.send(api.request(Method::DELETE, &format!("/jobs/{id}"))).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    for path in ["", "/result", "/payload", "/attempts"] {
        let deleted = api.get(&format!("/jobs/{id}{path}")).await;
        assert_eq!(
            (deleted.status, deleted.problem()),
            (StatusCode::GONE, "gone".to_owned()),
            "{path}"
        );
    }
    assert_eq!(api.get(&format!("/result/{id}")).await.status, StatusCode::GONE);
}

#[tokio::test]
async fn jobs_of_a_paused_queue_are_not_claimed_until_it_is_resumed() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let paused = api.post("/queues/echo/pause", &json!({})).await;
    assert_eq!((paused.status, &paused.json()["paused"]), (StatusCode::OK, &json!(true)));

    let id = api.submit("echo", &json!(1)).await;
    // Once a job of another queue has run, the worker has claimed after the submission.
    let other = api.submit("crunch", &json!({ "photons": 1 })).await;
    api.wait_for_status(&other, "succeeded").await;
    assert_eq!(api.job(&id).await["status"], "queued");
    assert_eq!(api.get("/queues/echo").await.json()["counts"]["queued"], 1);

    api.post("/queues/echo/resume", &json!({})).await;
    api.wait_for_status(&id, "succeeded").await;
}

#[tokio::test]
async fn a_handler_that_ignores_its_timeout_is_dropped_and_its_job_fails() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let options = json!({ "timeout_ms": 200, "max_attempts": 1 });
    let id = api.submit_with("act", &stage.payload(), &options).await;
    let mut actor = stage.wait_for_handler().await;
    actor.send(&json!({ "ignore": null })).await;

    let job = api.wait_for_status(&id, "failed").await;
    assert_eq!(job["error"]["code"], "timeout");
    // An async handler that ignores the request to stop is dropped after the grace period.
    actor.wait_until_ended().await;
}

#[tokio::test]
async fn a_cancel_that_cannot_be_published_arrives_with_the_next_heartbeat() {
    let mut stack = Stack::on_one_node();
    let api = stack.api().await;
    let _worker = stack.worker_with(&api, 1, &[("CRUNCH_LEASE_MS", "2000")]).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    let mut actor = stage.wait_for_handler().await;

    // From here on no client may publish or subscribe.
    let mut redis = stack.redis.connect().await;
    let mut forbid = redis::cmd("ACL");
    forbid.arg("SETUSER").arg("default").arg("resetchannels");
    let () = forbid.query_async(&mut redis).await.unwrap();

    let cancel = api.post(&format!("/jobs/{id}/cancel"), &json!({})).await;
    assert_eq!(cancel.status, StatusCode::ACCEPTED);
    actor.wait_for_stop_request().await;
    api.wait_for_status(&id, "canceled").await;
}
