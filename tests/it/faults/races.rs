//! Concurrent commands on one job: the first in Redis wins, and no state is inconsistent. (F26)

use crunch_tests::{Api, Stack, eventually};
use futures_util::future::join_all;
use futures_util::join;
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::*;

async fn delete(api: &Api, id: &str) -> StatusCode {
    api.send(api.request(Method::DELETE, &format!("/jobs/{id}"))).await.status
}

/// Asserts that all jobs have ended, and that no list or set contains a live one.
async fn assert_nothing_is_left(stack: &Stack, api: &Api, queue: &str) {
    wait_until_drained(api, queue).await;
    for node in stack.redis.all() {
        let mut redis = node.connect().await;
        eventually("no list or set contains a live job", async || {
            // An empty list or set does not exist.
            for end in ["ready:*", "running", "delayed", "ghosts"] {
                let mut keys = redis::cmd("KEYS");
                keys.arg(format!("crunch:{{*}}:queue:{queue}:{end}"));
                let found: Vec<String> = keys.query_async(&mut redis).await.unwrap();
                if !found.is_empty() {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_cancel_that_races_the_end_has_one_winner() {
    let (stack, api, _worker) = Stack::simple(8).await;
    let race = async |n: u64| {
        let payload = json!({ "n": n, "busy_ms": n % 4 });
        let id = api.submit("square", &payload).await;
        let cancel = api.post(&format!("/jobs/{id}/cancel"), &json!({})).await;
        let job = api.wait_for_job(&id, "ended", |job| !job["finished_at"].is_null()).await;
        match cancel.status {
            StatusCode::OK => assert_eq!(job["status"], "canceled"),
            StatusCode::CONFLICT => assert_eq!(job["status"], "succeeded"),
            // Requested while it ran: the handler may have been faster.
            StatusCode::ACCEPTED => assert!(job["status"] != "failed", "{job}"),
            other => panic!("{other}"),
        }
        // What has ended does not change.
        assert_eq!(api.job(&id).await["status"], job["status"]);
    };

    for round in 0..20 {
        join_all((0..20).map(|n| race(round * 20 + n))).await;
    }
    assert_nothing_is_left(&stack, &api, "square").await;
}

#[tokio::test]
async fn a_delete_that_races_a_retry_leaves_a_job_or_a_tombstone() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let _worker = stack.worker_with(&api, 8, &SHORT_LEASE).await;
    let race = async |n: u64| {
        let id = api.submit("square", &json!({ "n": n, "busy_ms": n % 3 })).await;
        api.post(&format!("/jobs/{id}/cancel"), &json!({})).await;
        let path = format!("/jobs/{id}/retry");
        let body = json!({});
        let (deleted, retried) = join!(delete(&api, &id), api.post(&path, &body));
        let job = eventually("the job has ended or is deleted", async || {
            let answer = api.get(&format!("/jobs/{id}")).await;
            match answer.status {
                StatusCode::GONE => Some(None),
                _ => (!answer.json()["finished_at"].is_null()).then(|| Some(answer.json())),
            }
        })
        .await;
        match (deleted, job) {
            (StatusCode::NO_CONTENT, job) => assert!(job.is_none(), "{job:?} after {retried:?}"),
            (StatusCode::CONFLICT, job) => assert!(job.is_some(), "after {retried:?}"),
            (other, _) => panic!("{other}"),
        }
    };

    for round in 0..20 {
        join_all((0..20).map(|n| race(round * 20 + n))).await;
    }
    assert_nothing_is_left(&stack, &api, "square").await;
}

#[tokio::test]
async fn manual_retries_that_race_each_other_and_the_sweep_cause_one_run() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let other = stack.api().await;
    let _worker = stack.worker_with(&api, 8, &SHORT_LEASE).await;
    let race = async |n: u64| {
        let id =
            api.submit_with("square", &json!({ "n": n }), &json!({ "delay_ms": 60_000 })).await;
        assert_eq!(
            api.post(&format!("/jobs/{id}/cancel"), &json!({})).await.status,
            StatusCode::OK
        );
        let retry = |n: usize| {
            let api = if n.is_multiple_of(2) { &api } else { &other };
            let path = format!("/jobs/{id}/retry");
            async move { api.post(&path, &json!({})).await.status }
        };
        let statuses = join_all((0..6).map(retry)).await;
        assert_eq!(statuses.iter().filter(|status| **status == StatusCode::ACCEPTED).count(), 1);
        api.wait_for_status(&id, "succeeded").await;
        id
    };

    let mut ids = Vec::new();
    for round in 0..10 {
        ids.extend(join_all((0..20).map(|n| race(round * 20 + n))).await);
    }

    assert_nothing_is_left(&stack, &api, "square").await;
    let entries = stack.ledger();
    let runs = runs(&entries);
    assert!(ids.iter().all(|id| runs[id.as_str()].len() == 1), "a job ran twice");
}
