//! Submissions as lines: each is handled on its own, and accepted while others still arrive.

use std::time::Duration;

use crunch_tests::{Answer, Api, RawConnection, Stack, eventually};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;

use super::{api_without_workers, assert_problem, expect_problem};

async fn post_lines(api: &Api, body: impl Into<reqwest::Body>) -> Answer {
    let request = api.request(Method::POST, "/jobs/batch");
    api.send(request.header("content-type", "application/x-ndjson").body(body)).await
}

#[tokio::test]
async fn each_line_is_accepted_or_refused_on_its_own() {
    let (_stack, api) = api_without_workers().await;
    let body = [
        r#"{"task":"t","payload":1,"idempotency_key":"k"}"#,
        "",
        r#"{"task":"T"}"#,
        "{",
        "  {\"task\":\"t\",\"payload\":{\"b\":1,\"a\":2}}\r",
        r#"{"task":"t","payload":2,"idempotency_key":"k"}"#,
        r#"{"task":"t","nonsense":1}"#,
        r#"{"task":"t","payload":1,"idempotency_key":"k"}"#,
    ];
    let answer = post_lines(&api, body.join("\n")).await;
    let document = answer.json();

    assert_eq!(answer.status.as_u16(), 202, "{document}");
    assert_eq!((&document["accepted"], &document["refused"]), (&json!(3), &json!(4)));
    let errors = document["errors"].as_array().unwrap().iter().map(|error| {
        let problem = &error["problem"];
        (error["line"].as_u64().unwrap(), problem["type"].as_str().unwrap())
    });
    let expected = [
        (3, "/problems/invalid-submission"),
        (4, "/problems/malformed-json"),
        (6, "/problems/idempotency-conflict"),
        (7, "/problems/invalid-submission"),
    ];
    assert_eq!(errors.collect::<Vec<_>>(), expected);
    assert_eq!(document["errors"][3]["problem"]["errors"][0]["pointer"], "/nonsense");
    let jobs = api.get("/jobs").await.json();
    assert_eq!(jobs["items"].as_array().unwrap().len(), 2, "one job for each key");
    let again = post_lines(&api, body[0]).await.json();

    assert_eq!(
        again,
        json!({ "accepted": 1, "existing": 0, "refused": 0, "errors": [] }),
        "a replay is accepted"
    );
}

#[tokio::test]
async fn a_body_without_valid_lines_is_refused() {
    let (_stack, api) = api_without_workers().await;

    expect_problem(&api, &post_lines(&api, "\n \n").await, 400, "malformed-json").await;
    expect_problem(&api, &post_lines(&api, "").await, 400, "malformed-json").await;
    let none = post_lines(&api, "1\n2\n").await;
    assert_eq!((none.status.as_u16(), &none.json()["refused"]), (422, &json!(2)));
    let too_long = format!("{}\n{{\"task\":\"t\"}}", "x".repeat(2 * 1024 * 1024));
    let some = post_lines(&api, too_long).await;
    let document = some.json();
    assert_eq!((some.status.as_u16(), &document["accepted"]), (202, &json!(1)));
    assert_eq!(document["errors"][0]["problem"]["type"], "/problems/payload-too-large");
    for (path, header) in [("/jobs/batch?queue=a", "a"), ("/jobs/batch", "idempotency-key")] {
        let request = api.request(Method::POST, path).header(header, "k");
        let request = request.header("content-type", "application/x-ndjson").body("{}");
        assert_eq!(api.send(request).await.status.as_u16(), 400, "{path}");
    }
}

#[tokio::test]
async fn the_first_request_is_answered_like_all_later_ones() {
    let mut stack = Stack::start();
    let proxy = stack.proxy();
    // The tasks are read more slowly than the first request is sent.
    proxy.delay(Duration::from_millis(20));
    let api = stack.api_via(&proxy).await;

    let too_long = "x".repeat(2 * 1024 * 1024);
    let document = post_lines(&api, too_long).await.json();
    assert_eq!(document["errors"][0]["problem"]["type"], "/problems/payload-too-large");
}

#[tokio::test]
async fn only_the_first_hundred_problems_are_listed() {
    let (_stack, api) = api_without_workers().await;
    let document = post_lines(&api, "{}\n".repeat(250)).await.json();
    assert_eq!(document["refused"], 250);
    assert_eq!(document["errors"].as_array().unwrap().len(), 100);
}

#[tokio::test]
async fn a_long_body_costs_no_memory() {
    let (_stack, api) = api_without_workers().await;
    let line = format!("{}\n", json!({ "task": "t", "payload": "x".repeat(4000) }));
    assert_eq!(post_lines(&api, line.repeat(200)).await.status.as_u16(), 202);
    let before = api.process.peak_memory();
    let count = 15_000;
    let document = post_lines(&api, line.repeat(count)).await.json();
    assert_eq!(document, json!({ "accepted": count, "existing": 0, "refused": 0, "errors": [] }));
    let growth = api.process.peak_memory() - before;
    assert!(growth < 16 * 1024 * 1024, "60 MB of lines took {growth} bytes");
}

#[tokio::test]
async fn lines_before_the_break_of_a_body_are_accepted() {
    let (_stack, api) = api_without_workers().await;
    let mut connection = RawConnection::to(&api).await;
    let headers = ["Content-Type: application/x-ndjson", "Transfer-Encoding: chunked"];

    connection.write_head("POST /jobs/batch", &headers).await;
    let lines = "{\"task\":\"t\"}\n{\"task\":\"t\"}\n{\"task\":\"t";
    connection.write(format!("\r\n{:x}\r\n{lines}\r\n", lines.len())).await.unwrap();
    connection.finish_sending().await;
    let answer = connection.answer().await;
    assert_problem(&answer, 400, "broken-body");
    assert_eq!((&answer.json()["accepted"], &answer.json()["refused"]), (&json!(2), &json!(0)));
    eventually("both jobs are stored", async || {
        let jobs = api.get("/jobs").await.json();
        (jobs["items"].as_array().unwrap().len() == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn lines_that_arrive_too_slowly_time_out_and_earlier_ones_are_accepted() {
    let (_stack, api) = api_without_workers().await;
    let mut connection = RawConnection::to(&api).await;
    let headers = ["Content-Type: application/x-ndjson", "Transfer-Encoding: chunked"];
    connection.write_head("POST /jobs/batch", &headers).await;
    connection.write("\r\nd\r\n{\"task\":\"t\"}\n\r\n").await.unwrap();
    // Nothing more is sent, and the body does not end.
    let answer = connection.answer().await;
    assert_problem(&answer, 408, "request-timeout");
    assert_eq!(answer.json()["accepted"], 1);
}

#[tokio::test]
async fn a_body_of_lines_is_answered_when_the_api_shuts_down() {
    let (_stack, mut api) = api_without_workers().await;
    let mut connection = RawConnection::to(&api).await;
    let headers = ["Content-Type: application/x-ndjson", "Transfer-Encoding: chunked"];

    connection.write_head("POST /jobs/batch", &headers).await;
    // A whole group, so that its acceptance can be observed.
    let lines = "{\"task\":\"t\"}\n".repeat(100);
    connection.write(format!("\r\n{:x}\r\n{lines}\r\n", lines.len())).await.unwrap();
    eventually("they are accepted", async || {
        let jobs = api.get("/jobs").await.json();
        (!jobs["items"].as_array().unwrap().is_empty()).then_some(())
    })
    .await;
    api.process.signal(Signal::TERM);
    let answer = connection.answer().await;

    assert_problem(&answer, 503, "unavailable");
    assert_eq!(answer.json()["accepted"], 100);
    assert!(api.process.exited().await.success());
}

#[tokio::test]
async fn lines_are_refused_promptly_while_redis_is_unavailable() {
    let (mut stack, api) = api_without_workers().await;
    stack.redis.stop();
    let answer = post_lines(&api, "{\"task\":\"t\"}\n".repeat(1000)).await;
    let document = answer.json();
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "1"));
    assert_eq!((&document["accepted"], &document["refused"]), (&json!(0), &json!(1000)));
    assert_eq!(document["errors"][99]["problem"]["type"], "/problems/unavailable");
}
