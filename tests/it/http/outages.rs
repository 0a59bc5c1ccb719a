//! Redis away: told within a bounded time, and over by itself.

use std::time::Duration;

use crunch_tests::{Answer, Api, RedisServer, Stack, eventually};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::is_problem;

/// Two seconds are promised; the machine of a test may do other things.
const BOUND: Duration = Duration::from_secs(5);

const ACCEPT: (&str, &str) = ("CRUNCH_API_UNKNOWN_TASKS", "accept");

async fn timed(answer: impl Future<Output = Answer>) -> Answer {
    let begun = Instant::now();
    let answer = answer.await;
    assert!(begun.elapsed() < BOUND, "{:?} for {answer:?}", begun.elapsed());
    answer
}

async fn ready(api: &Api, code: u16) {
    let look = async || (api.get("/readyz").await.status.as_u16() == code).then_some(());
    eventually(&format!("/readyz says {code}"), look).await;
}

/// Asks everything that needs Redis, all at once; the answers must come in time and tell what is not known.
async fn is_told(api: &Api, id: &str) {
    tokio::join!(changes_are_told(api, id), reads_are_told(api, id));
    ready(api, 503).await;
    is_problem(&api.get("/readyz").await, 503, "unavailable");
    assert_eq!(api.get("/livez").await.status.as_u16(), 200);
    // What is wrong with a request is said whether or not Redis is there.
    is_problem(&api.post_bytes("/crunch", "{").await, 400, "malformed-json");
    is_problem(&api.get("/jobs/no-id").await, 404, "not-found");
}

async fn changes_are_told(api: &Api, id: &str) {
    let submit = json!({ "task": "crunch", "payload": {} });
    let items = json!({ "jobs": [submit, { "task": "crunch", "payload": {} }] });
    let changes = [
        ("/crunch".to_owned(), json!({})),
        ("/jobs".to_owned(), submit),
        ("/tasks/crunch/jobs".to_owned(), json!({})),
        (format!("/jobs/{id}/cancel"), json!(null)),
        (format!("/jobs/{id}/retry"), json!(null)),
    ];
    let one = async |(path, body): &(String, Value)| {
        let answer = timed(api.post(path, body)).await;
        is_problem(&answer, 503, "unavailable");
        assert_eq!(answer.json()["outcome"], "unknown", "{path}");
    };
    let batch = async {
        let batch = timed(api.post("/jobs/batch", &items)).await;
        assert_eq!((batch.status.as_u16(), batch.header("retry-after")), (503, "1"));
        assert_eq!(batch.json()["items"][1]["problem"]["outcome"], "unknown");
    };
    tokio::join!(join_all(changes.iter().map(one)), batch);
}

async fn reads_are_told(api: &Api, id: &str) {
    let job = ["", "/result", "/payload", "/attempts"].map(|rest| format!("/jobs/{id}{rest}"));
    let lists = ["/jobs", "/tasks", "/queues", "/workers", "/tasks/crunch", "/queues/crunch"];
    let paths = job.into_iter().chain(lists.map(str::to_owned)).chain([format!("/result/{id}")]);
    let one = async |path: String| {
        let answer = timed(api.get(&path)).await;
        is_problem(&answer, 503, "unavailable");
        assert_eq!(answer.json().get("outcome"), None, "{path}");
    };
    join_all(paths.map(one)).await;
}

/// A worker declares the tasks, then goes: the API knows them while Redis is away.
async fn known(redis: RedisServer) -> (Stack, Api, String) {
    let mut stack = Stack::on(redis);
    let api = stack.api().await;
    let mut worker = stack.worker(&api, 1).await;
    worker.terminate().await;
    let id = api.submit("crunch", &json!({})).await;
    (stack, api, id)
}

#[tokio::test]
async fn an_outage_of_redis_is_reported_and_recovered_from() {
    let (mut stack, api, id) = known(RedisServer::durable()).await;
    ready(&api, 200).await;
    stack.redis.kill();
    is_told(&api, &id).await;
    stack.redis.restart();
    ready(&api, 200).await;
    assert_eq!(api.job(&id).await["status"], "queued");
    assert_eq!(api.post("/crunch", &json!({})).await.status.as_u16(), 202);
}

#[tokio::test]
async fn a_hanging_redis_is_reported_and_recovered_from() {
    let (stack, api, id) = known(RedisServer::start()).await;
    ready(&api, 200).await;
    stack.redis.freeze();
    is_told(&api, &id).await;
    stack.redis.thaw();
    ready(&api, 200).await;
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
            is_problem(&timed(api.post(&path, &json!({}))).await, 503, "unavailable");
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
    ready(&api, 200).await;
    let again = submit().await;
    assert_eq!((again.id(), again.header("idempotency-replayed")), (first.id(), "true"));
}

#[tokio::test]
async fn an_api_that_starts_before_redis_waits_for_it() {
    let mut redis = RedisServer::start();
    redis.stop();
    let mut stack = Stack::on(redis);
    let mut api = stack.api_with(&[ACCEPT]).await;
    is_problem(&timed(api.get("/readyz")).await, 503, "unavailable");
    is_problem(&timed(api.post("/crunch", &json!({}))).await, 503, "unavailable");
    is_problem(&api.post_bytes("/crunch", "{").await, 400, "malformed-json");
    assert_eq!(api.get("/livez").await.status.as_u16(), 200);
    stack.redis.restart();
    ready(&api, 200).await;
    assert_eq!(api.post("/crunch", &json!({})).await.status.as_u16(), 202);
    assert!(!api.process.has_exited());
}

#[tokio::test]
async fn a_full_redis_refuses_new_jobs_and_still_cancels_old_ones() {
    let mut stack = Stack::start();
    let api = stack.api_with(&[ACCEPT]).await;
    let id = api.submit("t", &json!(1)).await;
    let mut connection = stack.redis.client().get_connection().unwrap();
    let mut set = |value: &str| {
        redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(value).exec(&mut connection).unwrap();
    };
    set("1");
    let refused = api.post("/crunch", &json!({})).await;
    is_problem(&refused, 503, "full");
    assert_eq!(refused.json().get("outcome"), None);
    assert_eq!(api.post_empty(&format!("/jobs/{id}/cancel")).await.status.as_u16(), 200);
    set("0");
    assert_eq!(api.post("/crunch", &json!({})).await.status.as_u16(), 202);
}
