//! Cancel, retry, delete, attempts: every row of the table, from every status.

use crunch_tests::{Answer, Api, Stack, Stage};
use reqwest::Method;
use serde_json::json;

use super::expect_problem;

async fn delete(api: &Api, id: &str) -> Answer {
    api.send(api.request(Method::DELETE, &format!("/jobs/{id}"))).await
}

/// Checks the job document of an answer to a cancel or retry.
fn assert_job(answer: &Answer, code: u16, status: &str, cancel_requested: bool) {
    let job = answer.json();
    let seen = (
        answer.status.as_u16(),
        job["status"].as_str().unwrap(),
        job["cancel_requested"].as_bool().unwrap(),
    );
    assert_eq!(seen, (code, status, cancel_requested), "{job}");
    assert_eq!((answer.header("cache-control"), job.as_object().unwrap().len()), ("no-store", 31));
    let ended = ["succeeded", "failed", "canceled"].contains(&status);
    assert_eq!(answer.header("retry-after"), if ended { "" } else { "1" });
}

#[tokio::test]
async fn a_waiting_job_is_canceled_retried_and_deleted() {
    let (_stack, api) = super::api_without_workers().await;

    for options in [json!({}), json!({ "delay_ms": 3_600_000 })] {
        let id = api.submit_with("t", &json!(1), &options).await;
        let (cancel, retry) = (format!("/jobs/{id}/cancel"), format!("/jobs/{id}/retry"));
        expect_problem(&api, &api.post_empty(&retry).await, 409, "job-not-retryable").await;
        expect_problem(&api, &delete(&api, &id).await, 409, "job-not-finished").await;
        assert_job(&api.post_empty(&cancel).await, 200, "canceled", true);
        assert_job(&api.post_empty(&cancel).await, 200, "canceled", true);
        let retried = api.post_empty(&retry).await;
        assert_job(&retried, 202, "queued", false);
        assert_eq!((retried.id(), &retried.json()["error"]), (id.clone(), &json!(null)));
        expect_problem(&api, &api.post_empty(&retry).await, 409, "job-not-retryable").await;
        assert_job(&api.post_empty(&cancel).await, 200, "canceled", true);
        let deleted = delete(&api, &id).await;
        assert_eq!((deleted.status.as_u16(), deleted.body.len()), (204, 0));
        assert_gone(&api, &id).await;
    }
}

/// Every request about a deleted job gets the same problem.
async fn assert_gone(api: &Api, id: &str) {
    for (method, path) in [
        ("GET", "/result/{}"),
        ("GET", "/jobs/{}"),
        ("GET", "/jobs/{}/result"),
        ("GET", "/jobs/{}/payload"),
        ("GET", "/jobs/{}/attempts"),
        ("GET", "/jobs/{}/deliveries"),
        ("POST", "/jobs/{}/cancel"),
        ("POST", "/jobs/{}/retry"),
        ("DELETE", "/jobs/{}"),
    ] {
        let request = api.request(method.parse().unwrap(), &path.replace("{}", id));
        expect_problem(api, &api.send(request).await, 410, "gone").await;
    }
}

#[tokio::test]
async fn a_running_job_may_be_canceled_repeatedly() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    let mut actor = stage.wait_for_handler().await;

    actor.send(&json!({ "ignore": null })).await;
    expect_problem(
        &api,
        &api.post_empty(&format!("/jobs/{id}/retry")).await,
        409,
        "job-not-retryable",
    )
    .await;
    expect_problem(&api, &delete(&api, &id).await, 409, "job-not-finished").await;
    for _ in 0..2 {
        assert_job(&api.post_empty(&format!("/jobs/{id}/cancel")).await, 202, "running", true);
    }
    actor.returns(&json!("anyway")).await;
    // Whichever of the two reached Redis first determines the status: the cancel did.
    api.wait_for_status(&id, "canceled").await;
}

#[tokio::test]
async fn an_ended_job_is_not_canceled_and_only_a_failed_one_is_retried() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let succeeded = api.submit("act", &stage.payload()).await;
    stage.wait_for_handler().await.returns(&json!(1)).await;
    api.wait_for_status(&succeeded, "succeeded").await;
    let failed = api.submit_with("act", &stage.payload(), &json!({ "max_attempts": 1 })).await;
    stage.wait_for_handler().await.fails("broken").await;
    api.wait_for_status(&failed, "failed").await;

    for id in [&succeeded, &failed] {
        expect_problem(
            &api,
            &api.post_empty(&format!("/jobs/{id}/cancel")).await,
            409,
            "job-finished",
        )
        .await;
    }
    expect_problem(
        &api,
        &api.post_empty(&format!("/jobs/{succeeded}/retry")).await,
        409,
        "job-not-retryable",
    )
    .await;
    let retried = api.post_empty(&format!("/jobs/{failed}/retry")).await;
    assert_eq!((retried.status.as_u16(), retried.id()), (202, failed.clone()));
    stage.wait_for_handler().await.returns(&json!(2)).await;
    api.wait_for_status(&failed, "succeeded").await;
    for id in [&succeeded, &failed] {
        assert_eq!(delete(&api, id).await.status.as_u16(), 204);
        assert_gone(&api, id).await;
    }
}

#[tokio::test]
async fn the_last_ten_attempts_are_listed_oldest_first() {
    let (_stack, api, worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let id = api.submit_with("act", &stage.payload(), &json!({ "max_attempts": 1 })).await;
    let path = format!("/jobs/{id}/attempts");

    assert!(api.get(&path).await.json()["items"].is_array());
    for run in 1..=12 {
        let actor = stage.wait_for_handler().await;
        assert_eq!(actor.pid, worker.pid());
        actor.fails(&format!("run {run}")).await;
        api.wait_for_status(&id, "failed").await;
        api.post_empty(&format!("/jobs/{id}/retry")).await;
    }
    let actor = stage.wait_for_handler().await;
    api.wait_for_status(&id, "running").await;
    let attempts = api.get(&path).await;
    assert_eq!((attempts.status.as_u16(), attempts.header("cache-control")), (200, "no-store"));
    let attempts = attempts.json()["items"].as_array().unwrap().clone();
    let messages: Vec<_> =
        attempts.iter().map(|it| it["error"]["message"].as_str().unwrap_or("none")).collect();
    assert_eq!(messages[..2], ["run 4", "run 5"]);
    assert_eq!((messages.len(), messages[9]), (10, "none"));
    let last = &attempts[9];
    let members: Vec<_> = last.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = ["error", "finished_at", "host", "number", "outcome", "started_at", "worker"];
    assert_eq!(members, expected);
    // The worker's own report of its host is gone when the worker is; this is part of its id.
    let host =
        api.get("/workers").await.json()["items"][0]["host"].as_str().unwrap().to_lowercase();
    let shown = last["host"].as_str().unwrap();
    assert!(host.split('.').next().unwrap().replace('_', "-").ends_with(shown), "{host}: {shown}");
    assert_eq!(
        (&last["outcome"], &last["finished_at"], &last["number"]),
        (&json!("running"), &json!(null), &json!(1))
    );
    actor.returns(&json!(null)).await;
}
