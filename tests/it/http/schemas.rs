//! Schemas of payloads that workers declare: every API knows them within a second, and refuses invalid payloads.

use std::time::Duration;

use crunch_common::broker::Library;
use crunch_common::task::TaskDescriptor;
use crunch_tests::{Api, Stack, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{assert_problem, pointers};

/// Declares the task `t` with this schema, without starting a worker.
async fn declare(stack: &Stack, schema: &Value) {
    let mut task = TaskDescriptor::new("t".parse().unwrap());
    task.max_payload = 8 * 1024 * 1024;
    // Parsed from text, as a worker of another version may declare any text.
    task.payload_schema = serde_json::from_str(&schema.to_string()).unwrap();
    stack.redis.broker("crunch", Library::shipped()).announce(&[], &[task]).await.unwrap();
}

async fn api_with_schema(schema: &Value) -> (Stack, Api) {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_ROUTES", "/short=t")]).await;
    declare(&stack, schema).await;
    Stack::wait_for_task(&api, "t").await;
    (stack, api)
}

fn number_schema() -> Value {
    json!({
        "type": "object",
        "properties": { "n": { "type": "integer", "maximum": 9 }, "list": { "items": { "type": "string" } } },
        "required": ["n"],
    })
}

#[tokio::test]
async fn an_invalid_payload_is_refused_on_every_route_with_pointers_into_the_body() {
    let (stack, api) = api_with_schema(&number_schema()).await;
    let bad = json!({ "n": 10, "list": ["a", 1] });

    for path in ["/short", "/tasks/t/jobs"] {
        let answer = api.post(path, &bad).await;
        assert_problem(&answer, 422, "invalid-submission");
        let problem = answer.json();
        let mut found = pointers(&problem);
        found.sort_unstable();
        assert_eq!(found, ["/list/1", "/n"], "{path}");
    }
    let answer = api.post("/jobs", &json!({ "task": "t", "payload": {} })).await;
    assert_problem(&answer, 422, "invalid-submission");
    assert_eq!(pointers(&answer.json()), ["/payload"]);
    let answer = api.post("/jobs", &json!({ "task": "t", "payload": { "n": "1" } })).await;
    assert_eq!(pointers(&answer.json()), ["/payload/n"]);
    let jobs = json!({ "jobs": [{ "task": "t", "payload": { "n": 1 } }, { "task": "t", "payload": { "n": 1.5 } }, { "task": "t" }] });
    let answer = api.post("/jobs/batch", &jobs).await;
    assert_eq!(answer.status.as_u16(), 202);
    let items = answer.json()["items"].take();
    assert_eq!(items[0]["status"], 202, "{items}");
    assert_eq!(pointers(&items[1]["problem"]), ["/jobs/1/payload/n"]);
    assert_eq!(pointers(&items[2]["problem"]), ["/jobs/2/payload"]);
    let all = api.get("/jobs").await.json();

    assert_eq!(all["items"].as_array().unwrap().len(), 1, "only the valid one was accepted");
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_valid_payload_is_kept_byte_by_byte() {
    let (_stack, api) = api_with_schema(&number_schema()).await;
    let text = r#"{ "z": 1.0e2, "n":1, "big": 123456789012345678901234567890 }"#;
    let id = api.post_bytes("/short", text).await.id();
    let kept = api.get(&format!("/jobs/{id}/payload")).await;
    assert_eq!(&kept.body[..], text.as_bytes());
}

#[tokio::test]
async fn a_refused_payload_does_not_use_up_its_key() {
    let (_stack, api) = api_with_schema(&number_schema()).await;
    let send = async |payload: Value| {
        let request = api.request(Method::POST, "/short").header("idempotency-key", "k");
        api.send(request.json(&payload)).await
    };
    assert_problem(&send(json!({})).await, 422, "invalid-submission");
    assert_eq!(send(json!({ "n": 1 })).await.status.as_u16(), 202);
}

#[tokio::test]
async fn a_changed_schema_takes_effect_within_a_second_and_without_a_restart() {
    let (stack, api) = api_with_schema(&json!(true)).await;
    assert_eq!(api.post("/short", &json!([])).await.status.as_u16(), 202);
    declare(&stack, &number_schema()).await;
    let changed = Instant::now();
    // A request for the task would make the API read it again; there is none.
    eventually("the schema is enforced", async || {
        (api.post("/short", &json!([])).await.status.as_u16() == 422).then_some(())
    })
    .await;
    let took = changed.elapsed();
    assert!(took < Duration::from_millis(1500), "{took:?}");
}

#[tokio::test]
async fn a_schema_that_this_version_cannot_use_is_ignored() {
    for schema in [
        json!({ "$schema": "https://example.com/schema/2030" }),
        json!({ "type": "a new type" }),
        json!({ "$ref": "http://127.0.0.1:1/schema.json" }),
        json!("text"),
    ] {
        let (_stack, api) = api_with_schema(&schema).await;
        assert_eq!(api.post("/short", &json!({ "any": 1 })).await.status.as_u16(), 202, "{schema}");
        assert_eq!(api.get("/tasks/t").await.json()["payload_schema"], schema);
    }
}

#[tokio::test]
async fn many_violations_of_a_large_payload_are_reported_in_few_bytes() {
    let (_stack, api) = api_with_schema(&number_schema()).await;
    let huge =
        format!(r#"{{"n":"{}","list":[{}0]}}"#, "secret".repeat(10_000), "0,".repeat(1_000_000));
    let small = format!(r#"{{"n":1,"list":[{}0]}}"#, "0,".repeat(10_000));
    for (body, violations) in [(huge, 1), (small, 20)] {
        let answer = api.post_bytes("/short", body).await;
        assert_problem(&answer, 422, "invalid-submission");
        assert!(answer.body.len() < 4096 && !answer.body.windows(6).any(|it| it == b"secret"));
        assert_eq!(pointers(&answer.json()).len(), violations);
    }
}

#[tokio::test]
async fn invalid_lines_are_refused_one_by_one() {
    let (_stack, api) = api_with_schema(&number_schema()).await;
    let line = |payload: &str| format!("{{\"task\":\"t\",\"payload\":{payload}}}\n");
    let body = line(r#"{"n":1}"#) + &line(r#"{"n":10}"#) + &line("7");
    let request = api.request(Method::POST, "/jobs/batch");
    let request = request.header("content-type", "application/x-ndjson");
    let answer = api.send(request.body(body)).await.json();
    assert_eq!((&answer["accepted"], &answer["refused"]), (&json!(1), &json!(2)), "{answer}");
    assert_eq!(pointers(&answer["errors"][0]["problem"]), ["/payload/n"]);
    assert_eq!(pointers(&answer["errors"][1]["problem"]), ["/payload"]);
}

/// A usual schema of an expression tree, and a payload of sixty levels whose last is invalid.
#[tokio::test]
async fn a_recursive_choice_is_checked_quickly_at_any_depth() {
    let branch = |op: &str| {
        json!({ "type": "object", "required": ["op", "arg"],
            "properties": { "op": { "const": op }, "arg": { "$ref": "#/$defs/node" } } })
    };
    let branches = [branch("not"), branch("neg"), json!({ "type": "number" })];
    let schema = json!({ "$ref": "#/$defs/node", "$defs": { "node": { "anyOf": branches } } });
    let (_stack, api) = api_with_schema(&schema).await;
    let nested = |leaf: Value| (0..60).fold(leaf, |arg, _| json!({ "op": "neg", "arg": arg }));
    let answer = api.post("/short", &nested(json!("bad"))).await;

    assert_problem(&answer, 422, "invalid-submission");
    let detail = answer.json()["errors"][0]["detail"].to_string();

    assert!(detail.contains("matches none of the alternatives"), "{detail}");
    assert_eq!(api.post("/short", &nested(json!(1))).await.status.as_u16(), 202);
}

/// A worker of another version may have declared it.
#[tokio::test]
async fn an_exponential_schema_is_ignored_and_delays_no_request() {
    let to = |at: usize| json!({ "$ref": format!("#/$defs/a{at}") });
    let mut defs: serde_json::Map<_, _> = (0..40)
        .map(|at| (format!("a{at}"), json!({ "allOf": [to(at + 1), to(at + 1)] })))
        .collect();
    defs.insert("a40".to_owned(), json!({ "type": "object" }));
    let (_stack, api) = api_with_schema(&json!({ "$ref": "#/$defs/a0", "$defs": defs })).await;
    assert_eq!(api.post("/short", &json!({})).await.status.as_u16(), 202);
    assert_eq!(api.post("/short", &json!(1)).await.status.as_u16(), 202);
}
