//! Tasks that no worker has declared, on every route.

use crunch_tests::{Answer, Stack};
use reqwest::Method;
use serde_json::json;

use super::{api_without_workers, assert_problem, expect_problem, pointers};

#[tokio::test]
async fn the_error_for_an_undeclared_task_depends_on_the_route() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let member = api.post("/jobs", &json!({ "task": "crunch" })).await;

    assert_eq!(
        pointers(&expect_problem(&api, &member, 422, "invalid-submission").await),
        ["/task"]
    );
    for path in ["/tasks/crunch/jobs", "/tasks/NO/jobs", "/tasks/%ff/jobs"] {
        let answer = api.post(path, &json!({})).await;
        let slug = if path.contains('%') { answer.problem() } else { "unknown-task".to_owned() };
        expect_problem(&api, &answer, 404, &slug).await;
    }

    expect_problem(&api, &api.post("/crunch", &json!({})).await, 503, "no-worker-yet").await;
    expect_problem(&api, &api.get("/tasks/crunch").await, 404, "unknown-task").await;
    assert_eq!(api.get("/tasks").await.json(), json!({ "items": [], "next_cursor": null }));
    assert_eq!(
        api.get("/jobs").await.json(),
        json!({ "items": [], "next_cursor": null, "search": null })
    );
}

#[tokio::test]
async fn a_misspelled_task_leads_to_the_declared_one() {
    let (_stack, api, _worker) = Stack::start().with_api_and_worker(1).await;
    let member = api.post("/jobs", &json!({ "task": "crnuch", "payload": {} })).await;
    let path = api.post("/tasks/crunsh/jobs", &json!({})).await;
    let far = api.post("/tasks/nothing-like-it/jobs", &json!({})).await;

    let detail = |answer: &Answer| answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail(&member).ends_with("; did you mean \"crunch\"?"), "{}", detail(&member));
    assert!(detail(&path).ends_with("; did you mean \"crunch\"?"), "{}", detail(&path));
    assert!(!detail(&far).contains("did you mean"), "{}", detail(&far));
}

#[tokio::test]
async fn errors_that_do_not_depend_on_the_task_are_reported_first() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let send = async |headers: &[(&str, &str)], query: &str, body: &str| {
        let mut request =
            api.request(Method::POST, &format!("/crunch{query}")).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        api.send(request).await
    };
    let json_type = ("content-type", "application/json");

    assert_problem(&send(&[], "", "{}").await, 415, "unsupported-media-type");
    assert_problem(
        &send(&[json_type, ("content-encoding", "gzip")], "", "{}").await,
        415,
        "unsupported-encoding",
    );
    assert_problem(&send(&[json_type], "", "{").await, 400, "malformed-json");
    assert_problem(&send(&[json_type], "?x=1", "{}").await, 400, "invalid-parameter");
    assert_problem(
        &send(&[json_type, ("idempotency-key", "a b")], "", "{}").await,
        400,
        "invalid-idempotency-key",
    );
    // The task of that route, once declared, may accept these.
    assert_problem(&send(&[("content-type", "image/png")], "", "x").await, 503, "no-worker-yet");
    assert_problem(&send(&[json_type], "", &" ".repeat(300 * 1024)).await, 503, "no-worker-yet");
}

#[tokio::test]
async fn a_task_is_known_as_soon_as_a_worker_declared_it() {
    let mut stack = Stack::start();
    let api = stack.api().await;

    expect_problem(
        &api,
        &api.post("/crunch", &json!({ "photons": 1 })).await,
        503,
        "no-worker-yet",
    )
    .await;
    let worker = stack.worker(&api, 1).await;
    let declared = api.get("/tasks/crunch").await.json();
    let members: Vec<_> = declared.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        members,
        [
            "accepts",
            "backoff",
            "content_type",
            "description",
            "group",
            "indexes",
            "max_attempts",
            "max_payload",
            "max_result",
            "name",
            "payload_schema",
            "priority",
            "queue",
            "result_schema",
            "retention_ms",
            "start_within_ms",
            "timeout_ms",
            "unique",
            "workers"
        ]
    );
    assert_eq!((&declared["name"], &declared["workers"]), (&json!("crunch"), &json!(1)));
    let id = api.post("/crunch", &json!({ "photons": 1 })).await.id();
    api.wait_for_status(&id, "succeeded").await;
    // The declaration outlives the worker.
    drop(worker);

    assert_eq!(api.post("/crunch", &json!({ "photons": 1 })).await.status.as_u16(), 202);
}

#[tokio::test]
async fn unknown_tasks_are_accepted_if_configured() {
    let (_stack, api) = api_without_workers().await;
    for (path, body) in [
        ("/crunch", json!({})),
        ("/tasks/never.seen/jobs", json!({})),
        ("/jobs", json!({ "task": "never.seen" })),
    ] {
        assert_eq!(api.post(path, &body).await.status.as_u16(), 202, "{path}");
    }
    expect_problem(&api, &api.post("/tasks/NO/jobs", &json!({})).await, 404, "unknown-task").await;
}
