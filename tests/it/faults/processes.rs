//! Processes that die, or are asked to, at the worst moment. (F1–F7, F23)

use crunch_common::time::Timestamp;
use crunch_tests::{Stack, Stage, Filter, eventually};
use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::json;

use super::*;

/// How long after its death a worker's jobs run again: the lease, the sweep's second, and what a busy machine adds.
const RESTART_MS: u64 = LEASE_MS + 1000 + 3000;

#[tokio::test]
async fn workers_killed_again_and_again_cost_no_job() {
    const JOBS: u64 = 3000;
    let mut stack = Stack::start();
    let api = stack.api().await;
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(stack.worker_with(&api, 8, &SHORT_LEASE).await);
    }
    let ids = submit_squares(&api, JOBS, 10).await;
    let mut killed = HashMap::new();
    for round in 1..=6 {
        eventually("the jobs get on", async || {
            (stack.ledger().len() as u64 > round * 2 * JOBS / 8).then_some(())
        })
        .await;
        let mut victim = workers.remove(0);
        killed.insert(victim.pid(), Timestamp::now().unix_ms());
        victim.kill().await;
        workers.push(stack.worker_process(8, &SHORT_LEASE));
    }
    drained(&api, "square").await;
    every_square_is_right(&api, &ids).await;
    let entries = stack.ledger();
    for (id, runs) in runs(&entries).into_iter().filter(|(_, runs)| runs.len() > 1) {
        let lost = outcomes(&api, id).await;
        assert_eq!(lost.iter().filter(|outcome| *outcome == "lost").count() + 1, lost.len());
        for pair in runs.windows(2) {
            let died = killed.get(&pair[0].pid).expect("only the dead are replaced");
            assert!(pair[0].epoch < pair[1].epoch && pair[1].at_ms < died + RESTART_MS, "{pair:?}");
        }
    }
}

#[tokio::test]
async fn a_claim_that_its_worker_never_hears_of_runs_elsewhere_once() {
    let mut stack = Stack::start();
    let (api, proxy, stage) = (stack.api().await, stack.proxy(), Stage::open().await);
    let mut first = stack.worker_via(&proxy, &api, 1, &SHORT_LEASE).await;
    let here = stage.payload()["stage"].as_str().unwrap().to_owned();
    let claim = proxy.hold_reply(Filter::verb("exchange").containing(&here));
    let id = api.submit("act", &stage.payload()).await;
    claim.wait_until_held().await;
    first.kill().await;
    claim.drop_and_reset();
    let second = stack.worker_with(&api, 1, &SHORT_LEASE).await;
    let actor = stage.wait_for_handler().await;
    assert_eq!((actor.pid, actor.attempt), (second.pid(), 1));
    actor.returns(&json!("done")).await;
    api.wait_for_status(&id, "succeeded").await;
    let outcomes = outcomes(&api, &id).await;
    assert!(matches!(outcomes[0].as_str(), "lost" | "unheard"), "{outcomes:?}");
    assert_eq!(outcomes.len(), 2);
}

#[tokio::test]
async fn a_worker_that_dies_with_a_result_in_its_hands_costs_that_one_run() {
    let mut stack = Stack::start();
    let (api, proxy, stage) = (stack.api().await, stack.proxy(), Stage::open().await);
    let mut first = stack.worker_via(&proxy, &api, 1, &SHORT_LEASE).await;
    let id = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    let settlement = proxy.hold_command(Filter::verb("exchange").containing(&id));
    actor.returns(&json!("first")).await;
    settlement.wait_until_held().await;
    first.kill().await;
    settlement.drop_and_reset();
    let _second = stack.worker_with(&api, 1, &SHORT_LEASE).await;
    stage.wait_for_handler().await.returns(&json!("second")).await;
    assert_eq!(api.wait_for_status(&id, "succeeded").await["result"], "second");
    assert_eq!(outcomes(&api, &id).await, ["lost", "succeeded"]);
}

#[tokio::test]
async fn a_worker_that_dies_when_its_result_is_in_redis_costs_nothing() {
    let mut stack = Stack::start();
    let (api, proxy, stage) = (stack.api().await, stack.proxy(), Stage::open().await);
    let mut first = stack.worker_via(&proxy, &api, 1, &SHORT_LEASE).await;
    let id = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    let settlement = proxy.hold_reply(Filter::verb("exchange").containing(&id));
    actor.returns(&json!("first")).await;
    settlement.wait_until_held().await;
    first.kill().await;
    assert_eq!(api.wait_for_status(&id, "succeeded").await["result"], "first");
    let _second = stack.worker_with(&api, 1, &SHORT_LEASE).await;
    let next = api.submit("echo", &json!(1)).await;
    api.wait_for_status(&next, "succeeded").await;
    assert_eq!(outcomes(&api, &id).await, ["succeeded"]);
    assert!(stage.is_empty().await);
}

#[tokio::test]
async fn jobs_wait_for_a_fleet_that_is_gone_and_run_when_it_is_back() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let mut workers = Vec::new();
    for _ in 0..2 {
        workers.push(stack.worker_with(&api, 4, &SHORT_LEASE).await);
    }
    let ids = submit_squares(&api, 200, 200).await;
    eventually("some are done, some run", async || (stack.ledger().len() > 40).then_some(())).await;
    for worker in &mut workers {
        worker.kill().await;
    }
    eventually("everything waits again", async || {
        let counts = api.get("/queues/square").await.json()["counts"].clone();
        (counts["running"] == 0).then_some(())
    })
    .await;
    let _worker = stack.worker_with(&api, 32, &SHORT_LEASE).await;
    drained(&api, "square").await;
    every_square_is_right(&api, &ids).await;
    let entries = stack.ledger();
    assert!(runs(&entries).values().all(|runs| runs.len() <= 2));
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dies {
    BeforeEnqueue,
    AfterEnqueue,
    AfterTheAnswer,
}

#[tokio::test]
async fn an_api_killed_anywhere_in_a_submission_leaves_one_job_for_a_retry() {
    let mut stack = Stack::start();
    let (other, proxy) = (stack.api().await, stack.proxy());
    let _worker = stack.worker(&other, 1).await;
    for dies in [Dies::BeforeEnqueue, Dies::AfterEnqueue, Dies::AfterTheAnswer] {
        let task = "echo";
        let before = count(&other, task).await;
        let mut api = stack.api_via(&proxy).await;
        Stack::wait_for_task(&api, task).await;
        let key = format!("{dies:?}");
        let submit = |api: &Api| {
            let request = api.request(Method::POST, "/jobs").header("idempotency-key", &key);
            request.json(&json!({ "task": task, "payload": key }))
        };
        let hold = match dies {
            Dies::BeforeEnqueue => proxy.hold_command(Filter::verb("enqueue")),
            Dies::AfterEnqueue | Dies::AfterTheAnswer => proxy.hold_reply(Filter::verb("enqueue")),
        };
        let asked = tokio::spawn(submit(&api).send());
        hold.wait_until_held().await;
        if dies == Dies::AfterTheAnswer {
            hold.release();
            assert_eq!(asked.await.unwrap().unwrap().status(), StatusCode::ACCEPTED);
            api.process.kill().await;
        } else {
            api.process.kill().await;
            hold.drop_and_reset();
            asked.await.unwrap().unwrap_err();
        }
        let again = other.send(submit(&other)).await;
        assert_eq!(again.status, StatusCode::ACCEPTED, "{again:?}");
        let replayed = again.header("idempotency-replayed") == "true";
        assert_eq!(replayed, dies != Dies::BeforeEnqueue, "{dies:?}");
        assert_eq!(other.wait_for_status(&again.id(), "succeeded").await["result"], json!(key));
        assert_eq!(count(&other, task).await, before + 1, "{dies:?}");
    }
}

#[tokio::test]
async fn a_worker_killed_while_it_drains_costs_its_runs_and_no_job() {
    let mut stack = Stack::start();
    let (api, stage) = (stack.api().await, Stage::open().await);
    let mut first = stack.worker_with(&api, 1, &SHORT_LEASE).await;
    let id = api.submit("act", &stage.payload()).await;
    let _held = stage.wait_for_handler().await;
    first.signal(Signal::TERM);
    first.wait_for_log("shutting down").await;
    first.kill().await;
    let second = stack.worker_with(&api, 1, &SHORT_LEASE).await;
    let again = stage.wait_for_handler().await;
    assert_eq!((again.pid, again.attempt), (second.pid(), 1));
    again.returns(&json!("done")).await;
    api.wait_for_status(&id, "succeeded").await;
    assert_eq!(outcomes(&api, &id).await, ["lost", "succeeded"]);
}

#[tokio::test]
async fn a_handler_may_take_ten_leases() {
    let mut stack = Stack::start();
    let (api, proxy, stage) = (stack.api().await, stack.proxy(), Stage::open().await);
    let _worker = stack.worker_via(&proxy, &api, 1, &SHORT_LEASE).await;
    let _idle = stack.worker_with(&api, 1, &SHORT_LEASE).await;
    let id = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    // Beats come four times a lease.
    let beats = proxy.passed("heartbeat") + 40;
    eventually("ten leases are over", async || (proxy.passed("heartbeat") >= beats).then_some(()))
        .await;
    actor.returns(&json!("late")).await;
    assert_eq!(api.wait_for_status(&id, "succeeded").await["result"], "late");
    assert_eq!(outcomes(&api, &id).await, ["succeeded"]);
    assert!(stage.is_empty().await);
}
