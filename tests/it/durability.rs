//! Submissions that wait for the disk of Redis or for its replicas: what they survive, what is said when they cannot, and
//! that nobody else waits with them.

mod fsync;
mod groups;
mod replica;

use crunch_tests::{Answer, Api, RedisServer, Stack, eventually};
use reqwest::Method;
use serde_json::{Value, json};

/// Jobs need no worker here.
const ACCEPT: (&str, &str) = ("CRUNCH_API_UNKNOWN_TASKS", "accept");

/// An API without workers whose submissions are at least that durable.
async fn insisting(redis: RedisServer, durability: &str) -> (Stack, Api) {
    let mut stack = Stack::on(redis);
    let api = stack.api_with(&[ACCEPT, ("CRUNCH_DURABILITY", durability)]).await;
    (stack, api)
}

/// Submits a job under a key.
async fn submit(api: &Api, path: &str, key: &str) -> Answer {
    let request = api.request(Method::POST, path).header("idempotency-key", key);
    api.send(request.json(&json!({}))).await
}

/// Submits again and again, under one key, until it is taken.
async fn taken(api: &Api, path: &str, key: &str) -> Answer {
    eventually("the job is taken", async || {
        let answer = submit(api, path, key).await;
        (answer.status.as_u16() == 202).then_some(answer)
    })
    .await
}

/// Checks that a job is told to be not durable, and whether it may have been taken.
fn not_durable(answer: &Answer, outcome: Option<&str>) {
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (503, "not-durable"));
    assert_eq!(answer.header("retry-after"), "1");
    let told = answer.json();
    assert_eq!(told.get("outcome").and_then(Value::as_str), outcome, "{told}");
}

/// Waits until `/readyz` says so.
async fn ready(api: &Api, code: u16) {
    let look = async || (api.get("/readyz").await.status.as_u16() == code).then_some(());
    eventually(&format!("/readyz says {code}"), look).await;
}

/// How many jobs wait.
async fn queued(api: &Api) -> u64 {
    let queue = api.get("/queues/crunch").await.json();
    queue["counts"]["queued"].as_u64().unwrap_or_default()
}

/// One line of `INFO` as a number.
fn figure(redis: &RedisServer, section: &str, name: &str) -> u64 {
    let mut connection = redis.client().get_connection().unwrap();
    let text: String = redis::cmd("INFO").arg(section).query(&mut connection).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
    let digits = |character: char| !character.is_ascii_digit();
    value.trim_start_matches(digits).split(digits).next().unwrap().parse().unwrap_or(0)
}

/// Whether this Redis can be asked to wait for its disk; others must be set to `appendfsync always`.
fn waits_for_disk(redis: &RedisServer) -> bool {
    let mut connection = redis.client().get_connection().unwrap();
    let known: Vec<redis::Value> =
        redis::cmd("COMMAND").arg("INFO").arg("WAITAOF").query(&mut connection).unwrap();
    known != [redis::Value::Nil]
}

fn set(redis: &RedisServer, name: &str, value: &str) {
    let mut connection = redis.client().get_connection().unwrap();
    redis::cmd("CONFIG").arg("SET").arg(name).arg(value).exec(&mut connection).unwrap();
}
