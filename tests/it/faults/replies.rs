//! Replies that get lost after Redis did what it was asked: everything may be asked again. (F13)

use crunch_tests::{DropMode, Proxy, Stack, Stage, Filter, eventually};
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::*;

/// Waits until the proxy has lost as many replies as it was told to.
pub(super) async fn lost(proxy: &Proxy, count: u64) {
    eventually("the replies are lost", async || (proxy.dropped() >= count).then_some(())).await;
}

#[tokio::test]
async fn a_submission_whose_reply_is_lost_is_one_job() {
    let mut stack = Stack::start();
    let proxy = stack.proxy();
    let api = stack.api_via(&proxy).await;
    let _worker = stack.worker(&api, 1).await;
    proxy.drop_replies(Filter::verb("enqueue"), 3, DropMode::Reset);
    let id = api.submit("echo", &json!(1)).await;
    lost(&proxy, 3).await;
    api.wait_for_status(&id, "succeeded").await;
    assert_eq!(count(&api, "echo").await, 1);
}

#[tokio::test]
async fn a_submission_of_unknown_outcome_is_one_job_when_asked_again() {
    let mut stack = Stack::start();
    let proxy = stack.proxy();
    let api = stack.api_via(&proxy).await;
    let _worker = stack.worker(&api, 1).await;
    proxy.drop_replies(Filter::verb("enqueue"), 1, DropMode::Silence);
    let submit = || {
        let request = api.request(Method::POST, "/jobs").header("idempotency-key", "once");
        api.send(request.json(&json!({ "task": "echo", "payload": 1 })))
    };
    let first = submit().await;
    assert_eq!(first.status, StatusCode::SERVICE_UNAVAILABLE, "{first:?}");
    assert_eq!((&first.json()["outcome"], first.header("retry-after")), (&json!("unknown"), "1"));
    let second = submit().await;
    assert_eq!(second.status, StatusCode::ACCEPTED, "{second:?}");
    assert_eq!(second.header("idempotency-replayed"), "true");
    api.wait_for_status(&second.id(), "succeeded").await;
    assert_eq!(count(&api, "echo").await, 1);
}

/// The reply that hands a job out gets lost; the job runs once, on the very worker it was given to, and at once.
async fn a_claim_is_heard_of_the_second_time(loss: DropMode) {
    let mut stack = Stack::start();
    let (api, proxy, stage) = (stack.api().await, stack.proxy(), Stage::open().await);
    let worker = stack.worker_via(&proxy, &api, 1, &[]).await;
    let here = stage.payload()["stage"].as_str().unwrap().to_owned();
    proxy.drop_replies(Filter::verb("exchange").containing(&here), 1, loss);
    let id = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    lost(&proxy, 1).await;
    assert_eq!(actor.pid, worker.pid());
    actor.returns(&json!("done")).await;
    api.wait_for_status(&id, "succeeded").await;
    assert_eq!(outcomes(&api, &id).await, ["succeeded"]);
    assert!(stage.is_empty().await);
}

#[tokio::test]
async fn a_claim_whose_reply_is_reset_runs_all_the_same() {
    a_claim_is_heard_of_the_second_time(DropMode::Reset).await;
}

#[tokio::test]
async fn a_claim_whose_reply_never_comes_runs_all_the_same() {
    a_claim_is_heard_of_the_second_time(DropMode::Silence).await;
}

#[tokio::test]
async fn a_settlement_whose_replies_are_lost_counts_once() {
    for loss in [DropMode::Reset, DropMode::Silence] {
        let mut stack = Stack::start();
        let (api, proxy, stage) = (stack.api().await, stack.proxy(), Stage::open().await);
        let worker = stack.worker_via(&proxy, &api, 1, &[]).await;
        let id = api.submit("act", &stage.payload()).await;
        let actor = stage.wait_for_handler().await;
        proxy.drop_replies(Filter::verb("exchange").containing(&id), 2, loss);
        actor.returns(&json!("once")).await;
        lost(&proxy, 2).await;
        assert_eq!(api.wait_for_status(&id, "succeeded").await["result"], "once");
        let next = api.submit("echo", &json!(1)).await;
        api.wait_for_status(&next, "succeeded").await;
        assert_eq!(outcomes(&api, &id).await, ["succeeded"]);
        assert!(stage.is_empty().await && !worker.log().contains("stale"));
    }
}

#[tokio::test]
async fn beats_whose_replies_are_lost_still_hold_the_lease() {
    let mut stack = Stack::start();
    let (api, proxy, stage) = (stack.api().await, stack.proxy(), Stage::open().await);
    let _worker = stack.worker_via(&proxy, &api, 1, &SHORT_LEASE).await;
    let id = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    proxy.drop_replies(Filter::verb("heartbeat"), 12, DropMode::Reset);
    lost(&proxy, 12).await;
    let heard = proxy.passed("heartbeat");
    eventually("a beat is heard", async || (proxy.passed("heartbeat") > heard).then_some(())).await;
    actor.returns(&json!(1)).await;
    api.wait_for_status(&id, "succeeded").await;
    assert_eq!(outcomes(&api, &id).await, ["succeeded"]);
}

#[tokio::test]
async fn a_cancel_whose_reply_is_lost_is_one_cancel() {
    let mut stack = Stack::start();
    let proxy = stack.proxy();
    let api = stack.api_via(&proxy).await;
    let (_worker, stage) = (stack.worker(&api, 1).await, Stage::open().await);
    let running = api.submit("act", &stage.payload()).await;
    let mut actor = stage.wait_for_handler().await;
    let waiting = api.submit("act", &stage.payload()).await;
    for id in [&waiting, &running] {
        proxy.drop_replies(Filter::verb("cancel"), 1, DropMode::Reset);
        let unheard = api.post(&format!("/jobs/{id}/cancel"), &json!({})).await;
        assert_eq!(unheard.status, StatusCode::SERVICE_UNAVAILABLE, "{unheard:?}");
        let again = api.post(&format!("/jobs/{id}/cancel"), &json!({})).await;
        assert!(again.status.is_success(), "{again:?}");
    }
    actor.wait_for_stop_request().await;
    for id in [&waiting, &running] {
        api.wait_for_status(id, "canceled").await;
    }
}
