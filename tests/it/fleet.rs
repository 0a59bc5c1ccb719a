//! Many workers and APIs on one Redis: every job runs once, and no job is lost after a crash.

use std::collections::HashMap;

use crunch_tests::{Api, Entry, Moment, Stack, Worker, eventually};
use futures_util::{StreamExt, stream};
use reqwest::StatusCode;
use serde_json::{Value, json};

const JOBS: u64 = 10_000;
const BATCH: u64 = 500;

/// Four workers and two APIs.
async fn fleet(lease: &[(&str, &str)]) -> (Stack, [Api; 2], Vec<Worker>) {
    let mut stack = Stack::start();
    let apis = [stack.api().await, stack.api().await];
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(stack.worker_with(&apis[0], 8, lease).await);
    }
    Stack::wait_for_task(&apis[1], "square").await;
    (stack, apis, workers)
}

/// Submits all jobs in batches, in turn by each API; returns the ids by their number.
async fn submit(apis: &[Api; 2], busy_ms: u64) -> Vec<String> {
    let mut ids = Vec::new();
    for (batch, api) in (0..JOBS / BATCH).zip(apis.iter().cycle()) {
        let numbers = batch * BATCH..(batch + 1) * BATCH;
        let jobs: Vec<_> = numbers
            .map(|n| json!({ "task": "square", "payload": { "n": n, "busy_ms": busy_ms } }))
            .collect();
        let answer = api.post("/jobs/batch", &json!({ "jobs": jobs })).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        let answer = answer.json();
        let items = answer["items"].as_array().unwrap().iter();
        ids.extend(items.map(|item| item["job"]["id"].as_str().unwrap().to_owned()));
    }
    ids
}

/// Waits until nothing waits or runs any more.
async fn wait_until_drained(api: &Api) {
    eventually("the queue is drained", async || {
        let counts = api.get("/queues/square").await.json()["counts"].clone();
        let remaining = ["queued", "scheduled", "retrying", "running"]
            .iter()
            .filter_map(|name| counts[name].as_u64());
        (remaining.sum::<u64>() == 0).then_some(())
    })
    .await;
}

/// Reads every job from one of the APIs and checks its result.
async fn assert_results(apis: &[Api; 2], ids: &[String]) {
    let read = stream::iter(ids.iter().zip((0_u64..).zip(apis.iter().cycle())));
    read.for_each_concurrent(16, async |(id, (n, api))| {
        let job = api.job(id).await;
        let expected: (Value, Value) = (json!("succeeded"), json!({ "square": n * n }));
        assert_eq!((&job["status"], &job["result"]), (&expected.0, &expected.1), "{job}");
    })
    .await;
}

fn starts(entries: &[Entry]) -> HashMap<&str, Vec<&Entry>> {
    let mut starts: HashMap<_, Vec<_>> = HashMap::new();
    for entry in entries.iter().filter(|entry| entry.moment == Moment::Start) {
        starts.entry(entry.id.as_str()).or_default().push(entry);
    }
    starts
}

#[tokio::test]
async fn a_fleet_runs_ten_thousand_jobs_once_each() {
    let (stack, apis, _workers) = fleet(&[]).await;
    let ids = submit(&apis, 0).await;
    wait_until_drained(&apis[0]).await;
    assert_results(&apis, &ids).await;

    let entries = stack.ledger();
    let starts = starts(&entries);
    assert_eq!(starts.len(), ids.len());
    let twice: Vec<_> = starts.iter().filter(|(_, runs)| runs.len() > 1).collect();
    assert!(twice.is_empty(), "ran more than once: {twice:?}");
    let mut pids: Vec<_> = entries.iter().map(|entry| entry.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 4, "every worker has run jobs");
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_worker_killed_half_way_loses_no_job_and_explains_every_second_run() {
    let (stack, apis, mut workers) = fleet(&[("CRUNCH_LEASE_MS", "1000")]).await;
    let ids = submit(&apis, 2).await;
    eventually("half of the jobs have run", async || {
        (stack.ledger().len() as u64 > JOBS).then_some(())
    })
    .await;
    let killed = workers[0].pid();
    workers[0].kill().await;
    wait_until_drained(&apis[0]).await;
    assert_results(&apis, &ids).await;

    let entries = stack.ledger();
    let starts = starts(&entries);
    assert_eq!(starts.len(), ids.len());
    for (id, runs) in starts.into_iter().filter(|(_, runs)| runs.len() > 1) {
        assert_eq!(runs.len(), 2, "{runs:?}");
        assert_eq!(runs[0].pid, killed, "{runs:?}");
        assert!(runs[0].epoch < runs[1].epoch, "{runs:?}");
        let attempts = apis[1].get(&format!("/jobs/{id}/attempts")).await.json();
        assert_eq!(attempts["items"][0]["outcome"], "lost", "{attempts}");
    }
    stack.assert_clean_audit().await;
}
