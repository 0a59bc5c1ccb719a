//! The history: what attempts and queues did over time.

use crunch_tests::{Stack, eventually};
use serde_json::{Value, json};

use super::assert_problem;
use super::keys::ApiWithKeys;

/// The sum over the points of a series.
fn sum(series: &Value, name: &str) -> u64 {
    series[name].as_array().unwrap().iter().filter_map(Value::as_u64).sum()
}

#[tokio::test]
async fn what_workers_did_and_how_deep_queues_were_is_shown() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let mut worker = stack.worker(&api, 2).await;
    for n in 1..=3 {
        let id = api.submit("square", &json!({ "n": n })).await;
        api.wait_for_status(&id, "succeeded").await;
    }
    // Its last counts are sent when it ends.
    worker.terminate().await;
    let later = api.submit("square", &json!({ "n": 4 })).await;
    for step in ["minute", "hour"] {
        let history = eventually("the history has both", async || {
            let history = api.get(&format!("/history?step={step}")).await.json();
            let is_there = |name: &str| !history[name].as_array().unwrap().is_empty();
            (is_there("attempts") && is_there("queues")).then_some(history)
        })
        .await;
        assert_eq!(history["step"], step);
        let attempts = &history["attempts"][0];
        assert_eq!((&attempts["queue"], &attempts["task"]), (&json!("square"), &json!("square")));
        assert_eq!((sum(attempts, "succeeded"), sum(attempts, "failed")), (3, 0), "{attempts}");
        assert_eq!(attempts["succeeded"].as_array().unwrap().len(), 60);
        assert!(attempts["p50_ms"].as_u64().unwrap() >= 1);
        let queues = history["queues"].as_array().unwrap();
        let queue = queues.iter().find(|queue| queue["queue"] == "square").unwrap();
        assert_eq!(queue["queued"].as_array().unwrap().len(), 60);
    }
    let of_task = api.get("/history?task=other").await.json();
    assert_eq!((&of_task["attempts"], &of_task["queues"]), (&json!([]), &json!([])));
    assert_eq!(api.get("/history?queue=none").await.status.as_u16(), 404);
    assert_eq!(api.get("/history?from=2026-01-01T00:00:00Z").await.status.as_u16(), 400);
    assert_eq!(api.get(&format!("/jobs/{later}")).await.json()["status"], "queued");
}

#[tokio::test]
async fn a_key_for_some_queues_sees_only_their_history() {
    let mut keyed = ApiWithKeys::start(&[]).await;
    let admin = keyed.create_key(&["--scopes", "admin"]).await;
    let own = keyed.create_key(&["--scopes", "read", "--queues", "mine"]).await;
    let mut worker = keyed.stack.worker_process(1, &[("CRUNCH_WORKER_QUEUES", "mine,square")]);
    for queue in ["mine", "square"] {
        let job = json!({ "task": "square", "queue": queue, "payload": { "n": 1 } });
        let created = keyed.post(&admin, "/jobs?wait=20", &job).await;
        assert_eq!(created.json()["status"], "succeeded", "{}", created.json());
    }
    worker.terminate().await;
    let queues = async |key: &str| {
        let history = keyed.send(key, "GET", "/history").await.json();
        let names = history["attempts"].as_array().unwrap().iter().map(|it| it["queue"].clone());
        names.collect::<Vec<_>>()
    };
    assert_eq!(queues(&admin).await, [json!("mine"), json!("square")]);
    assert_eq!(queues(&own).await, [json!("mine")]);
    assert_problem(&keyed.send(&own, "GET", "/history?queue=square").await, 404, "not-found");
}
