//! Replies that are lost after Redis has executed the command: every command may be sent again. (F13)

use crunch_tests::{DropMode, Filter, Proxy, Stack, Stage, eventually};
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::*;

/// Waits until the proxy has dropped this many commands and replies.
pub(super) async fn wait_until_dropped(proxy: &Proxy, count: u64) {
    eventually("the proxy has dropped them", async || (proxy.dropped() >= count).then_some(()))
        .await;
}

#[tokio::test]
async fn a_submission_whose_reply_is_lost_is_one_job() {
    let mut stack = Stack::start();
    let proxy = stack.proxy();
    let api = stack.api_via(&proxy).await;
    let _worker = stack.worker(&api, 1).await;
    proxy.drop_replies(Filter::verb("enqueue"), 3, DropMode::Reset);
    let id = api.submit("echo", &json!(1)).await;
    wait_until_dropped(&proxy, 3).await;
    api.wait_for_status(&id, "succeeded").await;
    assert_eq!(count(&api, "echo").await, 1);
}

#[tokio::test]
async fn a_submission_of_unknown_outcome_is_one_job_when_submitted_again() {
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

/// Drops the reply with a claim; the job runs once, on the worker that claimed it, and without a delay.
async fn claim_runs_once_after_a_lost_reply(mode: DropMode) {
    let mut stack = Stack::start();
    let (api, proxy, stage) = (stack.api().await, stack.proxy(), Stage::open().await);
    let worker = stack.worker_via(&proxy, &api, 1, &[]).await;
    let stage_addr = stage.payload()["stage"].as_str().unwrap().to_owned();
    proxy.drop_replies(Filter::verb("exchange").containing(&stage_addr), 1, mode);

    let id = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    wait_until_dropped(&proxy, 1).await;

    assert_eq!(actor.pid, worker.pid());
    actor.returns(&json!("done")).await;
    api.wait_for_status(&id, "succeeded").await;
    // In a cluster the slots are for other partitions meanwhile, and a claim that finds none is handed back before it
    // runs.
    let mut outcomes = outcomes(&api, &id).await;
    outcomes.retain(|outcome| !stack.redis.is_node() || outcome != "released");
    assert_eq!(outcomes, ["succeeded"]);
    assert!(stage.is_empty().await);
}

#[tokio::test]
async fn a_claim_whose_reply_is_reset_still_runs_once() {
    claim_runs_once_after_a_lost_reply(DropMode::Reset).await;
}

#[tokio::test]
async fn a_claim_whose_reply_never_arrives_still_runs_once() {
    claim_runs_once_after_a_lost_reply(DropMode::Silence).await;
}

#[tokio::test]
async fn a_settlement_whose_replies_are_lost_counts_once() {
    for mode in [DropMode::Reset, DropMode::Silence] {
        let mut stack = Stack::start();
        let (api, proxy, stage) = (stack.api().await, stack.proxy(), Stage::open().await);
        let worker = stack.worker_via(&proxy, &api, 1, &[]).await;
        let id = api.submit("act", &stage.payload()).await;
        let actor = stage.wait_for_handler().await;
        proxy.drop_replies(Filter::verb("exchange").containing(&id), 2, mode);

        actor.returns(&json!("once")).await;
        wait_until_dropped(&proxy, 2).await;

        assert_eq!(api.wait_for_status(&id, "succeeded").await["result"], "once");
        let next = api.submit("echo", &json!(1)).await;
        api.wait_for_status(&next, "succeeded").await;
        assert_eq!(outcomes(&api, &id).await, ["succeeded"]);
        assert!(stage.is_empty().await && !worker.log().contains("stale"));
    }
}

#[tokio::test]
async fn heartbeats_whose_replies_are_lost_still_extend_the_lease() {
    let mut stack = Stack::start();
    let (api, proxy, stage) = (stack.api().await, stack.proxy(), Stage::open().await);
    let _worker = stack.worker_via(&proxy, &api, 1, &SHORT_LEASE).await;
    let id = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;

    proxy.drop_replies(Filter::verb("heartbeat"), 12, DropMode::Reset);
    wait_until_dropped(&proxy, 12).await;
    let passed = proxy.passed("heartbeat");
    eventually("a heartbeat gets its reply", async || {
        (proxy.passed("heartbeat") > passed).then_some(())
    })
    .await;

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
        let first = api.post(&format!("/jobs/{id}/cancel"), &json!({})).await;
        assert_eq!(first.status, StatusCode::SERVICE_UNAVAILABLE, "{first:?}");
        let again = api.post(&format!("/jobs/{id}/cancel"), &json!({})).await;
        assert!(again.status.is_success(), "{again:?}");
    }

    actor.wait_for_stop_request().await;
    for id in [&waiting, &running] {
        api.wait_for_status(id, "canceled").await;
    }
}
