//! Requesting a webhook in an envelope or in a query, and the reserved names of webhooks.

use crunch_tests::Receiver;
use reqwest::Method;
use serde_json::json;

use super::{assert_event, stack_with};
use crate::http::{assert_problem, pointers};

#[tokio::test]
async fn a_webhook_can_be_requested_in_the_query() {
    let (_stack, api, _worker) = stack_with(&[]).await;
    let receiver = Receiver::open().await;
    let query = [
        ("webhook.url", receiver.url("/?a=b&c")),
        ("webhook.events", "job.failed,job.succeeded".into()),
    ];
    let request = api.request(Method::POST, "/tasks/echo/jobs").query(&query).json(&json!(1));
    let id = api.send(request).await.id();

    let call = receiver.next_call().await;
    assert_event(&call, "job.succeeded", &id);
    assert_eq!(call.line, "POST /?a=b&c HTTP/1.1");
    call.answer(200, "").await;
}

#[tokio::test]
async fn every_item_of_a_batch_has_its_own_webhook() {
    let (_stack, api, _worker) = stack_with(&[]).await;
    let receiver = Receiver::open().await;
    let job = |path: &str| json!({ "task": "echo", "webhook": { "url": receiver.url(path) } });
    let batch = json!({ "jobs": [job("/0"), { "task": "echo" }, job("/2")] });
    assert_eq!(api.post("/jobs/batch", &batch).await.status.as_u16(), 202);

    let mut lines = Vec::new();
    for _ in 0..2 {
        let call = receiver.next_call().await;
        lines.push(call.line.clone());
        call.answer(200, "").await;
    }
    lines.sort();
    assert_eq!(lines, ["POST /0 HTTP/1.1", "POST /2 HTTP/1.1"]);
}

#[tokio::test]
async fn the_invalid_member_of_a_webhook_is_named() {
    let (_stack, api, _worker) = stack_with(&[]).await;
    for (webhook, pointer) in [
        (json!("https://example.com/"), "/webhook"),
        (json!({}), "/webhook/url"),
        (json!({ "url": "ftp://example.com/" }), "/webhook/url"),
        (json!({ "url": "https://me@example.com/" }), "/webhook/url"),
        (json!({ "url": "https://example.com/#a" }), "/webhook/url"),
        (json!({ "url": format!("https://example.com/{}", "a".repeat(2048)) }), "/webhook/url"),
        (json!({ "url": "https://example.com/", "events": ["job.started"] }), "/webhook/events"),
        (json!({ "url": "https://example.com/", "secret": "x" }), "/webhook/secret"),
    ] {
        let answer = api.post("/jobs", &json!({ "task": "echo", "webhook": webhook })).await;
        assert_problem(&answer, 422, "invalid-submission");
        assert_eq!(pointers(&answer.json()), [pointer], "{webhook}");
    }
}

#[tokio::test]
async fn the_task_and_the_queue_of_deliveries_are_reserved() {
    let (stack, api, _worker) = stack_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    let answer = api.post("/jobs", &json!({ "task": "crunch.webhooks" })).await;
    assert_problem(&answer, 422, "invalid-submission");
    let answer = api.post("/tasks/crunch.webhooks/jobs", &json!(1)).await;
    assert_problem(&answer, 404, "unknown-task");
    let answer = api.post("/jobs", &json!({ "task": "echo", "queue": "crunch.webhooks" })).await;
    assert_problem(&answer, 422, "invalid-submission");
    assert_eq!(pointers(&answer.json()), ["/queue"]);

    let tasks = stack.directory().join("tasks.toml");
    let declared = "[[task]]\nname = 'crunch.webhooks'\ncommand = ['true']\n[[task]]\nname = 'a'\nqueue = 'crunch.webhooks'\ncommand = ['true']\n";
    std::fs::write(&tasks, declared).unwrap();
    for (variable, value) in [
        ("CRUNCH_TASKS", tasks.to_str().unwrap()),
        ("CRUNCH_WORKER_QUEUES", "echo,crunch.webhooks"),
    ] {
        let output = stack.command("test-worker").env(variable, value).output().await.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("\"crunch.webhooks\" is reserved for Crunch"), "{text}");
    }
}
