//! `doctor` names what is wrong with a set-up, and what to do.

use crunch_tests::{RedisServer, Stack, Stage};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::connection::with_keys;
use super::fake::{Fake, job, ok, page};
use super::{Crunch, write_private};

/// What `doctor` says: check, state and detail of everything that is not right.
async fn findings(crunch: &Crunch) -> Vec<(String, String, String)> {
    let run = crunch.run(&["doctor", "--json"]).await;
    let documents = run.documents();
    let has_fault = documents.iter().any(|finding| finding["state"] == "fault");
    assert_eq!(run.code, i32::from(has_fault), "{}", run.out);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let bad = documents.iter().filter(|finding| finding["state"] != "ok");
    bad.map(|finding| {
        assert!(finding["remedy"].is_string(), "{finding}");
        (text(&finding["check"]), text(&finding["state"]), text(&finding["detail"]))
    })
    .collect()
}

/// Fails unless one of the findings is this one.
async fn finds(crunch: &Crunch, check: &str, state: &str, detail: &str) {
    let all = findings(crunch).await;
    let is_it = |finding: &(String, String, String)| {
        finding.0 == check && finding.1 == state && finding.2.contains(detail)
    };
    assert!(all.iter().any(is_it), "{check} {state} {detail}: {all:#?}");
}

/// A server that gives everyone the same answer.
async fn answering(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    url
}

#[tokio::test]
async fn the_address_of_a_page_and_another_version_are_named() {
    let (_stack, api, _worker) = Stack::on_one_node().with_api_and_worker(1).await;
    let printed = async |url: &str| {
        let crunch = Crunch::new().with("CRUNCH_URL", url);
        crunch.run(&["doctor"]).await.out
    };
    let dashboard = printed(&format!("{}/dashboard/", api.url)).await;
    assert!(
        dashboard.contains(&format!("answers without the path: use {}\n", api.url)),
        "{dashboard}"
    );
    let bare = printed(api.address()).await;
    assert!(bare.contains(&format!("add the scheme: http://{}\n", api.address())), "{bare}");
    let slash = printed(&format!("{}//", api.url)).await;
    assert!(slash.contains("address\tok\t") && slash.contains("versions\tok\t"), "{slash}");

    let other = Fake::start(|head| match head.split(' ').nth(1).unwrap() {
        "/livez" => ok(&json!({ "status": "ok" })),
        "/openapi.json" => ok(&json!({ "info": { "version": "9.9.9" } })),
        "/tasks" => page(&json!([task()]), None),
        path if path.starts_with("/jobs?") => page(&json!([stuck()]), None),
        _ => ok(&json!({ "items": [], "next_cursor": null })),
    })
    .await;
    let other = Crunch::new().with("CRUNCH_URL", &other.url);
    finds(&other, "versions", "warning", "the API has 9.9.9, this program ").await;
    finds(&other, "running", "warning", "1 job near the timeout: a runs t for ").await;
}

fn task() -> Value {
    json!({ "name": "t", "queue": "q", "description": "", "accepts": [], "content_type": "",
        "timeout_ms": 60_000, "max_attempts": 3, "priority": "normal", "max_payload": 1,
        "payload_schema": null, "result_schema": null, "workers": 1 })
}

fn stuck() -> Value {
    let mut job = job("a", "running");
    job["started_at"] = json!("2026-01-01T00:00:00Z");
    job
}

async fn redis(stack: &Stack, words: &[&str]) {
    execute(&stack.redis, words).await;
}

async fn execute(redis: &RedisServer, words: &[&str]) {
    let mut connection = redis.connect().await;
    redis::cmd(words[0]).arg(&words[1..]).query_async::<()>(&mut connection).await.unwrap();
}

#[tokio::test]
async fn a_healthy_set_up_has_no_fault() {
    let (_stack, api, _worker) = Stack::on_one_node().with_api_and_worker(1).await;
    let all = findings(&Crunch::of(&api)).await;
    assert!(all.iter().all(|(check, state, _)| check == "redis" && state == "warning"), "{all:#?}");
}

#[tokio::test]
async fn faults_on_the_way_to_the_api_are_named() {
    let nothing = Crunch::new().with("CRUNCH_URL", "http://127.0.0.1:1");
    finds(&nothing, "address", "fault", "does not answer").await;
    let other =
        answering("HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>").await;
    let other = Crunch::new().with("CRUNCH_URL", &other);
    finds(&other, "address", "fault", "not as an API of Crunch").await;
    let late = answering(
        "HTTP/1.1 200 OK\r\ndate: Mon, 30 Nov 2020 12:00:00 GMT\r\ncontent-length: 15\r\nconnection: close\r\n\r\n{\"status\":\"ok\"}",
    )
    .await;
    let late = Crunch::new().with("CRUNCH_URL", &late);
    finds(&late, "clocks", "fault", "behind this machine's").await;
    let open = Crunch::new();
    std::fs::write(open.path("key"), "crk_a_b").unwrap();
    let open = open.with("CRUNCH_API_KEY_FILE", "key");
    let path = open.path("key").display().to_string();
    let open = open.with("CRUNCH_API_KEY_FILE", &path);
    finds(&open, "configuration", "fault", "other users may read").await;
}

#[tokio::test]
async fn faults_of_a_key_are_named() {
    let (_stack, api, [submitter, reader]) = with_keys(["submit", "read"]).await;
    finds(&Crunch::of(&api), "key", "fault", "requires a key").await;
    let with = |key: &str| Crunch::of(&api).with("CRUNCH_API_KEY", key);
    let unknown = format!("crk_abcdefghij_{}", "a".repeat(43));
    finds(&with(&unknown), "key", "fault", "does not know this key").await;
    finds(&with(&submitter), "key", "fault", "may not read").await;
    let run = with(&reader).run(&["doctor"]).await;
    assert!(run.out.contains("rights\tok\tthe key may read\n"), "{}", run.out);
    let file = Crunch::of(&api);
    write_private(&file.path("key"), &reader);
    let key = file.path("key").display().to_string();
    assert!(file.run(&["doctor", "--key-file", &key]).await.out.contains("key\tok\taccepted"));
}

#[tokio::test]
async fn faults_of_redis_are_named() {
    let (stack, api, _worker) = Stack::on_one_node().with_api_and_worker(1).await;
    let crunch = Crunch::of(&api);
    redis(&stack, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    finds(&crunch, "redis", "fault", "policy is allkeys-lru").await;
    redis(&stack, &["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    redis(&stack, &["CONFIG", "SET", "maxmemory", "2mb"]).await;
    finds(&crunch, "redis", "fault", "of its memory").await;
    redis(&stack, &["CONFIG", "SET", "maxmemory", "0"]).await;
    finds(&crunch, "redis", "warning", "no limit of memory").await;
    drop(stack.redis);
    let ready = async || (api.get("/readyz").await.status == 503).then_some(());
    crunch_tests::eventually("the API is not ready", ready).await;
    finds(&crunch, "readiness", "fault", "Redis is unavailable").await;
    finds(&crunch, "redis", "fault", "cannot be used").await;
}

#[tokio::test]
async fn jobs_that_nobody_runs_are_named() {
    let mut stack = Stack::on_one_node();
    let api = stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    let crunch = Crunch::of(&api);
    finds(&crunch, "workers", "fault", "no worker is running").await;
    finds(&crunch, "tasks", "fault", "no task is declared").await;
    api.submit("orphan", &json!(1)).await;
    finds(&crunch, "queues", "fault", "no worker serves orphan, and 1 job wait").await;
    api.post_empty("/queues/orphan/pause").await;
    finds(&crunch, "queues", "warning", "orphan is paused").await;
    let mut worker = stack.worker(&api, 1).await;
    let stage = Stage::open().await;
    let id = api.submit_with("act", &stage.payload(), &json!({ "max_attempts": 1 })).await;
    stage.wait_for_handler().await.fails("a bug").await;
    api.wait_for_status(&id, "failed").await;
    finds(&crunch, "errors", "warning", "task_failed: a bug").await;
    let unknown = json!({ "queue": "square" });
    let id = api.submit_with("unknown", &json!(1), &unknown).await;
    api.wait_for_job(&id, "was released", |job| !job["waiting_for"].is_null()).await;
    finds(&crunch, "queues", "fault", "no worker of square can run unknown, and 1 job wait").await;
    worker.terminate().await;
    finds(&crunch, "tasks", "warning", "no worker has the task echo").await;
}
