//! Names of queues that clients choose: an unknown queue does not exist, and the number of queues is limited.

use crunch_common::broker::Library;
use crunch_common::task::TaskDescriptor;
use crunch_tests::{Api, RedisServer, Stack, eventually};
use reqwest::Method;
use serde_json::json;

use super::{api_without_workers, assert_problem, expect_problem};

async fn keys(redis: &RedisServer, pattern: &str) -> Vec<String> {
    let mut keys = Vec::new();
    for node in redis.all() {
        let mut connection = node.connect().await;
        let mut command = redis::cmd("KEYS");
        let found: Vec<String> = command.arg(pattern).query_async(&mut connection).await.unwrap();
        keys.extend(found);
    }
    keys
}

#[tokio::test]
async fn an_unknown_queue_is_404_everywhere_and_nothing_is_created() {
    let (stack, api) = api_without_workers().await;

    api.submit("t", &json!(1)).await;
    for path in [
        "/queues/unknown",
        "/queues/unknown/groups",
        "/queues/unknown/limit",
        "/jobs?queue=unknown",
        "/jobs?queue=unknown&status=failed",
    ] {
        expect_problem(&api, &api.get(path).await, 404, "not-found").await;
    }
    for verb in ["pause", "resume", "redrive", "purge"] {
        let answer = api.post_empty(&format!("/queues/unknown/{verb}")).await;
        expect_problem(&api, &answer, 404, "not-found").await;
    }
    for path in ["/queues/unknown/groups", "/queues/unknown/groups/g", "/queues/unknown/limit"] {
        let body = json!({ "concurrency": 1 });
        let set = api.send(api.request(Method::PUT, path).json(&body)).await;
        expect_problem(&api, &set, 404, "not-found").await;
        let removed = api.send(api.request(Method::DELETE, path)).await;
        expect_problem(&api, &removed, 404, "not-found").await;
    }
    for pattern in ["*:queue:unknown:*", "*:paused"] {
        assert_eq!(keys(&stack.redis, pattern).await, Vec::<String>::new(), "{pattern}");
    }
    let queues = api.get("/queues").await.json();

    assert_eq!(queues["items"].as_array().unwrap().len(), 1, "{queues}");
}

#[tokio::test]
async fn a_declared_queue_can_be_paused_before_its_first_job() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let task = TaskDescriptor::new("t".parse().unwrap());

    stack.redis.broker("crunch", Library::shipped()).announce(&[], &[task]).await.unwrap();
    Stack::wait_for_task(&api, "t").await;
    let paused = async |api: &Api| api.get("/queues/t").await.json()["paused"].clone();
    assert_eq!(paused(&api).await, false);
    assert_eq!(
        api.get("/jobs?queue=t").await.json(),
        json!({ "items": [], "next_cursor": null, "search": null })
    );
    for verb in ["resume", "redrive", "purge"] {
        assert_eq!(api.post_empty(&format!("/queues/t/{verb}")).await.status, 200, "{verb}");
    }

    assert_eq!(api.post_empty("/queues/t/pause").await.status, 200);
    assert_eq!(paused(&api).await, true);
}

#[tokio::test]
async fn jobs_for_more_queues_than_allowed_are_refused() {
    let mut stack = Stack::with_one_partition();
    let environment = [("CRUNCH_API_UNKNOWN_TASKS", "accept"), ("CRUNCH_MAX_QUEUES", "3")];
    let api = stack.api_with(&environment).await;
    let job = |queue: &str| json!({ "task": "t", "queue": queue });
    let jobs: Vec<_> = ["a", "b", "a", "c", "d", "a"].map(job).into();
    let batch = api.post("/jobs/batch", &json!({ "jobs": jobs })).await.json();
    let codes: Vec<_> =
        batch["items"].as_array().unwrap().iter().map(|item| &item["status"]).collect();

    assert_eq!(codes, [202, 202, 202, 202, 503, 202], "{batch}");
    let answer = api.post("/jobs", &job("d")).await;
    expect_problem(&api, &answer, 503, "too-many-queues").await;
    assert_problem(&api.get("/queues/d").await, 404, "not-found");
    assert_eq!(api.post("/jobs", &job("b")).await.status, 202);
    // Queues that workers serve are known even beyond the limit.
    let broker = stack.redis.broker("crunch", Library::shipped());
    broker.announce(&["d".parse().unwrap()], &[]).await.unwrap();

    assert_eq!(api.post("/jobs", &job("d")).await.status, 202);
}

/// How often Redis has run this command.
async fn command_calls(stack: &Stack, command: &str) -> u64 {
    let mut connection = stack.redis.connect().await;
    let info: String =
        redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await.unwrap();
    let line =
        info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn declarations_are_read_again_only_after_one_has_changed() {
    let mut stack = Stack::on_one_node();
    let api = stack.api().await;
    let broker = stack.redis.broker("crunch", Library::shipped());
    let mut task = TaskDescriptor::new("t".parse().unwrap());

    broker.announce(&[], std::slice::from_ref(&task)).await.unwrap();
    Stack::wait_for_task(&api, "t").await;
    let (reads, gets) = (command_calls(&stack, "hvals").await, command_calls(&stack, "get").await);
    eventually("the API has read some more times", async || {
        broker.announce(&[], std::slice::from_ref(&task)).await.unwrap();
        (command_calls(&stack, "get").await > gets + 4).then_some(())
    })
    .await;
    assert_eq!(command_calls(&stack, "hvals").await, reads, "the same declaration changes nothing");
    task.description = "changed".to_owned();
    broker.announce(&[], &[task]).await.unwrap();
    eventually("the change is known", async || {
        let now = api.get("/tasks/t").await.json();
        (now["description"] == "changed").then_some(())
    })
    .await;
}
