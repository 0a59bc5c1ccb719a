//! Clients that disconnect too early, or send the same request fifty times at once. (F5, F27)

use crunch_tests::{Stack, eventually};
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::*;

#[tokio::test]
async fn a_client_that_disconnects_at_any_byte_creates_one_job_or_none() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let addr = api.url.strip_prefix("http://").unwrap();
    let body = json!({ "task": "echo", "payload": 1 }).to_string();
    let request = format!(
        "POST /jobs HTTP/1.1\r\nhost: {addr}\r\ncontent-type: application/json\r\n\
         idempotency-key: \"left-early\"\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );

    for bytes in 0..=request.len() {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(&request.as_bytes()[..bytes]).await.unwrap();
        // Half of the connections are reset, the others are closed.
        if bytes.is_multiple_of(2) {
            stream.set_zero_linger().unwrap();
        }
    }

    let submit_complete = || {
        let request = api.request(Method::POST, "/jobs").header("idempotency-key", "left-early");
        request.header("content-type", "application/json").body(body.clone())
    };
    let answer = api.send(submit_complete()).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    api.wait_for_status(&answer.id(), "succeeded").await;
    assert_eq!(api.send(submit_complete()).await.id(), answer.id());
    assert_eq!(count(&api, "echo").await, 1);
}

#[tokio::test]
async fn the_job_of_a_client_that_does_not_read_the_response_runs() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let addr = api.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!(
        "POST /tasks/echo/jobs HTTP/1.1\r\nhost: {addr}\r\ncontent-type: application/json\r\n\
         content-length: 1\r\n\r\n7"
    );

    stream.write_all(request.as_bytes()).await.unwrap();
    stream.readable().await.unwrap();
    drop(stream);

    eventually("the job has run", async || {
        let page = api.get("/jobs?status=succeeded").await.json();
        (page["items"].as_array()?.len() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn fifty_clients_with_one_key_create_one_job() {
    race(20).await;
}

#[tokio::test]
#[ignore = "takes minutes: half a million requests"]
async fn ten_thousand_races_of_fifty_clients_create_one_job_each() {
    race(10_000).await;
}

/// Fifty clients send the same request with the same key at the same time, again and again, to two APIs.
async fn race(rounds: usize) {
    let (mut stack, api, _worker) = Stack::simple(4).await;
    let other = stack.api().await;
    Stack::wait_for_task(&other, "square").await;
    for round in 0..rounds {
        let body = json!({ "task": "square", "payload": { "n": round } });
        let submit = |n: usize| {
            let api = if n.is_multiple_of(2) { &api } else { &other };
            let request = api.request(Method::POST, "/jobs").json(&body);
            api.send(request.header("idempotency-key", format!("race-{round}")))
        };
        let answers = join_all((0..50).map(submit)).await;
        let id = answers[0].id();
        for answer in &answers {
            assert_eq!((answer.status, answer.id()), (StatusCode::ACCEPTED, id.clone()));
        }
        let first =
            |answer: &&crunch_tests::Answer| answer.header("idempotency-replayed").is_empty();
        assert_eq!(answers.iter().filter(first).count(), 1);
    }
    wait_until_drained(&api, "square").await;
    let entries = stack.ledger();
    assert_eq!(runs(&entries).len(), rounds);
    assert!(runs(&entries).values().all(|runs| runs.len() == 1));
}
