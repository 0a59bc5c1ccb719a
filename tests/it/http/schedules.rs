//! Schedules: what a request may contain, conditions, keys, and what operators do.

use crunch_tests::{Answer, Api};
use reqwest::Method;
use serde_json::{Value, json};

use super::keys::ApiWithKeys;
use super::{api_without_workers, expect_problem, pointers};

async fn put(api: &Api, name: &str, schedule: &Value, headers: &[(&str, &str)]) -> Answer {
    let mut request = api.request(Method::PUT, &format!("/schedules/{name}")).json(schedule);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    api.send(request).await
}

fn yearly() -> Value {
    json!({ "task": "t", "cron": "0 0 1 1 *", "time_zone": "Europe/Berlin" })
}

#[tokio::test]
async fn a_schedule_is_shown_with_every_member_and_its_next_runs() {
    let (_stack, api) = api_without_workers().await;
    let created = put(&api, "new-year", &yearly(), &[]).await;
    assert_eq!(created.status, 201, "{created:?}");
    let shown = api.get("/schedules/new-year").await;
    assert_eq!((shown.status.as_u16(), shown.header("cache-control")), (200, "no-store"));
    let mut shown = shown.json();
    for time in ["created_at", "changed_at"] {
        assert!(shown[time].take().is_string());
    }
    let runs = shown["next_runs"].take();
    let runs: Vec<_> = runs.as_array().unwrap().iter().map(|run| run.as_str().unwrap()).collect();
    assert_eq!(runs.len(), 10);
    assert!(runs.iter().all(|run| run.ends_with("-12-31T23:00:00.000Z")), "{runs:?}");
    let spec = json!({
        "task": "t", "payload": null, "job": {}, "cron": "0 0 1 1 *", "every_ms": null,
        "time_zone": "Europe/Berlin", "jitter_ms": 0, "start_at": null, "end_at": null, "missed": "once",
        "missed_at_most": 100, "missed_within_ms": 86_400_000, "overlap": "skip",
    });
    let expected = json!({
        "name": "new-year", "spec": spec, "status": "active", "paused": null, "origin": "api", "key": null,
        "queue": "t", "group": null, "next_runs": null, "runs": [], "buffered": null, "backfill": null,
        "held": null, "submitted": 0, "skipped": 0, "missed": 0, "created_at": null, "changed_at": null,
    });
    assert_eq!(shown, expected);
    // The specification can be sent back.
    let again = put(&api, "new-year", &shown["spec"], &[]).await;
    assert_eq!(again.status, 200);
    assert_eq!(again.header("etag"), created.header("etag"), "nothing has changed");

    put(&api, "b", &yearly(), &[]).await;
    put(&api, "a", &yearly(), &[]).await;
    let page = api.get("/schedules?limit=2").await.json();
    assert!(page["time_zones"].as_str().unwrap().starts_with("20"), "{page}");
    let names = |page: &Value| -> Vec<_> {
        let items = page["items"].as_array().unwrap().iter();
        items.map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&page), ["a", "b"]);
    assert_eq!(page["items"][0]["next_runs"].as_array().unwrap().len(), 1);
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = api.get(&format!("/schedules?limit=2&cursor={cursor}")).await.json();
    assert_eq!((names(&rest), &rest["next_cursor"]), (vec!["new-year".to_owned()], &Value::Null));
}

#[tokio::test]
async fn a_wrong_schedule_is_answered_with_the_place_and_what_is_accepted() {
    let (_stack, api) = api_without_workers().await;
    for (wrong, place, detail) in [
        (json!({ "cron": "0 25 * * *" }), "/cron", "the hour \"25\" is wrong: expected 0 to 23"),
        (json!({ "cron": "0 0 31 2 *" }), "/cron", "no such date comes"),
        (json!({ "time_zone": "Europe/Berln" }), "/time_zone", "did you mean Europe/Berlin?"),
        (json!({ "end_at": "2020-01-01T00:00:00Z" }), "/end_at", "no tick from now on"),
        (json!({ "overlap": "queue" }), "/overlap", "skip, buffer_one, cancel_previous or allow"),
        (json!({ "job": { "run_at": "2030-01-01T00:00:00Z" } }), "/job/run_at", "decides when"),
        (json!({ "priority": "high" }), "/priority", "members of job"),
        (json!({ "overlp": "skip" }), "/overlp", "did you mean overlap?"),
    ] {
        let mut schedule = yearly();
        for (name, value) in wrong.as_object().unwrap() {
            schedule[name] = value.clone();
        }
        let problem = put(&api, "s", &schedule, &[]).await;
        let problem = expect_problem(&api, &problem, 422, "invalid-submission").await;
        assert_eq!(pointers(&problem), [place], "{problem}");
        let found = problem["errors"][0]["detail"].as_str().unwrap();
        assert!(found.contains(detail), "{found}");
    }
    let name = put(&api, "Night", &yearly(), &[]).await;
    expect_problem(&api, &name, 404, "not-found").await;
    assert_eq!(api.get("/schedules/s").await.status, 404);
}

#[tokio::test]
async fn conditions_keep_changes_apart() {
    let (_stack, api) = api_without_workers().await;
    let none = put(&api, "s", &yearly(), &[("If-Match", "*")]).await;
    expect_problem(&api, &none, 412, "precondition-failed").await;
    let created = put(&api, "s", &yearly(), &[("If-None-Match", "*")]).await;
    assert_eq!(created.status, 201);
    let twice = put(&api, "s", &yearly(), &[("If-None-Match", "*")]).await;
    assert_eq!(twice.status, 412);
    let tag = created.header("etag");
    let mut other = yearly();
    other["payload"] = json!(2);
    let changed = put(&api, "s", &other, &[("If-Match", tag)]).await;
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), tag);
    assert_eq!(put(&api, "s", &yearly(), &[("If-Match", tag)]).await.status, 412);
    let delete =
        |tag: &str| api.send(api.request(Method::DELETE, "/schedules/s").header("If-Match", tag));
    assert_eq!(delete(tag).await.status, 412);
    assert_eq!(delete(changed.header("etag")).await.status, 204);
    assert_eq!(delete("*").await.status, 404);
}

#[tokio::test]
async fn a_run_on_request_is_a_job_and_waits_for_the_one_before() {
    let (_stack, api) = api_without_workers().await;
    put(&api, "s", &yearly(), &[]).await;
    let run = api.post_empty("/schedules/s/run").await;
    assert_eq!(run.status, 202, "{run:?}");
    let job = run.json();
    assert_eq!((&job["task"], &job["schedule"]["name"]), (&json!("t"), &json!("s")));
    let busy = api.post_empty("/schedules/s/run").await;
    let busy = expect_problem(&api, &busy, 409, "schedule-busy").await;
    assert_eq!(busy["job"], job["id"]);
    api.post_empty(&format!("/jobs/{}/cancel", job["id"].as_str().unwrap())).await;
    assert_eq!(api.post_empty("/schedules/s/run").await.status, 202);

    let too_many = json!({ "from": "1990-01-01T00:00:00Z", "to": "1990-06-01T00:00:00Z" });
    let none = api.post("/schedules/s/backfill", &too_many).await;
    let none = expect_problem(&api, &none, 422, "invalid-submission").await;
    assert_eq!(pointers(&none), ["/from"]);
    let stopped = api.send(api.request(Method::DELETE, "/schedules/s/backfill")).await;
    assert_eq!(stopped.status, 204);
    let actions = api.get("/actions").await.json();
    assert_eq!(actions["items"][0]["action"], "run-schedule", "{actions}");
    assert_eq!(actions["items"][0]["schedule"], "s");
}

#[tokio::test]
async fn a_schedule_belongs_to_the_key_that_made_it() {
    let keyed = ApiWithKeys::start(&[]).await;
    let all = "submit,read,cancel";
    let owner = keyed.create_key(&["--scopes", all, "--queues", "t"]).await;
    let stranger = keyed.create_key(&["--scopes", all, "--queues", "t"]).await;
    let elsewhere = keyed.create_key(&["--scopes", all, "--queues", "other"]).await;
    let admin = keyed.create_key(&["--scopes", "admin"]).await;
    let put = async |key: &str| {
        let request = keyed.api.request(Method::PUT, "/schedules/s").json(&yearly());
        keyed.api.send(request.bearer_auth(key)).await.status.as_u16()
    };
    assert_eq!(put(&elsewhere).await, 403, "not its queue");
    assert_eq!(put(&owner).await, 201);
    assert_eq!((put(&stranger).await, put(&owner).await), (403, 200));
    let status = async |key: &str, method: &str, path: &str| {
        keyed.send(key, method, path).await.status.as_u16()
    };
    assert_eq!(status(&stranger, "GET", "/schedules/s").await, 200);
    assert_eq!(status(&elsewhere, "GET", "/schedules/s").await, 404);
    assert_eq!(keyed.send(&elsewhere, "GET", "/schedules").await.json()["items"], json!([]));
    for (method, path) in [("POST", "/schedules/s/pause"), ("DELETE", "/schedules/s")] {
        assert_eq!(status(&stranger, method, path).await, 403, "{method} {path}");
    }
    assert_eq!(status(&admin, "POST", "/schedules/s/pause").await, 200);
    assert_eq!(status(&owner, "POST", "/schedules/s/resume").await, 200);
    keyed.revoke(&owner).await;
    crunch_tests::eventually("the key is gone", async || {
        (status(&owner, "GET", "/schedules/s").await == 401).then_some(())
    })
    .await;
    let gone = keyed.send(&admin, "POST", "/schedules/s/run").await;
    assert_eq!(gone.status, 422, "{gone:?}");
    assert_eq!(put(&admin).await, 200, "now it belongs to another key");
    assert_eq!(status(&admin, "POST", "/schedules/s/run").await, 202);
}
