//! Redis unavailable: reported within a bounded time, and recovered from without help.

use std::time::Duration;

use crunch_tests::{Answer, Api, RedisServer, Stack, eventually};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::assert_problem;

/// Two seconds are documented; the machine of a test may be busy.
const TIME_LIMIT: Duration = Duration::from_secs(5);

const ACCEPT: (&str, &str) = ("CRUNCH_API_UNKNOWN_TASKS", "accept");

async fn answered_in_time(answer: impl Future<Output = Answer>) -> Answer {
    let start = Instant::now();
    let answer = answer.await;
    assert!(start.elapsed() < TIME_LIMIT, "{:?} for {answer:?}", start.elapsed());
    answer
}

async fn wait_for_readyz(api: &Api, code: u16) {
    let check = async || (api.get("/readyz").await.status.as_u16() == code).then_some(());
    eventually(&format!("/readyz is {code}"), check).await;
}

/// Sends every request that needs Redis, all at once; the answers must arrive in time and report an unknown outcome.
async fn assert_outage_is_reported(api: &Api, id: &str) {
    tokio::join!(assert_changes_report_it(api, id), assert_reads_report_it(api, id));
    wait_for_readyz(api, 503).await;
    assert_problem(&api.get("/readyz").await, 503, "unavailable");
    assert_eq!(api.get("/livez").await.status.as_u16(), 200);
    // Invalid requests are reported whether or not Redis is available.
    assert_problem(&api.post_bytes("/crunch", "{").await, 400, "malformed-json");
    assert_problem(&api.get("/jobs/no-id").await, 404, "not-found");
}

async fn assert_changes_report_it(api: &Api, id: &str) {
    let submit = json!({ "task": "crunch", "payload": {} });
    let items = json!({ "jobs": [submit, { "task": "crunch", "payload": {} }] });
    let changes = [
        ("/crunch".to_owned(), json!({})),
        ("/jobs".to_owned(), submit),
        ("/tasks/crunch/jobs".to_owned(), json!({})),
        (format!("/jobs/{id}/cancel"), json!(null)),
        (format!("/jobs/{id}/retry"), json!(null)),
    ];
    let send = async |(path, body): &(String, Value)| {
        let answer = answered_in_time(api.post(path, body)).await;
        assert_problem(&answer, 503, "unavailable");
        assert_eq!(answer.json()["outcome"], "unknown", "{path}");
    };
    let batch = async {
        let batch = answered_in_time(api.post("/jobs/batch", &items)).await;
        assert_eq!((batch.status.as_u16(), batch.header("retry-after")), (503, "1"));
        assert_eq!(batch.json()["items"][1]["problem"]["outcome"], "unknown");
    };
    tokio::join!(join_all(changes.iter().map(send)), batch);
}

async fn assert_reads_report_it(api: &Api, id: &str) {
    let job = ["", "/result", "/payload", "/attempts"].map(|rest| format!("/jobs/{id}{rest}"));
    let lists = ["/jobs", "/tasks", "/queues", "/workers", "/tasks/crunch", "/queues/crunch"];
    let paths = job.into_iter().chain(lists.map(str::to_owned)).chain([format!("/result/{id}")]);
    let send = async |path: String| {
        let answer = answered_in_time(api.get(&path)).await;
        assert_problem(&answer, 503, "unavailable");
        assert_eq!(answer.json().get("outcome"), None, "{path}");
    };
    join_all(paths.map(send)).await;
}

/// A worker declares the tasks, then exits: the API knows them during an outage of Redis.
async fn api_with_known_tasks(redis: RedisServer) -> (Stack, Api, String) {
    let mut stack = Stack::on(redis);
    let api = stack.api().await;
    let mut worker = stack.worker(&api, 1).await;
    worker.terminate().await;
    let id = api.submit("crunch", &json!({})).await;
    (stack, api, id)
}

#[tokio::test]
async fn an_outage_of_redis_is_reported_and_recovered_from() {
    let (mut stack, api, id) = api_with_known_tasks(RedisServer::durable()).await;
    wait_for_readyz(&api, 200).await;
    stack.redis.kill();
    assert_outage_is_reported(&api, &id).await;
    stack.redis.restart();
    wait_for_readyz(&api, 200).await;
    assert_eq!(api.job(&id).await["status"], "queued");
    assert_eq!(api.post("/crunch", &json!({})).await.status.as_u16(), 202);
}

#[tokio::test]
async fn a_hanging_redis_is_reported_and_recovered_from() {
    let (stack, api, id) = api_with_known_tasks(RedisServer::start()).await;
    wait_for_readyz(&api, 200).await;
    stack.redis.freeze();
    assert_outage_is_reported(&api, &id).await;
    stack.redis.thaw();
    wait_for_readyz(&api, 200).await;
    assert_eq!(api.job(&id).await["status"], "queued");
}

#[tokio::test]
async fn many_clients_get_503_in_time_while_redis_hangs() {
    let mut stack = Stack::start();
    let api = std::sync::Arc::new(stack.api().await);

    stack.redis.freeze();
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..40 {
        let api = api.clone();
        clients.spawn(async move {
            let path = format!("/tasks/unknown.{client}/jobs");
            assert_problem(
                &answered_in_time(api.post(&path, &json!({}))).await,
                503,
                "unavailable",
            );
        });
    }
    clients.join_all().await;
    stack.redis.thaw();
}

#[tokio::test]
async fn an_idempotency_key_resolves_an_unknown_outcome_after_an_outage() {
    let mut stack = Stack::on(RedisServer::durable());
    let api = stack.api_with(&[ACCEPT]).await;
    let submit = async || {
        let request = api.request(Method::POST, "/crunch").header("idempotency-key", "k");
        api.send(request.json(&json!({}))).await
    };
    let first = submit().await;

    stack.redis.freeze();
    let unknown = submit().await;
    assert_eq!((unknown.status.as_u16(), &unknown.json()["outcome"]), (503, &json!("unknown")));
    stack.redis.thaw();
    wait_for_readyz(&api, 200).await;
    let again = submit().await;

    assert_eq!((again.id(), again.header("idempotency-replayed")), (first.id(), "true"));
}

#[tokio::test]
async fn an_api_that_starts_before_redis_waits_for_it() {
    let mut redis = RedisServer::start();
    redis.stop();
    let mut stack = Stack::on(redis);
    let mut api = stack.api_with(&[ACCEPT]).await;
    assert_problem(&answered_in_time(api.get("/readyz")).await, 503, "unavailable");
    assert_problem(&answered_in_time(api.post("/crunch", &json!({}))).await, 503, "unavailable");
    assert_problem(&api.post_bytes("/crunch", "{").await, 400, "malformed-json");
    assert_eq!(api.get("/livez").await.status.as_u16(), 200);
    stack.redis.restart();
    wait_for_readyz(&api, 200).await;
    assert_eq!(api.post("/crunch", &json!({})).await.status.as_u16(), 202);
    assert!(!api.process.has_exited());
}

#[tokio::test]
async fn a_full_redis_refuses_new_jobs_and_still_cancels_old_ones() {
    let mut stack = Stack::on_one_node();
    let api = stack.api_with(&[ACCEPT]).await;
    let id = api.submit("t", &json!(1)).await;
    let mut connection = stack.redis.client().get_connection().unwrap();
    let mut set = |value: &str| {
        redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(value).exec(&mut connection).unwrap();
    };

    set("1");
    let refused = api.post("/crunch", &json!({})).await;
    assert_problem(&refused, 503, "full");
    assert_eq!(refused.json().get("outcome"), None);
    let canceled = api.post_empty(&format!("/jobs/{id}/cancel")).await;
    // A sweep may have deleted the canceled job, to make room, before the answer read it.
    if canceled.status.as_u16() == 410 {
        assert_problem(&canceled, 410, "gone");
    } else {
        assert_eq!(
            (canceled.status.as_u16(), &canceled.json()["status"]),
            (200, &json!("canceled"))
        );
    }
    set("0");

    // A sweep may have measured a full Redis meanwhile: new jobs are refused until the next one has measured again.
    let accepted =
        async || (api.post("/crunch", &json!({})).await.status.as_u16() == 202).then_some(());
    eventually("a job is accepted", accepted).await;
}
