//! Two kinds of GET: status is always 200 while the job is known; a result's code follows the outcome.

use crunch_tests::{Actor, Api, Stack, Stage};
use reqwest::Method;
use serde_json::json;

use super::expect_problem;

/// One job in each status that does not change; the running one is controlled by `actor`.
struct Jobs {
    by_status: Vec<(&'static str, String)>,
    actor: Actor,
}

async fn submit_one_of_each(api: &Api) -> Jobs {
    let stage = Stage::open().await;
    let later = json!({ "delay_ms": 3_600_000 });
    let succeeded = api.submit("act", &stage.payload()).await;
    stage.wait_for_handler().await.returns(&json!({ "answer": [1, "two"] })).await;
    let failed = api.submit_with("act", &stage.payload(), &json!({ "max_attempts": 1 })).await;
    stage.wait_for_handler().await.fails("broken").await;
    let running = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    let queued = api.submit("act", &stage.payload()).await;
    let scheduled = api.submit_with("act", &stage.payload(), &later).await;
    let canceled = api.submit_with("act", &stage.payload(), &later).await;
    api.post_empty(&format!("/jobs/{canceled}/cancel")).await;
    let by_status = vec![
        ("succeeded", succeeded),
        ("failed", failed),
        ("running", running),
        ("queued", queued),
        ("scheduled", scheduled),
        ("canceled", canceled),
    ];
    for (status, id) in &by_status {
        api.wait_for_status(id, status).await;
    }
    Jobs { by_status, actor }
}

#[tokio::test]
async fn codes_and_headers_follow_the_kind_of_get() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let jobs = submit_one_of_each(&api).await;

    for (status, id) in &jobs.by_status {
        let (result, ended) = match *status {
            "succeeded" => (200, true),
            "failed" => (422, true),
            "canceled" => (409, true),
            _ => (202, false),
        };
        let retry_after = if ended { "" } else { "1" };
        let expected = [
            (format!("/jobs/{id}"), 200, "private, no-cache"),
            (format!("/result/{id}"), if ended { 200 } else { 202 }, "no-store"),
            (
                format!("/jobs/{id}/result"),
                result,
                if result == 200 { "private, no-cache" } else { "no-store" },
            ),
        ];
        for (path, code, cache) in &expected {
            let answer = api.get(path).await;
            let seen = (
                answer.status.as_u16(),
                answer.header("cache-control"),
                answer.header("retry-after"),
            );
            assert_eq!(seen, (*code, *cache, retry_after), "{status}: {path}");
        }
        let documents =
            [api.get(&expected[0].0).await.json(), api.get(&expected[1].0).await.json()];
        assert_eq!(documents[0], documents[1]);
        assert_eq!(documents[0]["status"], *status);
        assert_eq!(documents[0].as_object().unwrap().len(), 31);
        if result == 202 {
            assert_eq!(api.get(&expected[2].0).await.json(), documents[0]);
        }
    }
    jobs.actor.returns(&json!(null)).await;
}

#[tokio::test]
async fn the_outcome_is_in_the_document_and_in_the_result() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let jobs = submit_one_of_each(&api).await;
    let id = |wanted: &str| &jobs.by_status.iter().find(|(status, _)| *status == wanted).unwrap().1;

    let job = api.job(id("succeeded")).await;
    assert_eq!(job["result"], json!({ "answer": [1, "two"] }));
    assert_eq!(
        (&job["result_content_type"], &job["error"]),
        (&json!("application/json"), &json!(null))
    );
    let raw = api.get(&format!("/jobs/{}/result", id("succeeded"))).await;
    assert_eq!((raw.json(), raw.body.len()), (job["result"].clone(), 20));
    assert_eq!(job["result_size"], 20);
    assert_eq!(
        (raw.header("content-type"), raw.header("x-content-type-options")),
        ("application/json", "nosniff")
    );

    let error = json!({ "code": "task_failed", "message": "broken", "retryable": true });
    assert_eq!(api.job(id("failed")).await["error"], error);
    let result = api.get(&format!("/jobs/{}/result", id("failed"))).await;
    let problem = expect_problem(&api, &result, 422, "job-failed").await;
    assert_eq!((&problem["error"], &problem["detail"]), (&error, &json!("broken")));

    assert_eq!(api.job(id("canceled")).await["error"]["code"], "canceled");
    let result = api.get(&format!("/jobs/{}/result", id("canceled"))).await;
    expect_problem(&api, &result, 409, "job-canceled").await;
    jobs.actor.returns(&json!(null)).await;
}

#[tokio::test]
async fn an_unchanged_status_is_answered_with_304() {
    let (_stack, api) = super::api_without_workers().await;
    let id = api.submit("t", &json!(1)).await;
    let path = format!("/jobs/{id}");
    let tag = api.get(&path).await.header("etag").to_owned();

    assert!(tag.starts_with('"'), "{tag}");
    let get = async |given: &str| {
        api.send(api.request(Method::GET, &path).header("if-none-match", given)).await
    };
    for given in [tag.clone(), format!("\"x\", W/{tag}"), "*".to_owned()] {
        let answer = get(&given).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("etag"), answer.body.len()),
            (304, tag.as_str(), 0)
        );
    }
    api.post_empty(&format!("{path}/cancel")).await;

    assert_eq!(get(&tag).await.status.as_u16(), 200);
}

#[tokio::test]
async fn workers_and_queues_show_their_current_state() {
    let (_stack, api, worker) = Stack::simple(2).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    let waiting = api.submit_with("act", &json!({}), &json!({ "delay_ms": 3_600_000 })).await;
    let queue = api.get("/queues/act").await.json();
    let counts = json!({ "queued": 0, "scheduled": 1, "retrying": 0, "running": 1, "failed": 0 });
    let expected = json!({
        "name": "act", "paused": false, "counts": counts, "oldest_age_ms": null, "finished_last_minute": 0, "workers": 1,
        "parked": [],
    });
    assert_eq!(queue, expected);
    let queues = api.get("/queues").await.json();
    assert!(queues["items"].as_array().unwrap().contains(&queue), "{queues}");

    let seen = async || {
        let worker = api.get("/workers").await.json()["items"][0].clone();
        assert_eq!(worker["kind"], "worker");
        (worker["running"][0]["id"] == id).then_some(worker)
    };
    let shown = crunch_tests::eventually("the worker reports what it runs", seen).await;
    let members: Vec<_> = shown.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        members,
        [
            "busy",
            "host",
            "id",
            "kind",
            "pid",
            "queues",
            "running",
            "seen_at",
            "servers",
            "slots",
            "started_at",
            "state",
            "suspended",
            "tasks",
            "version",
            "wanted"
        ]
    );
    let values = (&shown["pid"], &shown["slots"], &shown["busy"], &shown["running"][0]["task"]);
    assert_eq!(values, (&json!(worker.pid()), &json!(2), &json!(1), &json!("act")));
    assert_eq!(api.job(&waiting).await["worker"], json!(null));
    assert_eq!(api.job(&id).await["worker"], shown["id"]);
    actor.returns(&json!(null)).await;
}
