//! The limit of a queue: how many of its jobs run, and start in a time.

use std::collections::BTreeSet;

use crunch_tests::{Answer, Api, RedisServer, Stack, Stage, eventually};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::keys::ApiWithKeys;
use super::{api_without_workers, assert_problem};

async fn put(api: &Api, path: &str, limit: &Value) -> Answer {
    api.send(api.request(Method::PUT, path).json(limit)).await
}

async fn delete(api: &Api, path: &str) -> Answer {
    api.send(api.request(Method::DELETE, path)).await
}

#[tokio::test]
async fn a_limit_is_set_shown_replaced_and_removed() {
    let (_stack, api) = api_without_workers().await;
    let path = "/queues/t/limit";
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let request = api.request(method.clone(), path);
        let request = if method == Method::PUT {
            request.json(&json!({ "concurrency": 1 }))
        } else {
            request
        };
        assert_problem(&api.send(request).await, 404, "not-found");
    }
    let id = api.submit("t", &json!(1)).await;
    assert!(api.get(path).await.problem().contains("not-found"));
    // With several partitions the job may be elsewhere, so it ends first.
    assert_eq!(api.post_empty(&format!("/jobs/{id}/cancel")).await.status, StatusCode::OK);
    let rate = json!({ "starts": 100, "per_ms": 60000, "burst": 1 });
    let limit = json!({ "concurrency": 3, "rate": rate, "limits": [], "running": 0, "state": "open",
        "next_start_at": null, "held_by": null });
    let set = eventually("nothing is left elsewhere", async || {
        let set = put(
            &api,
            path,
            &json!({ "concurrency": 3, "rate": { "starts": 100, "per_ms": 60000 } }),
        )
        .await;
        (set.status == StatusCode::OK).then_some(set)
    })
    .await;
    assert_eq!(set.json(), limit);
    assert_eq!(api.get(path).await.json(), limit);
    assert_eq!(put(&api, path, &json!({ "concurrency": 1 })).await.json()["rate"], Value::Null);
    for (body, pointer) in
        [(json!({ "rate": {} }), "/rate/starts"), (json!({ "weight": 1 }), "/weight")]
    {
        let refused = put(&api, path, &body).await;
        assert_problem(&refused, 422, "invalid-submission");
        assert_eq!(refused.json()["errors"][0]["pointer"], pointer);
    }
    assert_eq!(delete(&api, path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(delete(&api, path).await.status, StatusCode::NO_CONTENT);
    assert_problem(&api.get(path).await, 404, "not-found");
    let actions = api.get("/actions").await.json();
    let names: Vec<_> =
        actions["items"].as_array().unwrap().iter().map(|it| &it["action"]).collect();
    assert_eq!(
        names,
        ["remove-queue-limit", "remove-queue-limit", "set-queue-limit", "set-queue-limit"]
    );
}

/// While jobs of the queue are in other partitions the limit is refused with their number; and new ones go to its home.
#[tokio::test]
async fn a_first_limit_waits_for_jobs_elsewhere() {
    let mut stack = Stack::on(RedisServer::start().with_partitions(4));
    let accepts = [("CRUNCH_API_UNKNOWN_TASKS", "accept")];
    let (one, other) = (stack.api_with(&accepts).await, stack.api_with(&accepts).await);
    let stage = Stage::open().await;
    let payload = stage.payload();
    let ids =
        futures_util::future::join_all((0..40).map(async |_| one.submit("act", &payload).await))
            .await;
    let partition = |id: &str| u16::from_str_radix(&id[15..18], 16).unwrap();
    let limit = json!({ "concurrency": 2 });
    let answer = put(&one, "/queues/act/limit", &limit).await;
    assert_problem(&answer, 409, "jobs-elsewhere");
    let new = futures_util::future::join_all((0..40).map(async |at| {
        let api = if at % 2 == 0 { &one } else { &other };
        api.submit("act", &payload).await
    }))
    .await;
    let homes: BTreeSet<_> = new.iter().map(|id| partition(id)).collect();
    assert_eq!(homes.len(), 1);
    let elsewhere = ids.iter().filter(|id| !homes.contains(&partition(id))).count();
    assert_eq!(answer.json()["jobs"], elsewhere);
    for id in &ids {
        one.post_empty(&format!("/jobs/{id}/cancel")).await;
    }
    eventually("the limit is set", async || {
        (put(&other, "/queues/act/limit", &limit).await.status == StatusCode::OK).then_some(())
    })
    .await;
    let outside = ids.iter().find(|id| !homes.contains(&partition(id))).unwrap();
    let refused = one.post_empty(&format!("/jobs/{outside}/retry")).await;
    assert_problem(&refused, 409, "outside-limit");
}

#[tokio::test]
async fn as_many_jobs_of_a_queue_run_as_may_on_all_workers() {
    let (mut stack, api, _worker) = Stack::simple(20).await;
    let _other = stack.worker(&api, 20).await;
    let stage = Stage::open().await;
    // The queue is known by the declaration of its task.
    assert_eq!(put(&api, "/queues/act/limit", &json!({ "concurrency": 2 })).await.status, 200);
    for _ in 0..10 {
        api.submit("act", &stage.payload()).await;
    }
    eventually("two run, and no more may", async || {
        let status = api.get("/queues/act/limit").await.json();
        (status["running"] == 2 && status["state"] == "blocked").then_some(())
    })
    .await;
    let mut actors = vec![stage.wait_for_handler().await, stage.wait_for_handler().await];
    assert!(stage.is_empty().await, "only two run");
    actors.pop().unwrap().returns(&json!(1)).await;
    actors.push(stage.wait_for_handler().await);
    assert!(stage.is_empty().await, "one that ends makes room for one");
}

#[tokio::test]
async fn deliveries_of_webhooks_have_no_limit() {
    let (_stack, api) = api_without_workers().await;
    let refused = put(&api, "/queues/crunch.webhooks/limit", &json!({ "concurrency": 1 })).await;
    assert_problem(&refused, 422, "invalid-submission");
}

#[tokio::test]
async fn a_key_for_some_queues_sees_and_changes_the_limits_of_those_only() {
    let keyed = ApiWithKeys::start(&[]).await;
    let all = keyed.create_key(&["--scopes", "admin"]).await;
    let some = keyed.create_key(&["--scopes", "admin", "--queues", "mine"]).await;
    let reader = keyed.create_key(&["--scopes", "read"]).await;
    for queue in ["mine", "yours"] {
        let job = json!({ "task": "t", "queue": queue, "group": "g" });
        assert_eq!(keyed.post(&all, "/jobs", &job).await.status, 202);
    }
    let put = async |key: &str, path: &str| {
        let request = keyed.api.request(Method::PUT, path).bearer_auth(key);
        keyed.api.send(request.json(&json!({ "concurrency": 1 }))).await
    };
    assert_eq!(put(&some, "/queues/mine/limit").await.status, 200);
    assert_problem(&put(&reader, "/queues/mine/limit").await, 403, "forbidden");
    assert_eq!(keyed.send(&reader, "GET", "/queues/mine/limit").await.status, 200);
    assert_problem(&put(&some, "/queues/yours/limit").await, 404, "not-found");
    assert_problem(&keyed.send(&some, "DELETE", "/queues/yours/limit").await, 404, "not-found");
    assert_eq!(put(&all, "/queues/yours/limit").await.status, 200);
    assert_problem(&keyed.send(&some, "GET", "/queues/yours/limit").await, 404, "not-found");
}
