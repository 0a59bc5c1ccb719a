//! Ticks of schedules, as clients see them.

use crunch_common::broker::Library;
use crunch_common::task::TaskDescriptor;
use crunch_tests::{Answer, Api, Stack, eventually};
use reqwest::Method;
use serde_json::{Value, json};

pub(super) async fn put(api: &Api, name: &str, schedule: &Value) -> Answer {
    api.send(api.request(Method::PUT, &format!("/schedules/{name}")).json(schedule)).await
}

async fn accepting() -> (Stack, Api) {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    (stack, api)
}

/// The jobs of a queue that a schedule submitted, the newest first.
async fn jobs(api: &Api, queue: &str) -> Vec<Value> {
    let page = api.get(&format!("/jobs?queue={queue}")).await.json();
    // The queue does not exist before its first job.
    let mut jobs = page["items"].as_array().cloned().unwrap_or_default();
    jobs.retain(|job| !job["schedule"].is_null());
    jobs
}

#[tokio::test]
async fn a_schedule_of_every_second_submits_a_job_each_second() {
    let (_stack, api) = accepting().await;
    let schedule = json!({
        "task": "t", "every_ms": 1000, "payload": { "n": 1 }, "overlap": "allow",
        "job": { "group": "reports", "metadata": { "kind": "report" }, "priority": "high" },
    });
    let created = put(&api, "each-second", &schedule).await;
    assert_eq!(created.status, 201, "{created:?}");

    let jobs = eventually("three jobs", async || {
        let jobs = jobs(&api, "t").await;
        (jobs.len() >= 3).then_some(jobs)
    })
    .await;
    for job in &jobs {
        assert_eq!(job["schedule"]["name"], "each-second");
        assert_eq!((&job["group"], &job["priority"]), (&json!("reports"), &json!("high")));
        assert_eq!(job["metadata"], json!({ "kind": "report" }));
    }
    let id = jobs[0]["id"].as_str().unwrap();
    let payload = api.get(&format!("/jobs/{id}/payload")).await;
    assert_eq!(payload.json(), json!({ "n": 1 }));
    let mut ticks: Vec<_> = jobs.iter().map(|job| job["schedule"]["tick"].clone()).collect();
    ticks.dedup();
    assert_eq!(ticks.len(), jobs.len(), "no tick is twice");

    let shown = api.get("/schedules/each-second").await.json();
    assert_eq!(shown["status"], "active");
    assert_eq!(shown["next_runs"].as_array().unwrap().len(), 10);
    assert!(shown["submitted"].as_u64().unwrap() >= 3, "{shown}");
    assert_eq!(shown["runs"][0]["outcome"], "submitted");
}

#[tokio::test]
async fn a_pause_survives_the_restart_of_all_processes_and_makes_up_for_nothing() {
    let mut stack = Stack::start();
    let accept = [("CRUNCH_API_UNKNOWN_TASKS", "accept")];
    let mut api = stack.api_with(&accept).await;
    let schedule = json!({ "task": "t", "every_ms": 1000, "overlap": "allow", "missed": "all" });
    assert_eq!(put(&api, "s", &schedule).await.status, 201);
    eventually("a job", async || (!jobs(&api, "t").await.is_empty()).then_some(())).await;

    let paused = api.post_empty("/schedules/s/pause").await;
    assert_eq!((paused.status.as_u16(), &paused.json()["status"]), (200, &json!("paused")));
    assert_eq!(paused.json()["paused"]["code"], "requested");
    let before = api.get("/schedules/s").await.json()["submitted"].clone();
    api.process.kill().await;
    let api = stack.api_with(&accept).await;
    // As long as the ticks of another one come, those of this one would.
    assert_eq!(put(&api, "other", &schedule).await.status, 201);
    eventually("the other one has ticks", async || {
        let other = api.get("/schedules/other").await.json();
        (other["submitted"].as_u64().unwrap() >= 3).then_some(())
    })
    .await;
    let shown = api.get("/schedules/s").await.json();
    assert_eq!((&shown["status"], &shown["submitted"]), (&json!("paused"), &before));
    assert_eq!(shown["next_runs"], json!([]));

    let resumed = api.post_empty("/schedules/s/resume").await.json();
    assert_eq!(resumed["status"], "active");
    let jobs = eventually("another job", async || {
        let shown = api.get("/schedules/s").await.json();
        (shown["submitted"].as_u64() > before.as_u64()).then_some(shown)
    })
    .await;
    assert_eq!(jobs["missed"], 0);
    assert!(jobs["submitted"].as_u64().unwrap() <= before.as_u64().unwrap() + 2, "{jobs}");
}

#[tokio::test]
async fn a_payload_that_no_longer_fits_pauses_the_schedule_with_its_reason() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let mut task = TaskDescriptor::new("t".parse().unwrap());
    let broker = stack.redis.broker("crunch", Library::shipped());
    broker.announce(&[], &[task.clone()]).await.unwrap();
    Stack::wait_for_task(&api, "t").await;
    let schedule =
        json!({ "task": "t", "every_ms": 1000, "payload": { "n": 1 }, "overlap": "allow" });
    assert_eq!(put(&api, "s", &schedule).await.status, 201);
    eventually("a job", async || (!jobs(&api, "t").await.is_empty()).then_some(())).await;

    let schema = r#"{"properties":{"n":{"type":"string"}}}"#;
    task.payload_schema = Some(serde_json::from_str(schema).unwrap());
    broker.announce(&[], &[task.clone()]).await.unwrap();
    let paused = eventually("the pause", async || {
        let shown = api.get("/schedules/s").await.json();
        (shown["status"] == "paused").then(|| shown["paused"].clone())
    })
    .await;
    assert_eq!(paused["code"], "misfit", "{paused}");
    assert!(paused["reason"].as_str().unwrap().starts_with("/payload/n: "), "{paused}");
    let refused =
        put(&api, "s", &json!({ "task": "t", "every_ms": 1000, "payload": { "n": 2 } })).await;
    assert_eq!(refused.status, 422, "{refused:?}");
    let fixed =
        json!({ "task": "t", "every_ms": 1000, "payload": { "n": "2" }, "overlap": "allow" });
    let changed = put(&api, "s", &fixed).await;
    assert_eq!((changed.status.as_u16(), &changed.json()["status"]), (200, &json!("active")));
}

#[tokio::test]
async fn ticks_of_the_past_are_made_up_for_one_by_one() {
    let (stack, api) = accepting().await;
    let schedule = json!({ "task": "t", "cron": "0 * * * *", "start_at": "2020-01-01T00:00:00Z" });
    assert_eq!(put(&api, "hourly", &schedule).await.status, 201);
    let period = json!({ "from": "2026-01-01T10:00:00Z", "to": "2026-01-01T12:30:00Z" });
    let begun = api.post("/schedules/hourly/backfill", &period).await;
    assert_eq!((begun.status.as_u16(), &begun.json()["backfill"]["left"]), (202, &json!(3)));
    assert_eq!(api.post("/schedules/hourly/backfill", &period).await.status, 202, "a repetition");

    let mut ticks = Vec::new();
    for count in 1..=3 {
        let jobs = eventually("the next job", async || {
            let jobs = jobs(&api, "t").await;
            (jobs.len() >= count).then_some(jobs)
        })
        .await;
        assert_eq!(jobs.len(), count, "one job at a time");
        let live = jobs.iter().find(|job| job["status"] == "queued").unwrap();
        ticks.push(live["schedule"]["tick"].as_str().unwrap().to_owned());
        api.post_empty(&format!("/jobs/{}/cancel", live["id"].as_str().unwrap())).await;
    }
    let expected = ["10", "11", "12"].map(|hour| format!("2026-01-01T{hour}:00:00.000Z"));
    assert_eq!(ticks, expected);
    eventually("the end", async || {
        api.get("/schedules/hourly").await.json()["backfill"].is_null().then_some(())
    })
    .await;
    stack.assert_clean_audit().await;
}
