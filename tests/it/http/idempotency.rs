//! The same request twice is one job; another request with the same key is refused.

use std::collections::HashSet;
use std::sync::Arc;

use crunch_tests::{Answer, Api, Stack, Stage};
use reqwest::Method;
use serde_json::{Value, json};

use super::{api_without_workers, expect_problem, pointers};

async fn post(api: &Api, path: &str, key: &str, body: &str) -> Answer {
    let request = api.request(Method::POST, path).header("content-type", "application/json");
    api.send(request.header("idempotency-key", key).body(body.to_owned())).await
}

const SUBMISSIONS: [(&str, &str); 3] =
    [("/crunch", "{}"), ("/tasks/t/jobs", "{}"), ("/jobs", r#"{"task":"t"}"#)];

#[tokio::test]
async fn a_replay_returns_the_same_job_in_its_current_state() {
    let (_stack, api) = api_without_workers().await;

    for (path, body) in SUBMISSIONS {
        let first = post(&api, path, "\"key-1\"", body).await;
        assert_eq!((first.status.as_u16(), first.header("idempotency-replayed")), (202, ""));
        api.post_empty(&format!("/jobs/{}/cancel", first.id())).await;
        for key in ["\"key-1\"", "key-1", "  key-1  "] {
            let again = post(&api, path, key, body).await;
            assert_eq!(
                (again.status.as_u16(), again.header("idempotency-replayed")),
                (202, "true"),
                "{path}"
            );
            assert_eq!(again.json(), api.job(&first.id()).await);
            assert_eq!(again.json()["status"], "canceled");
            for name in
                ["location", "operation-location", "content-location", "link", "retry-after"]
            {
                assert_eq!(again.header(name), first.header(name));
            }
        }
    }
}

#[tokio::test]
async fn another_request_under_the_same_key_is_refused() {
    let (_stack, api) = api_without_workers().await;
    for (path, body) in SUBMISSIONS {
        post(&api, path, "k", body).await;
        let other = post(&api, path, "k", &format!("{body} ")).await;
        expect_problem(&api, &other, 422, "idempotency-conflict").await;
    }
    let other_options = post(&api, "/crunch?priority=high", "k", "{}").await;
    expect_problem(&api, &other_options, 422, "idempotency-conflict").await;
    assert_eq!(api.get("/jobs").await.json()["items"].as_array().unwrap().len(), SUBMISSIONS.len());
}

#[tokio::test]
async fn a_key_belongs_to_its_path() {
    let (_stack, api) = api_without_workers().await;
    let mut ids = HashSet::new();
    for (path, body) in SUBMISSIONS.into_iter().chain([("/tasks/u/jobs", "{}")]) {
        ids.insert(post(&api, path, "same", body).await.id());
    }
    assert_eq!(ids.len(), 4);
}

#[tokio::test]
async fn a_refused_request_does_not_use_up_its_key() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    expect_problem(&api, &post(&api, "/crunch", "k", "{").await, 400, "malformed-json").await;
    expect_problem(&api, &post(&api, "/crunch?x=1", "k", "1").await, 400, "invalid-parameter")
        .await;
    expect_problem(&api, &post(&api, "/crunch", "k", "2").await, 503, "no-worker-yet").await;
    let _worker = stack.worker(&api, 1).await;
    let accepted = post(&api, "/crunch", "k", r#"{"photons":1}"#).await;
    assert_eq!((accepted.status.as_u16(), accepted.header("idempotency-replayed")), (202, ""));
}

#[tokio::test]
async fn an_invalid_key_is_refused() {
    let (_stack, api) = api_without_workers().await;
    let long = "k".repeat(256);

    for bad in ["", "\"\"", "a b", "\"a b\"", "\"", "\"a", "a\"", "a\tb", long.as_str()] {
        for (path, body) in SUBMISSIONS {
            expect_problem(
                &api,
                &post(&api, path, bad, body).await,
                400,
                "invalid-idempotency-key",
            )
            .await;
        }
    }
    let not_ascii = reqwest::header::HeaderValue::from_bytes(b"k\xc3\xa4").unwrap();
    let request = api.request(Method::POST, "/crunch").header("idempotency-key", not_ascii);
    expect_problem(&api, &api.send(request.json(&1)).await, 400, "invalid-idempotency-key").await;
    let twice = api.request(Method::POST, "/crunch").header("idempotency-key", "a");
    let twice = api.send(twice.header("idempotency-key", "b").json(&1)).await;
    expect_problem(&api, &twice, 400, "invalid-idempotency-key").await;
    let longest = format!("\"{}\"", &long[1..]);

    assert_eq!(post(&api, "/crunch", &longest, "1").await.status.as_u16(), 202);
}

#[tokio::test]
async fn a_key_may_be_a_member_or_a_parameter_and_must_agree_with_the_header() {
    let (_stack, api) = api_without_workers().await;
    let body = json!({ "task": "t", "idempotency_key": "k" });
    let first = api.post("/jobs", &body).await;
    let again = api.post("/jobs", &body).await;
    assert_eq!((again.id(), again.header("idempotency-replayed")), (first.id(), "true"));
    assert_eq!(post(&api, "/jobs", "k", &body.to_string()).await.id(), first.id());
    let differs = post(&api, "/jobs", "other", &body.to_string()).await;
    expect_problem(&api, &differs, 400, "invalid-idempotency-key").await;
    let first = api.post("/crunch?idempotency_key=q", &json!(1)).await;
    assert_eq!(api.post("/crunch?idempotency_key=q", &json!(1)).await.id(), first.id());
    let differs = post(&api, "/crunch?idempotency_key=q", "other", "1").await;
    expect_problem(&api, &differs, 400, "invalid-idempotency-key").await;
}

#[tokio::test]
async fn a_job_with_a_key_is_kept_as_long_as_the_key() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let body = stage.payload().to_string();
    let path = "/tasks/act/jobs?retention_ms=0";
    let id = post(&api, path, "k", &body).await.id();

    stage.wait_for_handler().await.returns(&json!(7)).await;
    let job = api.wait_for_status(&id, "succeeded").await;
    let day_later = job["expires_at"].as_str().unwrap() > job["finished_at"].as_str().unwrap();
    assert!(day_later, "{job}");
    let again = post(&api, path, "k", &body).await;
    assert_eq!((again.id(), &again.json()["result"]), (id.clone(), &json!(7)));
    let deleted = api.send(api.request(Method::DELETE, &format!("/jobs/{id}"))).await;

    assert_eq!(deleted.status.as_u16(), 204);
    expect_problem(&api, &post(&api, path, "k", &body).await, 410, "gone").await;
}

/// The log of an API, without debug lines.
fn log_without_debug(api: &Api) -> String {
    let log = api.process.log();
    let lines = log.lines().filter(|line| !line.contains(" DEBUG "));
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn fifty_clients_at_once_create_one_job() {
    let mut stack = Stack::start();
    let accept = [("CRUNCH_API_UNKNOWN_TASKS", "accept")];
    let apis = Arc::new([stack.api_with(&accept).await, stack.api_with(&accept).await]);
    const RACES: usize = 300;

    for race in 0..RACES {
        let mut clients = tokio::task::JoinSet::new();
        for client in 0..50 {
            let apis = apis.clone();
            clients.spawn(async move {
                let api = &apis[client % 2];
                let answer = post(api, "/crunch", &format!("race-{race}"), "{}").await;
                assert_eq!(answer.status.as_u16(), 202, "{answer:?}\n{}", log_without_debug(api));
                (answer.id(), answer.header("idempotency-replayed") == "true")
            });
        }
        let answers = clients.join_all().await;
        let ids: HashSet<_> = answers.iter().map(|(id, _)| id).collect();
        let created = answers.iter().filter(|(_, replayed)| !replayed).count();
        assert_eq!((ids.len(), created), (1, 1), "race {race}");
    }
    let queue = apis[0].get("/queues/crunch").await.json();

    assert_eq!(queue["counts"]["queued"], RACES);
}

#[tokio::test]
async fn items_of_a_batch_have_their_own_keys() {
    let (_stack, api) = api_without_workers().await;
    let header = post(&api, "/jobs/batch", "k", r#"{"jobs":[{"task":"t"}]}"#).await;

    expect_problem(&api, &header, 400, "invalid-idempotency-key").await;
    let item = |key: Value, payload: u64| json!({ "task": "t", "idempotency_key": key, "payload": payload });
    let batch = json!({ "jobs": [item(json!("a"), 1), item(json!("b"), 1), item(json!("a"), 1), item(json!("a"), 2), item(json!(""), 1)] });
    let first = api.post("/jobs/batch", &batch).await;
    assert_eq!(first.status.as_u16(), 202);
    let items = first.json()["items"].clone();
    let codes: Vec<_> =
        items.as_array().unwrap().iter().map(|item| item["status"].as_u64().unwrap()).collect();
    assert_eq!(codes, [202, 202, 202, 422, 422]);
    assert_eq!(items[0]["job"]["id"], items[2]["job"]["id"]);
    assert_ne!(items[0]["job"]["id"], items[1]["job"]["id"]);
    assert_eq!(items[3]["problem"]["type"], "/problems/idempotency-conflict");
    assert_eq!(pointers(&items[4]["problem"]), ["/jobs/4/idempotency_key"]);
    let again = api.post("/jobs/batch", &json!({ "jobs": [item(json!("b"), 1)] })).await.json();

    assert_eq!(again["items"][0]["job"]["id"], items[1]["job"]["id"]);
}
