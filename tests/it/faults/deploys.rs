//! Deploys that cause no failed request and delay no job. (F6)

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crunch_tests::{Api, Stack};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::*;

/// A client as `docs/upgrade.md` requires it for a rolling deploy: uses instances whose `/readyz` is 200, and tries
/// another one if a connection is refused.
struct Client {
    http: reqwest::Client,
    /// The URLs of the instances, as a load balancer has them.
    instances: Mutex<Vec<String>>,
}

impl Client {
    /// Submits one job; returns its id, or what went wrong.
    async fn submit(&self, n: u64) -> Result<String, String> {
        loop {
            let Some(url) = self.ready_instance().await else { continue };
            let job = json!({ "task": "square", "payload": { "n": n, "busy_ms": 20 } });
            let response = match self.http.post(format!("{url}/jobs")).json(&job).send().await {
                Err(error) if error.is_connect() => continue,
                response => response.map_err(|error| format!("{error:?}"))?,
            };
            let status = response.status();
            let body: Value = response.json().await.map_err(|error| format!("{error:?}"))?;
            if status != StatusCode::ACCEPTED {
                return Err(format!("{status} {body}"));
            }
            return Ok(body["id"].as_str().unwrap().to_owned());
        }
    }

    async fn ready_instance(&self) -> Option<String> {
        let instances = self.instances.lock().unwrap().clone();
        for url in instances {
            let response = self.http.get(format!("{url}/readyz")).send().await;
            if response.is_ok_and(|response| response.status() == StatusCode::OK) {
                return Some(url);
            }
        }
        None
    }
}

#[tokio::test]
async fn ten_rolling_restarts_under_load_fail_no_request() {
    let mut stack = Stack::start();
    let short_drain = [("CRUNCH_API_DRAIN_MS", "200")];
    let mut apis = vec![stack.api_with(&short_drain).await, stack.api_with(&short_drain).await];
    let mut workers = vec![stack.worker(&apis[0], 4).await, stack.worker(&apis[0], 4).await];
    Stack::wait_for_task(&apis[1], "square").await;
    let urls = |apis: &[Api]| apis.iter().map(|api| api.url.clone()).collect::<Vec<_>>();
    let client = Client { http: reqwest::Client::new(), instances: Mutex::new(urls(&apis)) };

    let deploys_are_over = AtomicBool::new(false);
    let load = async {
        let mut ids = Vec::new();
        while !deploys_are_over.load(Ordering::Relaxed) {
            ids.push(client.submit(ids.len() as u64).await);
        }
        ids.into_iter().collect::<Result<Vec<_>, _>>()
    };
    let restarts = async {
        for _ in 0..10 {
            let mut old_api = apis.remove(0);
            assert_eq!(old_api.process.terminate().await.code(), Some(0));
            apis.push(stack.api_with(&short_drain).await);
            Stack::wait_for_task(&apis[1], "square").await;
            *client.instances.lock().unwrap() = urls(&apis);
            let mut old_worker = workers.remove(0);
            assert_eq!(old_worker.terminate().await.code(), Some(0));
            workers.push(stack.worker(&apis[0], 4).await);
        }
        deploys_are_over.store(true, Ordering::Relaxed);
    };

    let (ids, ()) = tokio::join!(load, restarts);
    let ids = ids.expect("no request fails");

    wait_until_drained(&apis[0], "square").await;
    assert_squares(&apis[0], &ids).await;
    let entries = stack.ledger();
    assert!(runs(&entries).values().all(|runs| runs.len() == 1), "a job ran twice");
}

/// A task that some workers lack, in a queue that all of them serve: its jobs reach the workers that have it, and other
/// jobs keep running.
#[tokio::test]
async fn jobs_of_a_new_task_wait_for_new_workers_and_delay_no_other_job() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let path = stack.directory().join("tasks.toml");
    let tasks_file = "[[task]]\nname = \"new\"\nqueue = \"square\"\ncommand = [\"cat\"]\n";
    std::fs::write(&path, tasks_file).unwrap();
    let with_new_task = [("CRUNCH_TASKS", path.to_str().unwrap())];
    // Declares the task, then stops: until another worker has it, only workers without it are left.
    let mut declaring_worker = stack.worker_with(&api, 1, &with_new_task).await;
    Stack::wait_for_task(&api, "new").await;
    declaring_worker.terminate().await;
    let mut old_worker = stack.worker(&api, 2).await;

    let batch = |task: &str, payload: Value| {
        let job = json!({ "task": task, "payload": payload, "queue": "square" });
        json!({ "jobs": vec![job; 100] })
    };
    let new = api.post("/jobs/batch", &batch("new", json!(1))).await.json();
    let others = api.post("/jobs/batch", &batch("square", json!({ "n": 3 }))).await.json();
    let ids = |answer: &Value| -> Vec<String> {
        let jobs = answer["items"].as_array().unwrap().iter();
        jobs.map(|item| item["job"]["id"].as_str().unwrap().to_owned()).collect()
    };

    for id in ids(&others) {
        api.wait_for_status(&id, "succeeded").await;
    }
    let new = ids(&new);
    for id in &new {
        let job = api.wait_for_job(id, "is parked", |job| job["waiting_for"] != Value::Null).await;
        assert_eq!(job["waiting_for"], json!({ "reason": "worker_with_task", "detail": "new" }));
        assert_eq!((&job["status"], &job["attempt"]), (&json!("queued"), &json!(0)));
    }
    let overdue = api.submit_with("new", &json!(1), &json!({ "deadline_ms": 1500 })).await;
    assert_eq!(api.wait_for_status(&overdue, "failed").await["error"]["code"], "deadline_exceeded");
    let counts = api.get("/queues/square").await.json()["counts"].take();
    assert_eq!(counts["queued"], 100, "{counts}");
    let log = old_worker.log();
    assert!(log.matches("no code for this task").count() <= 2, "{log}");

    let _new_worker = stack.worker_with(&api, 2, &with_new_task).await;
    for id in &new {
        assert_eq!(api.wait_for_status(id, "succeeded").await["attempt"], 1);
    }
    old_worker.terminate().await;
    stack.assert_clean_audit().await;
}
