//! Deploys that nobody notices. (F6)

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crunch_tests::{Api, Stack};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::*;

/// A client as the documentation wants it: uses instances that say they are ready, and tries another one where the
/// connection is refused.
struct Client {
    http: reqwest::Client,
    /// Where instances are, as a load balancer knows them.
    instances: Mutex<Vec<String>>,
}

impl Client {
    /// Submits one job; the answer, or what went wrong.
    async fn submit(&self, n: u64) -> Result<String, String> {
        loop {
            let Some(url) = self.ready().await else { continue };
            let body = json!({ "task": "square", "payload": { "n": n, "busy_ms": 20 } });
            let answer = match self.http.post(format!("{url}/jobs")).json(&body).send().await {
                Err(error) if error.is_connect() => continue,
                answer => answer.map_err(|error| format!("{error:?}"))?,
            };
            let status = answer.status();
            let job: Value = answer.json().await.map_err(|error| format!("{error:?}"))?;
            if status != StatusCode::ACCEPTED {
                return Err(format!("{status} {job}"));
            }
            return Ok(job["id"].as_str().unwrap().to_owned());
        }
    }

    async fn ready(&self) -> Option<String> {
        let instances = self.instances.lock().unwrap().clone();
        for url in instances {
            let answer = self.http.get(format!("{url}/readyz")).send().await;
            if answer.is_ok_and(|answer| answer.status() == StatusCode::OK) {
                return Some(url);
            }
        }
        None
    }
}

#[tokio::test]
async fn ten_rolling_restarts_under_load_are_invisible() {
    let mut stack = Stack::start();
    let drain = [("CRUNCH_API_DRAIN_MS", "200")];
    let mut apis = vec![stack.api_with(&drain).await, stack.api_with(&drain).await];
    let mut workers = vec![stack.worker(&apis[0], 4).await, stack.worker(&apis[0], 4).await];
    Stack::knows(&apis[1], "square").await;
    let urls = |apis: &[Api]| apis.iter().map(|api| api.url.clone()).collect::<Vec<_>>();
    let client = Client { http: reqwest::Client::new(), instances: Mutex::new(urls(&apis)) };
    let over = AtomicBool::new(false);
    let load = async {
        let mut ids = Vec::new();
        while !over.load(Ordering::Relaxed) {
            ids.push(client.submit(ids.len() as u64).await);
        }
        ids.into_iter().collect::<Result<Vec<_>, _>>()
    };
    let restarts = async {
        for _ in 0..10 {
            let mut old = apis.remove(0);
            assert_eq!(old.process.terminate().await.code(), Some(0));
            apis.push(stack.api_with(&drain).await);
            Stack::knows(&apis[1], "square").await;
            *client.instances.lock().unwrap() = urls(&apis);
            let mut old = workers.remove(0);
            assert_eq!(old.terminate().await.code(), Some(0));
            workers.push(stack.worker(&apis[0], 4).await);
        }
        over.store(true, Ordering::Relaxed);
    };
    let (ids, ()) = tokio::join!(load, restarts);
    let ids = ids.expect("no request fails");
    drained(&apis[0], "square").await;
    every_square_is_right(&apis[0], &ids).await;
    let entries = stack.ledger();
    assert!(runs(&entries).values().all(|runs| runs.len() == 1), "something ran twice");
}
