//! Schedules of a `tasks.toml`: put by workers, shown and removed by an API.

use crunch_tests::{Api, Stack, Worker, eventually};
use serde_json::{Value, json};

use super::ticks::put;

const TASK: &str = "[[task]]\nname = \"script\"\ncommand = [\"true\"]\nqueue = \"scripts\"\n";

/// Starts a worker with these schedules, after the end of the one before.
async fn restart(stack: &mut Stack, api: &Api, before: Option<Worker>, schedules: &str) -> Worker {
    if let Some(mut before) = before {
        before.terminate().await;
    }
    let path = stack.directory().join("tasks.toml");
    std::fs::write(&path, format!("{TASK}{schedules}")).unwrap();
    stack.worker_with(api, 1, &[("CRUNCH_TASKS", path.to_str().unwrap())]).await
}

async fn shown(api: &Api, name: &str) -> Value {
    eventually("the schedule is there", async || {
        let shown = api.get(&format!("/schedules/{name}")).await;
        shown.status.is_success().then(|| shown.json())
    })
    .await
}

#[tokio::test]
async fn a_schedule_of_a_file_submits_jobs_and_is_removed_by_delete_only() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let each_second = "[[schedule]]\nname = \"s\"\ntask = \"script\"\nevery = \"1s\"\noverlap = \"allow\"\n\
                       payload = { n = 1 }\njob = { priority = \"high\" }\n";
    let mut worker = restart(&mut stack, &api, None, each_second).await;
    let first = eventually("two ticks", async || {
        let shown = api.get("/schedules/s").await.json();
        (shown["submitted"].as_u64()? >= 2).then_some(shown)
    })
    .await;
    assert_eq!((&first["origin"], &first["key"]), (&json!("file"), &Value::Null));
    assert_eq!(first["queue"], "scripts", "the queue of the task");
    let id = first["runs"][0]["job"].as_str().unwrap();
    let job = api.wait_for_status(id, "succeeded").await;
    assert_eq!((&job["schedule"]["name"], &job["priority"]), (&json!("s"), &json!("high")));

    let refused = put(&api, "s", &first["spec"]).await;
    assert_eq!(refused.status, 409);
    assert!(refused.json()["type"].as_str().unwrap().ends_with("schedule-of-file"), "{refused:?}");
    for (verb, status) in [("pause", 200), ("resume", 200), ("run", 202)] {
        let answer = api.post_empty(&format!("/schedules/s/{verb}")).await;
        assert_eq!(answer.status.as_u16(), status, "{verb}: {answer:?}");
    }

    // The same file changes nothing.
    worker = restart(&mut stack, &api, Some(worker), each_second).await;
    worker.wait_for_log("a schedule of the tasks file was there already").await;
    let same = shown(&api, "s").await;
    assert_eq!(same["created_at"], first["created_at"]);
    assert_eq!(same["changed_at"], first["changed_at"]);
    assert!(same["submitted"].as_u64() >= first["submitted"].as_u64());

    // Another one replaces it; the one of another file stays.
    let hourly = "[[schedule]]\nname = \"s\"\ntask = \"script\"\nevery = \"1h\"\n";
    worker = restart(&mut stack, &api, Some(worker), hourly).await;
    worker.wait_for_log("a schedule was replaced").await;
    let changed = shown(&api, "s").await;
    assert_eq!(
        (&changed["spec"]["every_ms"], &changed["spec"]["payload"]),
        (&json!(3_600_000), &Value::Null)
    );
    assert_eq!(changed["created_at"], first["created_at"]);

    let other = "[[schedule]]\nname = \"other\"\ntask = \"script\"\ncron = \"@daily\"\n";
    worker = restart(&mut stack, &api, Some(worker), other).await;
    shown(&api, "other").await;
    assert_eq!(shown(&api, "s").await["changed_at"], changed["changed_at"]);

    for name in ["s", "other"] {
        let path = format!("/schedules/{name}");
        let removed = api.send(api.request(reqwest::Method::DELETE, &path)).await;
        assert_eq!(removed.status, 204);
        assert_eq!(api.get(&path).await.status, 404);
    }
    let _worker = restart(&mut stack, &api, Some(worker), other).await;
    shown(&api, "other").await;
    assert_eq!(api.get("/schedules/s").await.status, 404, "it is in no file");
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_schedule_of_a_request_is_left_alone_and_one_that_is_over_has_no_ticks() {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    let made = put(&api, "mine", &json!({ "task": "script", "cron": "@yearly" })).await;
    assert_eq!(made.status, 201, "{made:?}");
    let schedules = "[[schedule]]\nname = \"mine\"\ntask = \"script\"\nevery = \"1h\"\n\
                     [[schedule]]\nname = \"over\"\ntask = \"elsewhere\"\nevery = \"1h\"\nend_at = 2020-01-01T00:00:00Z\n";
    let mut worker = restart(&mut stack, &api, None, schedules).await;
    worker.wait_for_log("one of that name was made by a request").await;
    let mine = shown(&api, "mine").await;
    assert_eq!((&mine["origin"], &mine["spec"]["cron"]), (&json!("api"), &json!("@yearly")));
    let over = shown(&api, "over").await;
    assert_eq!((&over["status"], &over["next_runs"]), (&json!("ended"), &json!([])));
    assert!(
        worker.log().contains("the task of a schedule of the tasks file is none of this worker")
    );
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_redis_that_lost_everything_gets_the_schedules_again() {
    let mut stack = Stack::on_one_node();
    let api = stack.api().await;
    let hourly = "[[schedule]]\nname = \"s\"\ntask = \"script\"\nevery = \"1h\"\n";
    let _worker = restart(&mut stack, &api, None, hourly).await;
    shown(&api, "s").await;
    let mut redis = stack.redis.connect().await;
    let () = redis::cmd("FLUSHALL").query_async(&mut redis).await.unwrap();
    shown(&api, "s").await;
    stack.assert_clean_audit().await;
}
