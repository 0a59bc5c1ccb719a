//! Unique jobs: what a client gets whose job has the same lock as another one.

use std::collections::BTreeSet;

use crunch_tests::{Answer, Api, RedisServer, Stack, Stage};
use futures_util::{StreamExt, stream};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{api_without_workers, assert_problem, expect_problem, pointers};

async fn submit(api: &Api, unique: &Value, payload: &Value) -> Answer {
    api.post("/jobs", &json!({ "task": "t", "payload": payload, "unique": unique })).await
}

fn id_of(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// The id of the job, and whether it existed.
async fn existing(api: &Api, unique: &Value, payload: &Value) -> (String, bool) {
    let answer = submit(api, unique, payload).await;
    (id_of(&answer), answer.header("crunch-existing") == "true")
}

#[tokio::test]
async fn the_same_submission_gets_the_job_that_exists() {
    let (_stack, api) = api_without_workers().await;
    let first = submit(&api, &json!({}), &json!({ "a": 1, "b": [2.0] })).await;
    assert_eq!(first.header("crunch-existing"), "");
    let unique = json!({ "key": null, "fields": null, "until": "end", "for_ms": null, "on_conflict": "existing", "max_wait_ms": null });
    assert_eq!(first.json()["unique"], unique);
    let id = id_of(&first);
    let same = json!({ "b": [2], "a": 1e0 });
    let again = submit(&api, &json!({}), &same).await;
    assert_eq!((id_of(&again), again.header("crunch-existing")), (id.clone(), "true"));
    assert_eq!(again.header("location"), first.header("location"));
    assert!(!existing(&api, &json!({}), &json!({ "a": 2, "b": [2] })).await.1);

    let by_path = "/tasks/t/jobs?unique.fields=/a,/b&unique.on_conflict=reject";
    let of_fields = api.post(by_path, &same).await;
    assert_ne!(id_of(&of_fields), id, "what is compared is a part of the lock");
    let refused = api.post(by_path, &json!({ "b": [2], "a": 1, "c": 3 })).await;
    let problem = expect_problem(&api, &refused, 409, "locked").await;
    assert_eq!(problem["job"], id_of(&of_fields));

    assert_eq!(api.post_empty(&format!("/jobs/{id}/cancel")).await.status, StatusCode::OK);
    let next = existing(&api, &json!({}), &same).await;
    assert_eq!((next.0 != id, next.1), (true, false));
    let locked = api.post_empty(&format!("/jobs/{id}/retry")).await;
    assert_problem(&locked, 409, "locked");
    assert_eq!(locked.json()["job"], next.0);
    api.post_empty(&format!("/jobs/{}/cancel", next.0)).await;
    assert_eq!(api.post_empty(&format!("/jobs/{id}/retry")).await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_lock_belongs_to_a_task_a_queue_and_a_group() {
    let (_stack, api) = api_without_workers().await;
    let mut ids = BTreeSet::new();
    for options in [
        json!({ "task": "t" }),
        json!({ "task": "u" }),
        json!({ "task": "t", "queue": "q" }),
        json!({ "task": "t", "group": "g" }),
        json!({ "task": "t", "unique": { "key": "other" } }),
        json!({ "task": "t", "unique": { "fields": ["/key"] } }),
    ] {
        let mut job = json!({ "unique": { "key": "key" }, "payload": { "key": "key" } });
        job.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let [one, other] = [api.post("/jobs", &job).await, api.post("/jobs", &job).await];
        assert_eq!(id_of(&one), id_of(&other), "{job}");
        ids.insert(id_of(&one));
    }
    assert_eq!(ids.len(), 6);
}

#[tokio::test]
async fn what_is_wrong_is_answered_at_its_place() {
    let (_stack, api) = api_without_workers().await;
    for (options, pointer) in [
        (json!({ "unique": 1 }), "/unique"),
        (json!({ "unique": { "kye": 1 } }), "/unique/kye"),
        (json!({ "unique": { "key": "k".repeat(256) } }), "/unique/key"),
        (json!({ "unique": { "key": "k".repeat(10_240) } }), "/unique/key"),
        (json!({ "unique": { "fields": ["a"] } }), "/unique/fields"),
        (json!({ "unique": { "on_conflict": "replace" }, "delay_ms": 5 }), "/unique/max_wait_ms"),
        (
            json!({ "unique": { "on_conflict": "keep_latest" }, "delay_ms": 5 }),
            "/unique/on_conflict",
        ),
        (json!({ "unique": { "on_conflict": "replace", "until": "end" } }), "/unique/until"),
        (json!({ "unique": { "for_ms": 31_622_400_001_u64 } }), "/unique/for_ms"),
        (json!({ "unique": {}, "payload": { "id": 9_007_199_254_740_993_u64 } }), "/payload"),
        (
            json!({ "unique": { "fields": ["/id"] }, "payload": { "id": 9_007_199_254_740_993_u64 } }),
            "/payload/id",
        ),
    ] {
        let mut job = json!({ "task": "t" });
        job.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let refused = api.post("/jobs", &job).await;
        assert_problem(&refused, 422, "invalid-submission");
        assert_eq!(pointers(&refused.json()), [pointer], "{options}");
    }
    for query in [
        "unique.on_conflict=replace&delay_ms=5",
        "unique=1",
        "unique.key=",
        "unique.until=never",
        "unique.a=1",
        "unique.max_wait_ms=5",
    ] {
        let refused = api.post(&format!("/tasks/t/jobs?{query}"), &json!(1)).await;
        assert_problem(&refused, 400, "invalid-parameter");
    }
}

#[tokio::test]
async fn a_run_on_request_gets_the_job_that_holds_the_lock() {
    let (_stack, api) = api_without_workers().await;
    for (on_conflict, status) in [("existing", 202), ("reject", 409)] {
        let unique = json!({ "key": "k", "on_conflict": on_conflict });
        let body = json!({ "task": "t", "cron": "@yearly", "job": { "unique": unique } });
        let put = api.request(reqwest::Method::PUT, "/schedules/s").json(&body);
        assert!(api.send(put).await.status.is_success());
        let (holder, _) = existing(&api, &json!({ "key": "k" }), &json!(null)).await;
        let run = api.post_empty("/schedules/s/run").await;
        assert_eq!(run.status.as_u16(), status, "{run:?}");
        let member = if status == 202 { "id" } else { "job" };
        assert_eq!(run.json()[member], holder, "{run:?}");
        assert_eq!(run.header("crunch-existing"), if status == 202 { "true" } else { "" });
    }
    let skipped = api.get("/schedules/s").await.json();
    assert_eq!((&skipped["submitted"], &skipped["skipped"]), (&json!(0), &json!(2)), "{skipped}");
}

/// Sixteen fields that each have the whole payload are not sixteen payloads in memory.
#[tokio::test]
async fn fields_have_a_total_size() {
    let (_stack, api) = api_without_workers().await;
    let payload = json!({ "text": "x".repeat(200_000) });
    let fields = |count: usize| json!({ "fields": vec![""; count] });
    assert_eq!(submit(&api, &fields(5), &payload).await.status, StatusCode::ACCEPTED);
    let refused = submit(&api, &fields(16), &payload).await;
    assert_problem(&refused, 422, "invalid-submission");
    assert_eq!(pointers(&refused.json()), ["/payload"]);
}

async fn edit_of(api: &Api, id: &str) -> u64 {
    api.job(id).await["metadata"]["edit"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_newest_edit_wins() {
    let (stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let edit = async |n: u64, unique: &Value, delay: u64| {
        let job = json!({
            "task": "act", "payload": stage.payload(), "unique": unique, "delay_ms": delay,
            "metadata": { "edit": n },
        });
        api.post("/jobs", &job).await
    };
    let debounce = json!({ "key": "d", "on_conflict": "replace", "max_wait_ms": 600_000 });
    let first = edit(1, &debounce, 300_000).await;
    let second = edit(2, &debounce, 1).await;
    assert_eq!((id_of(&second), second.header("crunch-existing")), (id_of(&first), "true"));
    let actor = stage.wait_for_handler().await;
    assert_eq!(edit_of(&api, &actor.id).await, 2);
    actor.returns(&json!(2)).await;
    let job = api.wait_for_status(&id_of(&first), "succeeded").await;
    assert_eq!(job["created_at"], first.json()["created_at"]);

    let latest = json!({ "key": "l", "on_conflict": "keep_latest" });
    let first = edit(3, &latest, 0).await;
    let actor = stage.wait_for_handler().await;
    let second = edit(4, &latest, 0).await;
    let waits = json!({ "reason": "lock", "detail": id_of(&first) });
    assert_eq!(
        (&second.json()["status"], &second.json()["waiting_for"]),
        (&json!("scheduled"), &waits)
    );
    let third = edit(5, &latest, 0).await;
    assert_eq!((id_of(&third), third.header("crunch-existing")), (id_of(&second), "true"));
    actor.returns(&json!(3)).await;
    let actor = stage.wait_for_handler().await;
    assert_eq!(edit_of(&api, &actor.id).await, 5, "the latest runs once the first has ended");
    actor.returns(&json!(5)).await;
    api.wait_for_status(&id_of(&second), "succeeded").await;
    assert!(stage.is_empty().await);
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn batches_count_jobs_that_exist_apart() {
    let (_stack, api) = api_without_workers().await;
    let job = |on_conflict: &str| json!({ "task": "t", "unique": { "key": "k", "on_conflict": on_conflict } });
    let jobs =
        json!({ "jobs": [job("existing"), job("existing"), job("reject"), { "task": "t" }] });
    let answer = api.post("/jobs/batch", &jobs).await.json();
    let items = answer["items"].as_array().unwrap();
    let existing: Vec<_> = items.iter().map(|item| &item["existing"]).collect();
    assert_eq!(existing, [&json!(false), &json!(true), &Value::Null, &json!(false)], "{answer}");
    assert_eq!(items[0]["job"]["id"], items[1]["job"]["id"]);
    assert_eq!(
        (&items[2]["status"], &items[2]["problem"]["job"]),
        (&json!(409), &items[0]["job"]["id"])
    );

    let lines = [job("existing"), job("replace"), job("reject"), json!({ "task": "t" })];
    let lines = lines.map(|line| line.to_string()).join("\n");
    let request = api.request(reqwest::Method::POST, "/jobs/batch");
    let request = request.header("content-type", "application/x-ndjson").body(lines);
    let answer = api.send(request).await.json();
    let counts = ["accepted", "existing", "refused"].map(|name| &answer[name]);
    assert_eq!(counts, [&json!(1), &json!(2), &json!(1)], "{answer}");
    assert_eq!(answer["errors"][0]["problem"]["type"], "/problems/locked");
}

/// Many clients submit jobs with few locks through several APIs: each lock has one job. Then all of them are canceled, and
/// each lock is free.
async fn storm(apis: usize, locks: usize, submissions: usize) {
    let mut stack = Stack::on(RedisServer::start().with_partitions(4));
    let mut started = Vec::new();
    for _ in 0..apis {
        started.push(stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await);
    }
    let apis = &started;
    let answers = stream::iter(0..submissions).map(|number| async move {
        let lock = number % locks;
        let mut job = json!({ "task": "t", "unique": { "key": lock.to_string() } });
        if number % 3 == 0 {
            job["idempotency_key"] = json!(format!("k{number}"));
        }
        let answer = apis[number / locks % apis.len()].post("/jobs", &job).await;
        (lock, id_of(&answer), answer.header("crunch-existing") == "true")
    });
    let answers: Vec<_> = answers.buffer_unordered(AT_ONCE).collect().await;
    let ids: BTreeSet<_> = answers.iter().map(|(lock, id, _)| (lock, id)).collect();
    assert_eq!(ids.len(), locks, "one job for each lock");
    assert_eq!(answers.iter().filter(|(_, _, existing)| !existing).count(), locks);
    stack.assert_clean_audit().await;

    let ids = stream::iter(ids).map(|(lock, id)| async move {
        assert_eq!(apis[0].post_empty(&format!("/jobs/{id}/cancel")).await.status, StatusCode::OK);
        let unique = json!({ "key": lock.to_string(), "on_conflict": "reject" });
        id_of(&submit(&apis[0], &unique, &json!(null)).await)
    });
    let again: BTreeSet<_> = ids.buffer_unordered(AT_ONCE).collect().await;
    assert_eq!(again.len(), locks, "no lock outlives its job");
    stack.assert_clean_audit().await;
}

/// How many requests are sent at the same time.
const AT_ONCE: usize = 200;

#[tokio::test]
async fn many_clients_submit_the_same_jobs_at_the_same_time() {
    storm(3, 40, 400).await;
}

#[tokio::test]
#[ignore = "takes minutes; the short form is many_clients_submit_the_same_jobs_at_the_same_time"]
async fn a_hundred_thousand_submissions_conflict() {
    storm(8, 1000, 100_000).await;
}
