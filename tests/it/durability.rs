//! Submissions that wait for the disk of Redis or for its replicas: which failures they survive, how a missing
//! confirmation is reported, and that no other request waits with them.

mod fsync;
mod groups;
mod replica;

use crunch_tests::{Answer, Api, RedisServer, Stack, eventually};
use reqwest::Method;
use serde_json::{Value, json};

/// Accepts jobs of tasks that no worker has.
const ACCEPT_UNKNOWN_TASKS: (&str, &str) = ("CRUNCH_API_UNKNOWN_TASKS", "accept");

/// An API without workers whose submissions have at least this durability.
async fn api_with_durability(redis: RedisServer, durability: &str) -> (Stack, Api) {
    let mut stack = Stack::on(redis);
    let api = stack.api_with(&[ACCEPT_UNKNOWN_TASKS, ("CRUNCH_DURABILITY", durability)]).await;
    (stack, api)
}

/// Submits a job with an idempotency key.
async fn submit(api: &Api, path: &str, key: &str) -> Answer {
    let request = api.request(Method::POST, path).header("idempotency-key", key);
    api.send(request.json(&json!({}))).await
}

/// Submits with the same idempotency key until the job is accepted.
async fn submit_until_accepted(api: &Api, path: &str, key: &str) -> Answer {
    eventually("the job is accepted", async || {
        let answer = submit(api, path, key).await;
        (answer.status.as_u16() == 202).then_some(answer)
    })
    .await
}

/// Checks that a job is reported as not durable, and whether it may have been accepted.
fn expect_not_durable(answer: &Answer, outcome: Option<&str>) {
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (503, "not-durable"));
    assert_eq!(answer.header("retry-after"), "1");
    let problem = answer.json();
    assert_eq!(problem.get("outcome").and_then(Value::as_str), outcome, "{problem}");
}

/// Waits until `/readyz` answers with this code.
async fn wait_for_readiness(api: &Api, code: u16) {
    let check = async || (api.get("/readyz").await.status.as_u16() == code).then_some(());
    eventually(&format!("/readyz answers {code}"), check).await;
}

/// The number of queued jobs.
async fn queued_count(api: &Api) -> u64 {
    let queue = api.get("/queues/crunch").await.json();
    queue["counts"]["queued"].as_u64().unwrap_or_default()
}

/// One value of `INFO` as a number.
fn info_value(redis: &RedisServer, section: &str, name: &str) -> u64 {
    let mut connection = redis.client().get_connection().unwrap();
    let text: String = redis::cmd("INFO").arg(section).query(&mut connection).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
    let digits = |character: char| !character.is_ascii_digit();
    value.trim_start_matches(digits).split(digits).next().unwrap().parse().unwrap_or(0)
}

/// Whether this Redis has `WAITAOF`; others must be set to `appendfsync always`.
fn has_waitaof(redis: &RedisServer) -> bool {
    let mut connection = redis.client().get_connection().unwrap();
    let commands: Vec<redis::Value> =
        redis::cmd("COMMAND").arg("INFO").arg("WAITAOF").query(&mut connection).unwrap();
    commands != [redis::Value::Nil]
}

fn set_config(redis: &RedisServer, name: &str, value: &str) {
    let mut connection = redis.client().get_connection().unwrap();
    redis::cmd("CONFIG").arg("SET").arg(name).arg(value).exec(&mut connection).unwrap();
}
