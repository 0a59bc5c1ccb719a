//! Processes that are killed or terminated at the worst moment. (F1–F7, F23)

use crunch_common::time::Timestamp;
use crunch_tests::{Filter, Stack, Stage, eventually};
use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::json;

use super::*;

/// How long after a worker's death its jobs run again: the lease, the interval of sweeps, and what a busy machine adds.
const RESTART_MS: u64 = LEASE_MS + 1000 + 3000;

#[tokio::test]
async fn workers_killed_repeatedly_lose_no_job() {
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
        eventually("more jobs have run", async || {
            (stack.ledger().len() as u64 > round * 2 * JOBS / 8).then_some(())
        })
        .await;
        let mut worker = workers.remove(0);
        killed.insert(worker.pid(), Timestamp::now().unix_ms());
        worker.kill().await;
        workers.push(stack.worker_process(8, &SHORT_LEASE));
    }

    wait_until_drained(&api, "square").await;
    assert_squares(&api, &ids).await;
    let entries = stack.ledger();
    for (id, runs) in runs(&entries).into_iter().filter(|(_, runs)| runs.len() > 1) {
        let outcomes = outcomes(&api, id).await;
        assert_eq!(
            outcomes.iter().filter(|outcome| *outcome == "lost").count() + 1,
            outcomes.len()
        );
        for pair in runs.windows(2) {
            let died_at = killed.get(&pair[0].pid).expect("only jobs of killed workers run again");
            assert!(
                pair[0].epoch < pair[1].epoch && pair[1].at_ms < died_at + RESTART_MS,
                "{pair:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_claim_that_its_worker_never_receives_runs_elsewhere_once() {
    let mut stack = Stack::start();
    let (api, proxy, stage) = (stack.api().await, stack.proxy(), Stage::open().await);
    let mut first = stack.worker_via(&proxy, &api, 1, &SHORT_LEASE).await;
    let stage_addr = stage.payload()["stage"].as_str().unwrap().to_owned();
    let claim = proxy.hold_reply(Filter::verb("exchange").containing(&stage_addr));
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
async fn a_worker_that_dies_before_its_result_is_in_redis_costs_that_one_run() {
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
async fn jobs_wait_while_all_workers_are_dead_and_run_once_one_starts() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let mut workers = Vec::new();
    for _ in 0..2 {
        workers.push(stack.worker_with(&api, 4, &SHORT_LEASE).await);
    }
    let ids = submit_squares(&api, 200, 200).await;
    eventually("some jobs have ended, some are running", async || {
        (stack.ledger().len() > 40).then_some(())
    })
    .await;

    for worker in &mut workers {
        worker.kill().await;
    }
    eventually("no job is running", async || {
        let counts = api.get("/queues/square").await.json()["counts"].clone();
        (counts["running"] == 0).then_some(())
    })
    .await;

    let _worker = stack.worker_with(&api, 32, &SHORT_LEASE).await;
    wait_until_drained(&api, "square").await;
    assert_squares(&api, &ids).await;
    let entries = stack.ledger();
    assert!(runs(&entries).values().all(|runs| runs.len() <= 2));
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KillPoint {
    BeforeEnqueue,
    AfterEnqueue,
    AfterResponse,
}

#[tokio::test]
async fn an_api_killed_anywhere_in_a_submission_leaves_one_job_for_a_retry() {
    let mut stack = Stack::start();
    let (other, proxy) = (stack.api().await, stack.proxy());
    let _worker = stack.worker(&other, 1).await;
    for point in [KillPoint::BeforeEnqueue, KillPoint::AfterEnqueue, KillPoint::AfterResponse] {
        let task = "echo";
        let before = count(&other, task).await;
        let mut api = stack.api_via(&proxy).await;
        Stack::wait_for_task(&api, task).await;
        let key = format!("{point:?}");
        let submit = |api: &Api| {
            let request = api.request(Method::POST, "/jobs").header("idempotency-key", &key);
            request.json(&json!({ "task": task, "payload": key }))
        };

        let hold = match point {
            KillPoint::BeforeEnqueue => proxy.hold_command(Filter::verb("enqueue")),
            KillPoint::AfterEnqueue | KillPoint::AfterResponse => {
                proxy.hold_reply(Filter::verb("enqueue"))
            }
        };
        let response = tokio::spawn(submit(&api).send());
        hold.wait_until_held().await;
        if point == KillPoint::AfterResponse {
            hold.release();
            assert_eq!(response.await.unwrap().unwrap().status(), StatusCode::ACCEPTED);
            api.process.kill().await;
        } else {
            api.process.kill().await;
            hold.drop_and_reset();
            response.await.unwrap().unwrap_err();
        }

        let again = other.send(submit(&other)).await;
        assert_eq!(again.status, StatusCode::ACCEPTED, "{again:?}");
        let replayed = again.header("idempotency-replayed") == "true";
        assert_eq!(replayed, point != KillPoint::BeforeEnqueue, "{point:?}");
        assert_eq!(other.wait_for_status(&again.id(), "succeeded").await["result"], json!(key));
        assert_eq!(count(&other, task).await, before + 1, "{point:?}");
    }
}

#[tokio::test]
async fn a_worker_killed_while_it_drains_costs_its_runs_and_no_job() {
    let mut stack = Stack::start();
    let (api, stage) = (stack.api().await, Stage::open().await);
    let mut first = stack.worker_with(&api, 1, &SHORT_LEASE).await;
    let id = api.submit("act", &stage.payload()).await;
    let _running = stage.wait_for_handler().await;

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

    // There are four heartbeats in a lease.
    let heartbeats = proxy.passed("heartbeat") + 40;
    eventually("ten leases have passed", async || {
        (proxy.passed("heartbeat") >= heartbeats).then_some(())
    })
    .await;

    actor.returns(&json!("late")).await;
    assert_eq!(api.wait_for_status(&id, "succeeded").await["result"], "late");
    assert_eq!(outcomes(&api, &id).await, ["succeeded"]);
    assert!(stage.is_empty().await);
}
