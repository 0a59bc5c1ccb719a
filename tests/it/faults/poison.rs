//! Jobs that kill their worker, and invalid payloads and results. (F22, F24)

use crunch_tests::tasks::Poison;
use crunch_tests::{Stack, Stage, Worker, eventually};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::*;

/// Replaces each worker that has died, until all of these jobs have ended; returns the jobs.
async fn wait_and_replace_workers(
    stack: &mut Stack,
    workers: &mut [Worker],
    api: &Api,
    ids: &[String],
) -> Vec<Value> {
    let mut ended = Vec::new();
    for id in ids {
        let job = eventually("a job has ended", async || {
            for worker in
                workers.iter_mut().filter_map(|worker| worker.has_exited().then_some(worker))
            {
                *worker = stack.worker_process(2, &SHORT_LEASE);
            }
            let job = api.job(id).await;
            (!job["finished_at"].is_null()).then_some(job)
        })
        .await;
        ended.push(job);
    }
    ended
}

#[tokio::test]
async fn jobs_that_kill_their_workers_fail_and_other_jobs_succeed() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(stack.worker_with(&api, 2, &SHORT_LEASE).await);
    }

    let innocent = submit_squares(&api, 100, 100).await;
    let mut poison = Vec::new();
    for by in [Poison::Abort, Poison::Segfault, Poison::StackOverflow, Poison::OutOfMemory] {
        poison.push(api.submit("die", &json!(by)).await);
    }

    for job in wait_and_replace_workers(&mut stack, &mut workers, &api, &poison).await {
        let ended = (&job["status"], &job["error"]["code"]);
        assert_eq!(ended, (&json!("failed"), &json!("worker_lost")), "{job}");
        let outcomes = outcomes(&api, job["id"].as_str().unwrap()).await;
        assert_eq!(outcomes.iter().filter(|outcome| *outcome == "lost").count(), 4, "{outcomes:?}");
    }
    wait_and_replace_workers(&mut stack, &mut workers, &api, &innocent).await;
    assert_squares(&api, &innocent).await;
}

#[tokio::test]
async fn a_job_that_killed_workers_waits_for_one_that_runs_nothing_else() {
    let mut stack = Stack::with_one_partition();
    let api = stack.api().await;
    let stage = Stage::open().await;
    let mut worker = stack.worker_with(&api, 1, &SHORT_LEASE).await;
    let suspect = api.submit("act", &stage.payload()).await;
    let _first = stage.wait_for_handler().await;
    worker.kill().await;
    let mut worker = stack.worker_with(&api, 1, &SHORT_LEASE).await;
    let _second = stage.wait_for_handler().await;

    api.post("/queues/act/pause", &json!({})).await;
    worker.kill().await;
    api.wait_for_job(&suspect, "is queued again", |job| job["status"] == "queued").await;
    let _last_worker = stack.worker_with(&api, 2, &SHORT_LEASE).await;
    api.submit_with("act", &stage.payload(), &json!({ "queue": "crunch" })).await;
    let innocent = stage.wait_for_handler().await;
    api.post("/queues/act/resume", &json!({})).await;

    // The worker has a free slot, sees the suspect, and is chosen to end its other jobs without claiming more.
    let mut redis = stack.redis.connect().await;
    eventually("the worker is reserved", async || {
        let is_reserved: bool =
            redis::cmd("EXISTS").arg("crunch:{0}:reserved").query_async(&mut redis).await.unwrap();
        is_reserved.then_some(())
    })
    .await;
    assert!(stage.is_empty().await);
    innocent.returns(&json!(null)).await;
    let alone = stage.wait_for_handler().await;
    assert_eq!(alone.id, suspect);
    alone.returns(&json!(null)).await;
    api.wait_for_status(&suspect, "succeeded").await;
}

#[tokio::test]
async fn invalid_results_fail_their_jobs_with_a_reason() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let invalid = [("ff", 1), ("7b", 1), ("", 0), ("31 32", 1), ("4e614e", 1), ("5b", 100_000)];
    for (hex, times) in invalid {
        let hex = hex.replace(' ', "20");
        let id = api.submit("return_bytes", &json!({ "hex": hex, "times": times })).await;
        let job = api.wait_for_status(&id, "failed").await;
        assert_eq!(job["error"]["code"], "result_invalid", "{hex}: {job}");
        assert!(job["error"]["message"].as_str().unwrap().starts_with("not JSON: "), "{job}");
    }

    // The worker still runs jobs: the next one ends, too.
    let id = api.submit("return_bytes", &json!({ "hex": "2220225c7564383030", "times": 1 })).await;
    let job = api.wait_for_job(&id, "ended", |job| !job["finished_at"].is_null()).await;
    assert_ne!(job["status"], "running", "{job}");
}

#[tokio::test]
async fn a_deeply_nested_result_can_be_fetched_and_breaks_no_other_request() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let (open, close) = ("[".repeat(20_000), "]".repeat(20_000));
    let deep = format!("{open}{close}");
    let hex = deep.bytes().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let id = api.submit("return_bytes", &json!({ "hex": hex, "times": 1 })).await;

    eventually("the job has ended", async || {
        // Compared as bytes: it is nested too deeply for this test to parse.
        let answer = api.get(&format!("/jobs/{id}/result")).await;
        (answer.status == StatusCode::OK).then(|| assert_eq!(answer.body, deep))
    })
    .await;

    let document = api.get(&format!("/jobs/{id}")).await;
    assert_eq!(document.status, StatusCode::OK);
    assert_eq!(api.get("/jobs?limit=10").await.status, StatusCode::OK);
}

#[tokio::test]
async fn invalid_payloads_never_become_jobs() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let bodies: [&[u8]; 6] = [b"\"\xff\"", b"{", b"", b"NaN", b"1 2", deep.as_bytes()];
    for body in bodies {
        let request = api.request(reqwest::Method::POST, "/tasks/echo/jobs");
        let request = request.header("content-type", "application/json").body(body.to_vec());
        let answer = api.send(request).await;
        let actual = (answer.status, answer.problem());
        assert_eq!(actual, (StatusCode::BAD_REQUEST, "malformed-json".to_owned()), "{body:.20?}");
    }
    assert_eq!(count(&api, "echo").await, 0);
}
