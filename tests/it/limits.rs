//! Limits of a `tasks.toml`, put by workers.

use crunch_tests::{Api, Stack, Worker, eventually};
use serde_json::{Value, json};

const TASK: &str = "[[task]]\nname = \"script\"\ncommand = [\"true\"]\n";

/// Starts a worker with these limits, after the end of the one before.
async fn restart(stack: &mut Stack, api: &Api, before: Option<Worker>, limits: &str) -> Worker {
    if let Some(mut before) = before {
        before.terminate().await;
    }
    let path = stack.directory().join("tasks.toml");
    std::fs::write(&path, format!("{TASK}{limits}")).unwrap();
    stack.worker_with(api, 1, &[("CRUNCH_TASKS", path.to_str().unwrap())]).await
}

/// The limit of the queue once it has this concurrency.
async fn limit(api: &Api, concurrency: &Value) -> Value {
    eventually("the limit is set", async || {
        let shown = api.get("/queues/script/limit").await;
        let shown = shown.status.is_success().then(|| shown.json())?;
        (shown["concurrency"] == *concurrency).then_some(shown)
    })
    .await
}

#[tokio::test]
async fn limits_of_a_file_are_set_when_a_worker_starts() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let own = "[[limit]]\nqueue = \"script\"\nconcurrency = 2\n";
    let shared = "[[limit]]\nname = \"script\"\nconcurrency = 3\nqueues = [\"script\"]\n";
    let worker = restart(&mut stack, &api, None, &format!("{own}{shared}")).await;
    let set = limit(&api, &json!(2)).await;
    assert_eq!(set["limits"], json!(["script"]));
    assert_eq!(api.get("/limits/script").await.json()["concurrency"], 3);

    // What a request changes stays until a worker starts. What the file does not say stays as it is.
    let changed = json!({ "concurrency": 9, "limits": ["script"] });
    let request = api.request(reqwest::Method::PUT, "/queues/script/limit").json(&changed);
    assert_eq!(api.send(request).await.status, 200);
    let mut worker = restart(&mut stack, &api, Some(worker), shared).await;
    worker.wait_for_log("a limit of the tasks file is set").await;
    assert_eq!(limit(&api, &json!(9)).await["limits"], json!(["script"]));
    let mut worker = restart(&mut stack, &api, Some(worker), own).await;
    assert_eq!(limit(&api, &json!(2)).await["limits"], json!(["script"]));
    worker.terminate().await;

    // A limit cannot apply to a queue elsewhere; the worker says so, and works.
    let unknown = "[[limit]]\nqueue = \"script\"\nconcurrency = 4\n[[task]]\nname = \"other\"\ncommand = [\"true\"]\n";
    let _worker = restart(&mut stack, &api, None, unknown).await;
    assert_eq!(limit(&api, &json!(4)).await["state"], "open");
    let id = api.submit("other", &json!(1)).await;
    api.wait_for_status(&id, "succeeded").await;
}
