//! What operators request of workers, and what workers show.

use crunch_tests::{Api, Stack, Stage, eventually};
use serde_json::{Value, json};

use super::assert_problem;
use super::keys::ApiWithKeys;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The only worker.
async fn worker(api: &Api) -> Value {
    let workers = api.get("/workers").await.json()["items"].as_array().unwrap().clone();
    workers.into_iter().find(|worker| worker["kind"] == "worker").unwrap()
}

async fn wait_for_state(api: &Api, id: &str, state: &str) {
    eventually("the worker shows its state", async || {
        let worker = api.get(&format!("/workers/{id}")).await.json();
        (worker["state"] == state).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_quiet_worker_claims_nothing_until_it_is_resumed() {
    let (_stack, api, _worker) = Stack::simple(2).await;
    let stage = Stage::open().await;
    let running = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    let shown = worker(&api).await;
    let id = shown["id"].as_str().unwrap();
    assert_eq!((&shown["state"], &shown["wanted"]), (&json!("running"), &Value::Null));

    let answer = api.post_empty(&format!("/workers/{id}/quiet")).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["wanted"]), (202, &json!("quiet")));
    wait_for_state(&api, id, "quiet").await;
    assert_eq!(api.get("/queues/square").await.json()["workers"], 0, "it claims from none");
    let waiting = api.submit("square", &json!({ "n": 3 })).await;
    actor.returns(&json!(1)).await;
    api.wait_for_status(&running, "succeeded").await;
    // With the slot that became idle it would have been claimed at once.
    assert_eq!(api.job(&waiting).await["status"], "queued");

    let answer = api.post_empty(&format!("/workers/{id}/resume")).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["wanted"]), (202, &json!("running")));
    api.wait_for_status(&waiting, "succeeded").await;
    wait_for_state(&api, id, "running").await;
}

#[tokio::test]
async fn a_worker_that_is_to_stop_ends_once_its_jobs_have_ended() {
    let (_stack, api, mut process) = Stack::simple(2).await;
    let stage = Stage::open().await;
    let running = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    let id = worker(&api).await["id"].as_str().unwrap().to_owned();
    let answer = api.post_empty(&format!("/workers/{id}/stop")).await;
    assert_eq!(answer.status.as_u16(), 202);
    wait_for_state(&api, &id, "stopping").await;
    assert!(!process.has_exited());
    actor.returns(&json!(1)).await;
    assert!(process.exited().await.success());
    api.wait_for_status(&running, "succeeded").await;
    assert_problem(&api.get(&format!("/workers/{id}")).await, 404, "not-found");
    let late = api.post_empty(&format!("/workers/{id}/quiet")).await;
    assert_problem(&late, 404, "not-found");
}

#[tokio::test]
async fn a_worker_that_shuts_down_shows_it() {
    let (_stack, api, mut process) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let running = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    let id = worker(&api).await["id"].as_str().unwrap().to_owned();
    process.signal(rustix::process::Signal::TERM);
    wait_for_state(&api, &id, "stopping").await;
    actor.returns(&json!(1)).await;
    assert!(process.exited().await.success());
    api.wait_for_status(&running, "succeeded").await;
}

#[tokio::test]
async fn what_is_no_worker_of_the_caller_is_not_steered() {
    let mut keyed = ApiWithKeys::start(&[("CRUNCH_WEBHOOK_SECRETS", SECRET)]).await;
    let admin = keyed.create_key(&["--scopes", "admin"]).await;
    let one = keyed.create_key(&["--scopes", "admin", "--queues", "mine"]).await;
    let other = keyed.create_key(&["--scopes", "admin", "--queues", "other"]).await;
    let _worker = keyed.stack.worker_process(1, &[("CRUNCH_WORKER_QUEUES", "mine,square")]);
    let workers = eventually("both are listed", async || {
        let workers = keyed.send(&admin, "GET", "/workers").await.json()["items"].clone();
        (workers.as_array().unwrap().len() == 2).then_some(workers)
    })
    .await;
    let id = |kind: &str| {
        let found = workers.as_array().unwrap().iter().find(|worker| worker["kind"] == kind);
        found.unwrap()["id"].as_str().unwrap().to_owned()
    };
    for verb in ["quiet", "resume", "stop"] {
        let path = format!("/workers/{}/{verb}", id("worker"));
        assert_problem(&keyed.send(&one, "POST", &path).await, 403, "forbidden");
        assert_problem(&keyed.send(&other, "POST", &path).await, 404, "not-found");
        let path = format!("/workers/{}/{verb}", id("api"));
        assert_problem(&keyed.send(&admin, "POST", &path).await, 409, "not-a-worker");
        let none = keyed.send(&admin, "POST", &format!("/workers/none/{verb}")).await;
        assert_problem(&none, 404, "not-found");
    }
    let path = format!("/workers/{}", id("worker"));
    assert_eq!(keyed.send(&one, "GET", &path).await.json()["queues"], json!(["mine"]));
    assert_problem(&keyed.send(&other, "GET", &path).await, 404, "not-found");
}
