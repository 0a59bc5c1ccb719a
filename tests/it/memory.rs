//! A full Redis, a full queue: submissions are refused in time, jobs drain, and the system recovers without help.

use std::collections::BTreeMap;

use crunch_tests::{Api, RedisServer, Stack, eventually};
use reqwest::StatusCode;
use serde_json::{Value, json};

/// Submits batches of large jobs until some are refused; returns the ids of those that were accepted.
async fn fill(api: &Api) -> Vec<String> {
    let mut accepted = Vec::new();
    let jobs: Vec<_> =
        (0..20).map(|_| json!({ "task": "echo", "payload": "x".repeat(100_000) })).collect();
    eventually("Redis is nearly full", async || {
        let answer = api.post("/jobs/batch", &json!({ "jobs": jobs })).await.json();
        let items = answer["items"].as_array().unwrap();
        accepted
            .extend(items.iter().filter_map(|item| Some(item["job"]["id"].as_str()?.to_owned())));
        let refused: Vec<&Value> = items.iter().filter(|item| item["status"] != 202).collect();
        assert!(
            refused.iter().all(|item| item["problem"]["type"] == "/problems/full"),
            "{refused:?}"
        );
        (!refused.is_empty()).then_some(())
    })
    .await;
    accepted
}

/// How many jobs have each status; ended jobs that were deleted to free memory count as `trimmed`.
async fn count_statuses(api: &Api, ids: &[String]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for id in ids {
        let answer = api.get(&format!("/jobs/{id}")).await;
        let status = match answer.status {
            StatusCode::GONE => answer.problem(),
            _ => answer.json()["status"].as_str().unwrap().to_owned(),
        };
        *counts.entry(status).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn a_full_redis_drains_and_accepts_jobs_again_by_itself() {
    let limits = ["--maxmemory", "24mb", "--maxmemory-policy", "noeviction"];
    let mut stack = Stack::on(RedisServer::with(&limits));
    let api = stack.api().await;
    let _worker = stack.worker(&api, 4).await;
    api.post("/queues/echo/pause", &json!({})).await;
    let mut ids = fill(&api).await;
    let refused = eventually("even a small job is refused", async || {
        let answer = api.post("/jobs", &json!({ "task": "echo" })).await;
        let accepted = answer.status == StatusCode::ACCEPTED;
        if accepted {
            ids.push(answer.id());
        }
        (!accepted).then_some(answer)
    })
    .await;
    assert_eq!(
        (refused.status, refused.problem()),
        (StatusCode::SERVICE_UNAVAILABLE, "full".to_owned())
    );
    assert_eq!(refused.header("retry-after"), "1");
    let large = json!({ "task": "echo", "payload": "x".repeat(200_000) });
    let refused = api.post("/jobs", &large).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(api.job(&ids[0]).await["status"], "queued", "reads continue");
    assert_eq!(
        api.post(&format!("/jobs/{}/cancel", ids[0]), &json!({})).await.status,
        StatusCode::OK
    );

    api.post("/queues/echo/resume", &json!({})).await;
    let last = eventually("a new job is accepted", async || {
        let answer = api.post("/jobs", &json!({ "task": "echo", "payload": 1 })).await;
        (answer.status == StatusCode::ACCEPTED).then(|| answer.id())
    })
    .await;
    eventually("every job has ended", async || {
        let counts = count_statuses(&api, &ids).await;
        let has_ended = |status: &String| ["succeeded", "trimmed", "canceled"].contains(&&**status);
        counts.keys().all(has_ended).then_some(())
    })
    .await;
    api.wait_for_status(&last, "succeeded").await;
    assert!(count_statuses(&api, &ids).await.contains_key("trimmed"), "memory was freed");
    // Nothing is left of refused jobs, not even a payload, which is sent before its job.
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_full_queue_refuses_more_until_jobs_are_claimed() {
    let mut stack = Stack::with_one_partition();
    let api = stack.api_with(&[("CRUNCH_MAX_QUEUE_DEPTH", "3")]).await;
    let _worker = stack.worker(&api, 1).await;
    api.post("/queues/echo/pause", &json!({})).await;
    let jobs = vec![json!({ "task": "echo" }); 5];
    let batch = api.post("/jobs/batch", &json!({ "jobs": jobs })).await.json();
    let codes: Vec<_> =
        batch["items"].as_array().unwrap().iter().map(|item| &item["status"]).collect();
    assert_eq!(codes, [202, 202, 202, 503, 503]);
    let delayed = api.post("/jobs", &json!({ "task": "echo", "delay_ms": 1000 })).await;
    assert_eq!(
        (delayed.status, delayed.problem()),
        (StatusCode::SERVICE_UNAVAILABLE, "queue-full".to_owned())
    );
    assert_eq!(delayed.header("retry-after"), "1");

    api.post("/queues/echo/resume", &json!({})).await;
    eventually("there is room again", async || {
        let answer = api.post("/jobs", &json!({ "task": "echo" })).await;
        (answer.status == StatusCode::ACCEPTED).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_repeated_submission_finds_its_job_in_a_full_queue() {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_MAX_QUEUE_DEPTH", "1")]).await;
    let _worker = stack.worker(&api, 1).await;
    api.post("/queues/echo/pause", &json!({})).await;
    let body = json!({ "task": "echo", "idempotency_key": "one" });
    let first = api.post("/jobs", &body).await;
    let again = api.post("/jobs", &body).await;
    assert_eq!((again.status, again.id()), (StatusCode::ACCEPTED, first.id()));
}
