//! The fault matrix: one test a row of `docs/reliability.md`, grouped by what breaks.
//!
//! Leases are short, so that what takes ten seconds in production takes one here; each test has its own Redis.

mod builds;
mod clients;
mod clocks;
mod deploys;
mod disks;
mod load;
mod network;
mod poison;
mod processes;
mod races;
mod redis_server;
mod replicas;
mod replies;
mod reports;
mod slow_lines;
mod stale;

use std::collections::HashMap;

use crunch_tests::{Api, Entry, Moment, eventually};
use reqwest::StatusCode;
use serde_json::{Value, json};

pub(crate) use stale::job;

/// The shortest lease that the configuration allows.
const LEASE_MS: u64 = 1000;
const SHORT_LEASE: [(&str, &str); 1] = [("CRUNCH_LEASE_MS", "1000")];
/// The shortest one that also survives an outage too short for sweeps to detect, on a machine with other load.
const SAFE_LEASE: [(&str, &str); 1] = [("CRUNCH_LEASE_MS", "4000")];

/// How each attempt of a job ended, the oldest first.
async fn outcomes(api: &Api, id: &str) -> Vec<String> {
    let attempts = api.get(&format!("/jobs/{id}/attempts")).await.json();
    let items = attempts["items"].as_array().unwrap().iter();
    items.map(|item| item["outcome"].as_str().unwrap().to_owned()).collect()
}

/// Submits jobs of the task `square`, numbered from 0, each busy for this long; returns their ids.
async fn submit_squares(api: &Api, count: u64, busy_ms: u64) -> Vec<String> {
    let mut ids = Vec::new();
    for first in (0..count).step_by(500) {
        let jobs: Vec<_> = (first..count.min(first + 500))
            .map(|n| json!({ "task": "square", "payload": { "n": n, "busy_ms": busy_ms } }))
            .collect();
        let answer = api.post("/jobs/batch", &json!({ "jobs": jobs })).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        let items = answer.json()["items"].as_array().unwrap().clone();
        ids.extend(items.iter().map(|item| item["job"]["id"].as_str().unwrap().to_owned()));
    }
    ids
}

/// Waits until no job is waiting or running in a queue.
async fn wait_until_drained(api: &Api, queue: &str) {
    eventually("the queue is drained", async || {
        let answer = api.get(&format!("/queues/{queue}")).await;
        let counts = &answer.json()["counts"];
        let unfinished = ["queued", "scheduled", "retrying", "running"];
        let unfinished = unfinished.iter().map(|name| counts[name].as_u64()).sum::<Option<u64>>();
        (unfinished == Some(0)).then_some(())
    })
    .await;
}

/// Asserts that every job succeeded with the right square.
async fn assert_squares(api: &Api, ids: &[String]) {
    for (n, id) in (0_u64..).zip(ids) {
        let job = api.job(id).await;
        let actual = (&job["status"], &job["result"]);
        assert_eq!(actual, (&json!("succeeded"), &json!({ "square": n * n })), "{job}");
    }
}

/// The runs of each job, as the handlers recorded them.
fn runs(entries: &[Entry]) -> HashMap<&str, Vec<&Entry>> {
    let mut runs: HashMap<_, Vec<_>> = HashMap::new();
    for entry in entries.iter().filter(|entry| entry.moment == Moment::Start) {
        runs.entry(entry.id.as_str()).or_default().push(entry);
    }
    runs
}

/// How many jobs of a task there are, in any status.
async fn count(api: &Api, task: &str) -> usize {
    let page = api.get(&format!("/jobs?task={task}&limit=100")).await.json();
    assert_eq!(page["next_cursor"], Value::Null, "more than a page");
    page["items"].as_array().unwrap().len()
}
