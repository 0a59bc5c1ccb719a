//! The API is killed while a command waits for it: the command goes on, and misses nothing.

use std::time::{Duration, Instant};

use crunch_tests::{Api, Stack, Stage, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::{Crunch, finish};

/// A new API is used within three seconds: no pause is longer than one. A machine that does other work takes longer.
const SOON: Duration = Duration::from_secs(10);

/// Kills an API and starts another one at its address.
async fn replace(stack: &mut Stack, mut api: Api) -> Api {
    let address = api.address().to_owned();
    api.process.kill().await;
    stack.api_with(&[("CRUNCH_API_ADDR", &address)]).await
}

#[tokio::test]
async fn wait_goes_on_after_the_api_was_killed() {
    let (mut stack, api, _worker) = Stack::simple(1).await;
    let (crunch, stage) = (Crunch::of(&api), Stage::open().await);
    let waits = crunch.start(&["submit", "act", "-d", &stage.payload().to_string(), "--wait"]);
    let actor = stage.wait_for_handler().await;
    let _api = replace(&mut stack, api).await;
    let since = Instant::now();
    actor.returns(&json!("kept")).await;
    let run = finish(waits).await;

    assert_eq!((run.code, run.out.as_str()), (0, "\"kept\""), "{}", run.err);
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_followed_log_has_every_line_once_although_the_api_was_killed() {
    let (mut stack, api, _worker) = Stack::simple(1).await;
    let (crunch, stage) = (Crunch::of(&api), Stage::open().await);
    let id = api.submit("act", &stage.payload()).await;
    let mut actor = stage.wait_for_handler().await;
    let mut follows = crunch.start(&["logs", "-f", &id]);
    let mut lines = BufReader::new(follows.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await;
        line.expect("a line is printed").unwrap()
    };
    actor.send(&json!({ "log": "before" })).await;
    assert_eq!(next().await.as_deref(), Some("before"));
    let address = api.address().to_owned();
    let mut api = api;
    api.process.kill().await;
    // Nobody is there to receive these.
    for line in ["meanwhile 1", "meanwhile 2"] {
        actor.send(&json!({ "log": line })).await;
    }
    let api = stack.api_with(&[("CRUNCH_API_ADDR", &address)]).await;
    let since = Instant::now();
    for line in ["meanwhile 1", "meanwhile 2"] {
        assert_eq!(next().await.as_deref(), Some(line));
    }
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    actor.send(&json!({ "log": "after" })).await;
    actor.returns(&json!(null)).await;
    assert_eq!(next().await.as_deref(), Some("after"));
    assert_eq!(next().await, None);
    assert!(follows.wait().await.unwrap().success());
    api.wait_for_status(&id, "succeeded").await;
}

#[tokio::test]
async fn top_goes_on_after_the_api_was_killed() {
    let (mut stack, api, _worker) = Stack::simple(1).await;
    let crunch = Crunch::of(&api);
    let mut top = crunch.start_at_terminal("crunch top");
    let shows = async |text: &str| {
        let what = format!("top shows {text}");
        eventually(&what, async || crunch.screen().contains(text).then_some(())).await;
    };
    shows("image.thumbnail").await;
    let address = api.address().to_owned();
    let mut api = api;
    api.process.kill().await;
    shows("away for").await;
    // The first in the list, and of other letters than what was there: only cells that differ are drawn.
    const NEW: &str = "0123456789";
    let api = stack.api_with(&[("CRUNCH_API_ADDR", &address)]).await;
    let since = Instant::now();
    api.submit_with("echo", &json!(1), &json!({ "queue": NEW, "delay_ms": 600_000 })).await;
    shows(NEW).await;

    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    top.stdin.as_mut().unwrap().write_all(b"q").await.unwrap();
    assert!(crunch_tests::in_time("the end of top", top.wait()).await.unwrap().success());
}

#[tokio::test]
async fn a_submission_whose_answer_is_lost_is_one_job() {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    let address = api.address().to_owned();
    let mut api = api;
    let crunch = Crunch::of(&api);
    api.process.kill().await;
    let submits = crunch.start(&["submit", "t", "-d", "1"]);
    let environment =
        [("CRUNCH_API_UNKNOWN_TASKS", "accept"), ("CRUNCH_API_ADDR", address.as_str())];
    let api = stack.api_with(&environment).await;
    let run = finish(submits).await;

    assert_eq!(run.code, 0, "{}", run.err);
    let jobs = api.get("/jobs").await.json();
    assert_eq!(jobs["items"].as_array().unwrap().len(), 1);
    assert_eq!(jobs["items"][0]["id"], run.out.trim());
}

/// A server that answers one request after the other, each on a connection of its own; without an answer it closes it.
async fn answering(answers: Vec<(&'static str, Value)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            assert!(stream.read(&mut head).await.unwrap() > 0);
            if !status.is_empty() {
                let body = body.to_string();
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
                );
                stream.write_all((head + &body).as_bytes()).await.unwrap();
            }
        }
    });
    url
}

fn problem(status: u16, slug: &str) -> Value {
    json!({ "type": format!("/problems/{slug}"), "title": slug, "status": status })
}

#[tokio::test]
async fn a_verb_whose_answer_is_lost_is_not_taken_for_one_that_failed() {
    let lost = ("", Value::Null);
    let gone = ("410 Gone", problem(410, "gone"));
    let crunch = async |answers| Crunch::new().with("CRUNCH_URL", &answering(answers).await);
    let deleted = crunch(vec![lost.clone(), gone.clone()]).await.run(&["delete", "a"]).await;
    assert_eq!((deleted.code, deleted.out.as_str()), (0, "a\tdeleted\n"), "{}", deleted.err);
    assert_eq!(crunch(vec![gone]).await.run(&["delete", "a"]).await.code, 3);

    let conflict = ("409 Conflict", problem(409, "job-not-retryable"));
    let job = json!({ "id": "a", "task": "t", "queue": "q", "priority": "normal", "status": "queued",
        "attempt": 0, "max_attempts": 3, "created_at": "2026-11-30T10:00:00Z", "payload_size": 1 });
    let answers = vec![lost, conflict.clone(), ("200 OK", job)];
    let retried = crunch(answers).await.run(&["retry", "a"]).await;
    assert_eq!((retried.code, retried.out.as_str()), (0, "a\tqueued\n"), "{}", retried.err);
    assert_eq!(crunch(vec![conflict]).await.run(&["retry", "a"]).await.code, 5);
}

#[tokio::test]
async fn a_refusal_for_now_is_repeated_when_the_api_says() {
    let busy = ("503 Service Unavailable", problem(503, "queue-full"));
    let answers = vec![
        busy.clone(),
        ("502 Bad Gateway", json!("a proxy")),
        ("200 OK", json!({ "items": [], "next_cursor": null })),
    ];
    let crunch = Crunch::new().with("CRUNCH_URL", &answering(answers).await);
    assert_eq!(crunch.run(&["jobs"]).await.code, 0);
    let crunch = Crunch::new().with("CRUNCH_URL", &answering(vec![busy]).await);
    let run = crunch.run(&["jobs", "--retry-for", "0s"]).await;
    assert!(run.code == 6 && run.err.contains("queue-full"), "{}", run.err);
}
