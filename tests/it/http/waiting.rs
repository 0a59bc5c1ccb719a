//! Answers that are delayed until a job has ended, or has changed.

use crunch_tests::{Answer, Api, RawConnection, Stack, Stage, eventually};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;
use tokio::task::JoinHandle;

use super::{assert_problem, expect_problem};

/// Sends a request in the background.
fn get_in_background(
    api: &Api,
    path: &str,
    headers: &[(&'static str, &str)],
) -> JoinHandle<Answer> {
    let mut request = api.request(Method::GET, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    api.send_in_background(request)
}

/// Waits until a job is watched: then the request that waits for it has been read.
async fn wait_until_watched(stack: &Stack, id: &str) {
    let (mut redis, key) = stack.redis.find(&format!("job:{id}")).await;
    eventually("the job is watched", async || {
        let mut command = redis::cmd("HGET");
        command.arg(&key).arg("watched");
        let watched: Option<String> = command.query_async(&mut redis).await.unwrap();
        watched.map(|_| ())
    })
    .await;
}

#[tokio::test]
async fn a_wait_ends_as_soon_as_its_job_has_ended() {
    let (stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    let waits = [
        get_in_background(&api, &format!("/jobs/{id}?wait=60"), &[]),
        get_in_background(&api, &format!("/result/{id}"), &[("prefer", "wait=60")]),
        get_in_background(&api, &format!("/jobs/{id}/result?wait=60"), &[]),
    ];

    wait_until_watched(&stack, &id).await;
    assert!(waits.iter().all(|wait| !wait.is_finished()));
    actor.returns(&json!({ "answer": 42 })).await;
    let [status, token, result] = waits;
    let (status, token, result) =
        (status.await.unwrap(), token.await.unwrap(), result.await.unwrap());
    assert_eq!(status.json()["status"], "succeeded");
    assert_eq!((token.status.as_u16(), &token.json()["result"]["answer"]), (200, &json!(42)));
    assert_eq!(token.header("preference-applied"), "wait=60");
    assert_eq!((result.status.as_u16(), result.json()), (200, json!({ "answer": 42 })));
    for answer in [status, token, result] {
        assert_eq!(answer.header("vary"), "Prefer");
    }
}

#[tokio::test]
async fn a_wait_that_times_out_returns_the_current_state() {
    let (_stack, api) = super::api_without_workers().await;
    let id = api.submit("t", &json!(1)).await;
    let status = api.get(&format!("/jobs/{id}?wait=1")).await;
    assert_eq!((status.status.as_u16(), &status.json()["status"]), (200, &json!("queued")));
    let token = api.get(&format!("/result/{id}?wait=1")).await;
    assert_eq!((token.status.as_u16(), token.header("retry-after")), (202, "1"));
    let result = api.get(&format!("/jobs/{id}/result?wait=0")).await;
    assert_eq!(result.status.as_u16(), 202);
}

#[tokio::test]
async fn with_an_etag_a_wait_ends_with_the_next_change() {
    let (stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    let mut actor = stage.wait_for_handler().await;
    let path = format!("/jobs/{id}?wait=60");
    let tag = api.get(&format!("/jobs/{id}")).await.header("etag").to_owned();
    let wait = get_in_background(&api, &path, &[("if-none-match", &tag)]);

    wait_until_watched(&stack, &id).await;
    assert!(!wait.is_finished());
    actor.send(&json!({ "progress": [0.5, "half"] })).await;
    let changed = wait.await.unwrap();
    assert_eq!((changed.status.as_u16(), &changed.json()["progress"]), (200, &json!(0.5)));
    let tag = changed.header("etag").to_owned();
    let unchanged =
        get_in_background(&api, &format!("/jobs/{id}?wait=1"), &[("if-none-match", &tag)]);
    let unchanged = unchanged.await.unwrap();
    assert_eq!((unchanged.status.as_u16(), unchanged.body.len()), (304, 0));
    let other = get_in_background(&api, &path, &[("if-none-match", "\"1\"")]).await.unwrap();
    assert_eq!(other.status.as_u16(), 200, "a wait for an older version ends at once");
    actor.returns(&json!(1)).await;
}

#[tokio::test]
async fn a_retry_by_hand_is_a_change_of_a_job_that_had_ended() {
    let (stack, api) = super::api_without_workers().await;
    let id = api.submit("t", &json!(1)).await;
    let canceled = api.post_empty(&format!("/jobs/{id}/cancel")).await;
    assert_eq!(canceled.json()["status"], "canceled");
    let tag = api.get(&format!("/jobs/{id}")).await.header("etag").to_owned();
    let wait = get_in_background(&api, &format!("/jobs/{id}?wait=60"), &[("if-none-match", &tag)]);
    wait_until_watched(&stack, &id).await;
    api.post_empty(&format!("/jobs/{id}/retry")).await;
    assert_eq!(wait.await.unwrap().json()["status"], "queued");
}

#[tokio::test]
async fn a_submission_may_wait_for_the_end_of_its_job() {
    let (_stack, api, _worker) = Stack::simple(1).await;

    for path in ["/tasks/echo/jobs?wait=60", "/jobs?wait=60"] {
        let envelope = json!({ "task": "echo", "payload": [1] });
        let body = if path.starts_with("/jobs") { envelope } else { json!([1]) };
        let answer = api.post(path, &body).await;
        let job = answer.json();
        assert_eq!((answer.status.as_u16(), &job["result"]), (200, &json!([1])), "{job}");
        assert_eq!(answer.header("retry-after"), "");
        assert!(answer.header("operation-location").ends_with(&format!("/jobs/{}", answer.id())));
    }
    let request = api.request(Method::POST, "/tasks/echo/jobs").json(&json!(2));
    let answer = api.send(request.header("prefer", "respond-async, wait=60")).await;
    assert_eq!(answer.status.as_u16(), 200);
    assert_eq!(answer.header("preference-applied"), "respond-async, wait=60");
    let request = api.request(Method::POST, "/tasks/echo/jobs").json(&json!(2));
    let answer = api.send(request.header("prefer", "respond-async")).await;
    assert_eq!(answer.status.as_u16(), 202);
    let delayed = api.post("/tasks/echo/jobs?wait=1&delay_ms=3600000", &json!(3)).await;
    assert_eq!((delayed.status.as_u16(), delayed.header("retry-after")), (202, "1"));
    let failed = api.post("/tasks/square/jobs?wait=60&max_attempts=1", &json!("no number")).await;

    assert_eq!((failed.status.as_u16(), &failed.json()["status"]), (200, &json!("failed")));
}

#[tokio::test]
async fn a_replay_waits_too_and_may_have_another_time_limit() {
    let (stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let submit = |wait: u32| {
        let path = format!("/tasks/act/jobs?wait={wait}");
        let request = api.request(Method::POST, &path).header("idempotency-key", "k");
        request.json(&stage.payload())
    };
    let first = api.send(submit(0)).await;

    assert_eq!(first.status.as_u16(), 202);
    let actor = stage.wait_for_handler().await;
    let again = api.send_in_background(submit(60));
    wait_until_watched(&stack, &first.id()).await;
    actor.returns(&json!(1)).await;
    let again = again.await.unwrap();

    assert_eq!((again.status.as_u16(), again.id()), (200, first.id()));
    assert_eq!(again.header("idempotency-replayed"), "true");
}

#[tokio::test]
async fn an_invalid_wait_is_refused() {
    let (_stack, api) = super::api_without_workers().await;
    let id = api.submit("t", &json!(1)).await;

    for path in [format!("/jobs/{id}"), format!("/result/{id}"), format!("/jobs/{id}/result")] {
        for bad in ["-1", "1.5", "soon", "", "1&wait=1"] {
            let answer = api.get(&format!("{path}?wait={bad}")).await;
            expect_problem(&api, &answer, 400, "invalid-parameter").await;
        }
        let request = api.request(Method::GET, &path).header("prefer", "wait=soon");
        assert!(api.send(request).await.status.is_success(), "an invalid preference is ignored");
    }
    assert_eq!(api.get("/jobs/unknown?wait=5").await.status.as_u16(), 404);
    for path in ["/jobs?wait=soon", "/crunch?wait=soon", "/tasks/t/jobs?wait=-1"] {
        let answer = api.post(path, &json!({ "task": "t" })).await;
        expect_problem(&api, &answer, 400, "invalid-parameter").await;
    }
}

#[tokio::test]
async fn a_wait_ends_with_503_when_redis_is_unavailable_and_survives_a_short_outage() {
    let mut stack = Stack::start();
    let proxy = stack.proxy();
    let api = stack.api_via(&proxy).await;
    let worker = stack.worker(&api, 1).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    let wait = get_in_background(&api, &format!("/jobs/{id}?wait=60"), &[]);
    wait_until_watched(&stack, &id).await;
    proxy.reset();
    let other = get_in_background(&api, &format!("/jobs/{id}?wait=60"), &[]);
    actor.returns(&json!(1)).await;
    assert_eq!(wait.await.unwrap().json()["status"], "succeeded");
    assert_eq!(other.await.unwrap().json()["status"], "succeeded");

    let id = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    let wait = get_in_background(&api, &format!("/jobs/{id}?wait=60"), &[]);
    wait_until_watched(&stack, &id).await;
    proxy.refuse().await;
    assert_problem(&wait.await.unwrap(), 503, "unavailable");
    drop((actor, worker));
}

#[tokio::test]
async fn a_client_that_disconnects_while_it_waits_does_not_affect_its_job() {
    let (stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let mut client = RawConnection::to(&api).await;
    client.write_head("POST /tasks/act/jobs?wait=60", &["Content-Type: application/json"]).await;
    let body = stage.payload().to_string();
    client.write(format!("Content-Length: {}\r\n\r\n{body}", body.len())).await.unwrap();
    let actor = stage.wait_for_handler().await;
    let id = actor.id.clone();
    wait_until_watched(&stack, &id).await;
    drop(client);
    actor.returns(&json!(1)).await;
    api.wait_for_status(&id, "succeeded").await;
}

#[tokio::test]
async fn waits_end_with_the_state_when_the_api_shuts_down() {
    let (stack, mut api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    let wait = get_in_background(&api, &format!("/jobs/{id}?wait=60"), &[]);
    wait_until_watched(&stack, &id).await;
    api.process.signal(Signal::TERM);
    let answer = wait.await.unwrap();
    assert_eq!((answer.status.as_u16(), &answer.json()["status"]), (200, &json!("running")));
    assert!(api.process.exited().await.success());
    actor.returns(&json!(1)).await;
}
