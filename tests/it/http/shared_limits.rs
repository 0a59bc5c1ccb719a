//! Limits that queues share.

use crunch_tests::{Answer, Api, RedisServer, Stack, Stage, eventually};
use reqwest::Method;
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
async fn a_shared_limit_is_set_listed_shown_and_removed() {
    let (_stack, api) = api_without_workers().await;
    assert_eq!(api.get("/limits").await.json(), json!({ "items": [] }));
    assert_problem(&api.get("/limits/both").await, 404, "not-found");
    let rate = json!({ "starts": 100, "per_ms": 60000, "burst": 1 });
    let limit = json!({ "name": "both", "concurrency": null, "rate": rate, "queues": [], "running": 0,
        "state": "open", "next_start_at": null });
    let body = json!({ "rate": { "starts": 100, "per_ms": 60000 } });
    for _ in 0..2 {
        let set = put(&api, "/limits/both", &body).await;
        assert_eq!((set.status.as_u16(), set.json()), (200, limit.clone()));
    }
    assert_eq!(api.get("/limits/both").await.json(), limit);
    assert_eq!(api.get("/limits").await.json(), json!({ "items": [limit] }));
    for (body, pointer) in [
        (json!({ "rate": {} }), "/rate/starts"),
        (json!({ "limits": ["both"], "concurrency": 1 }), "/limits"),
        (json!({ "concurrency": 0 }), "/concurrency"),
    ] {
        let refused = put(&api, "/limits/both", &body).await;
        assert_problem(&refused, 422, "invalid-submission");
        assert_eq!(refused.json()["errors"][0]["pointer"], pointer);
    }
    assert_problem(&put(&api, "/limits/Both", &body).await, 404, "not-found");
    // One that limits nothing: its queues share it until it is changed.
    let nothing = put(&api, "/limits/both", &json!({})).await.json();
    assert_eq!((&nothing["rate"], &nothing["state"]), (&Value::Null, &json!("open")));
    assert_eq!(delete(&api, "/limits/both").await.json(), json!({ "queues": [] }));
    assert_eq!(delete(&api, "/limits/both").await.json(), json!({ "queues": [] }));
    assert_problem(&api.get("/limits/both").await, 404, "not-found");
    let actions = api.get("/actions").await.json();
    let actions = actions["items"].as_array().unwrap();
    let names: Vec<_> = actions.iter().map(|it| (&it["action"], &it["limit"])).collect();
    let both = &json!("both");
    let [set, remove] = [&json!("set-limit"), &json!("remove-limit")];
    assert_eq!(names, [(remove, both), (set, both), (set, both), (set, both)]);
}

#[tokio::test]
async fn what_a_queue_shares_is_part_of_its_limit() {
    let mut stack = Stack::on(RedisServer::start().with_partitions(16));
    let api = stack.api().await;
    let worker = stack.worker(&api, 1).await;
    for name in ["act", "act.tokens", "act.other"] {
        assert_eq!(
            put(&api, &format!("/limits/{name}"), &json!({ "concurrency": 2 })).await.status,
            200
        );
    }
    let path = "/queues/act/limit";
    let set = put(&api, path, &json!({ "concurrency": 3, "limits": ["act", "act.tokens"] })).await;
    assert_eq!(set.status, 200, "{set:?}");
    let expected = json!({ "concurrency": 3, "rate": null, "limits": ["act", "act.tokens"], "running": 0,
        "state": "open", "next_start_at": null, "held_by": null });
    assert_eq!(set.json(), expected);
    assert_eq!(api.get("/limits/act").await.json()["queues"], json!(["act"]));
    let set = put(&api, path, &json!({ "limits": ["act.tokens"] })).await;
    assert_eq!(set.json()["concurrency"], Value::Null);
    assert_eq!(api.get("/limits/act").await.json()["queues"], json!([]));
    for limits in
        [json!(["none"]), json!(["act", "act.tokens", "act.other"]), json!(["Act"]), json!("act")]
    {
        let refused = put(&api, path, &json!({ "concurrency": 1, "limits": limits })).await;
        // One that does not exist may also be elsewhere.
        assert!([404, 409, 422].contains(&refused.status.as_u16()), "{limits}: {refused:?}");
    }
    assert_problem(&put(&api, path, &json!({ "limits": ["act.none"] })).await, 404, "not-found");
    assert_eq!(api.get(path).await.json()["limits"], json!(["act.tokens"]), "nothing changed");
    // Of sixteen partitions, not all of these are in that of the queue.
    let mut refused = Vec::new();
    for at in 0..9 {
        let name = format!("l{at}");
        put(&api, &format!("/limits/{name}"), &json!({ "concurrency": 2 })).await;
        refused.push(put(&api, path, &json!({ "limits": [name] })).await);
    }
    let other = refused.iter().find(|answer| answer.status.as_u16() == 409).unwrap();
    assert_problem(other, 409, "other-home");
    assert!(other.json()["detail"].as_str().unwrap().contains("begins with l"), "{other:?}");
    put(&api, path, &json!({ "limits": ["act.tokens"] })).await;
    let removed = delete(&api, "/limits/act.tokens").await;
    assert_eq!((removed.status.as_u16(), removed.json()), (200, json!({ "queues": ["act"] })));
    assert_eq!(api.get(path).await.json()["limits"], json!([]), "the queue shares it no more");
    drop(worker);
}

#[tokio::test]
async fn as_many_jobs_of_queues_that_share_a_limit_run_as_may() {
    let (mut stack, api, _worker) = Stack::simple(20).await;
    let queues = ["act", "act.more"];
    let served = [("CRUNCH_WORKER_QUEUES", "act,act.more")];
    let _other = stack.worker_with(&api, 20, &served).await;
    let stage = Stage::open().await;
    assert_eq!(put(&api, "/limits/act", &json!({ "concurrency": 2 })).await.status, 200);
    for queue in queues {
        let path = format!("/queues/{queue}/limit");
        eventually("the queue is known", async || {
            let set = put(&api, &path, &json!({ "limits": ["act"] })).await;
            (set.status.as_u16() == 200).then_some(())
        })
        .await;
    }
    for at in 0..10 {
        let queue = json!({ "queue": queues[at % 2] });
        api.submit_with("act", &stage.payload(), &queue).await;
    }
    eventually("two run, and no more may", async || {
        let status = api.get("/limits/act").await.json();
        (status["running"] == 2 && status["state"] == "blocked").then_some(())
    })
    .await;
    let limit = api.get("/queues/act.more/limit").await.json();
    assert_eq!((&limit["state"], &limit["held_by"]), (&json!("blocked"), &json!("act")));
    let mut actors = vec![stage.wait_for_handler().await, stage.wait_for_handler().await];
    assert!(stage.is_empty().await, "only two run");
    for _ in 0..8 {
        actors.remove(0).returns(&json!(1)).await;
        actors.push(stage.wait_for_handler().await);
        assert!(stage.is_empty().await, "one that ends makes room for one");
    }
    for actor in actors {
        actor.returns(&json!(1)).await;
    }
}

#[tokio::test]
async fn a_key_for_some_queues_sees_the_limits_that_these_share_and_changes_none() {
    let keyed = ApiWithKeys::start(&[]).await;
    let all = keyed.create_key(&["--scopes", "admin"]).await;
    let some = keyed.create_key(&["--scopes", "admin", "--queues", "mine"]).await;
    let reader = keyed.create_key(&["--scopes", "read"]).await;
    let put = async |key: &str, path: &str, body: &Value| {
        let request = keyed.api.request(Method::PUT, path).bearer_auth(key);
        keyed.api.send(request.json(body)).await
    };
    let one = json!({ "concurrency": 1 });
    for limit in ["mine", "yours"] {
        assert_eq!(put(&all, &format!("/limits/{limit}"), &one).await.status, 200);
    }
    for queue in ["mine", "mine.too", "yours"] {
        let job = json!({ "task": "t", "queue": queue, "group": "g" });
        assert_eq!(keyed.post(&all, "/jobs", &job).await.status, 202);
        let family = queue.split('.').next().unwrap();
        let shares = json!({ "limits": [family] });
        assert_eq!(put(&all, &format!("/queues/{queue}/limit"), &shares).await.status, 200);
    }
    assert_problem(&put(&some, "/limits/mine", &one).await, 403, "forbidden");
    assert_problem(&keyed.send(&some, "DELETE", "/limits/mine").await, 403, "forbidden");
    assert_problem(&put(&reader, "/limits/mine", &one).await, 403, "forbidden");
    assert_problem(&keyed.send(&some, "GET", "/limits/yours").await, 404, "not-found");
    let listed = keyed.send(&some, "GET", "/limits").await.json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    assert_eq!(listed["items"][0]["queues"], json!(["mine"]), "no queue of others");
    let listed = keyed.send(&reader, "GET", "/limits").await.json();
    assert_eq!(listed["items"][0]["queues"], json!(["mine", "mine.too"]));
}
