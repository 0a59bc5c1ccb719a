//! Batches: the order is kept, each item is handled on its own, and sizes are limited.

use crunch_tests::Stack;
use serde_json::{Value, json};

use super::{api_without_workers, expect_problem, pointers};

fn statuses(answer: &Value) -> Vec<u64> {
    answer["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["status"].as_u64().unwrap())
        .collect()
}

#[tokio::test]
async fn each_item_is_answered_in_its_place() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let large = "x".repeat(300_000);
    let batch = json!({ "jobs": [
        { "task": "echo", "payload": 0 }, { "task": "nobody.has.it" }, 7, { "task": "echo", "a/b": 1, "delay_ms": -1 },
        { "task": "echo", "payload": 4, "queue": "other", "delay_ms": 3_600_000 }, { "task": "echo", "payload": large },
        { "task": "image.thumbnail" }, { "task": "echo", "payload": 7 },
    ] });
    let answer = api.post("/jobs/batch", &batch).await;

    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (202, "no-store"));
    let answer = answer.json();
    assert_eq!(statuses(&answer), [202, 422, 422, 422, 202, 413, 422, 202]);
    let problem = |at: usize| &answer["items"][at]["problem"];
    assert_eq!(pointers(problem(1)), ["/jobs/1/task"]);
    assert_eq!(pointers(problem(2)), ["/jobs/2"]);
    assert_eq!(pointers(problem(3)), ["/jobs/3/a~1b", "/jobs/3/delay_ms"]);
    assert_eq!(
        (&problem(5)["max_bytes"], &problem(5)["status"]),
        (&json!(256 * 1024), &json!(413))
    );
    assert_eq!(pointers(problem(6)), ["/jobs/6/payload"]);
    assert_eq!(problem(1)["instance"], "/jobs/batch");
    assert_eq!(answer["items"][4]["job"]["status"], "scheduled");
    for (at, payload) in [(0, 0), (7, 7)] {
        let id = answer["items"][at]["job"]["id"].as_str().unwrap();
        assert_eq!(api.wait_for_status(id, "succeeded").await["result"], payload);
    }
}

#[tokio::test]
async fn a_batch_without_valid_items_is_refused_item_by_item() {
    let (_stack, api) = api_without_workers().await;
    let answer = api.post("/jobs/batch", &json!({ "jobs": [1, {}] })).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (422, ""));
    assert_eq!(statuses(&answer.json()), [422, 422]);
}

#[tokio::test]
async fn a_malformed_batch_is_refused_as_a_whole() {
    let (_stack, api) = api_without_workers().await;
    let job = json!({ "task": "t" });
    let many = |count: usize| json!({ "jobs": vec![&job; count] });

    for (batch, pointer) in [
        (many(0), "/jobs"),
        (many(1001), "/jobs"),
        (json!({ "jobs": {} }), "/jobs"),
        (json!({ "jobs": null }), "/jobs"),
        (json!({}), ""),
        (json!([job]), ""),
        (json!({ "jobs": [job], "a~": 1 }), "/a~0"),
    ] {
        let answer = api.post("/jobs/batch", &batch).await;
        assert_eq!(
            pointers(&expect_problem(&api, &answer, 422, "invalid-submission").await),
            [pointer]
        );
    }
    let twice = api.post_bytes("/jobs/batch", r#"{"jobs":[],"jobs":[{"task":"t"}]}"#).await;
    expect_problem(&api, &twice, 422, "invalid-submission").await;
    let largest = api.post("/jobs/batch", &many(1000)).await;

    assert_eq!((largest.status.as_u16(), statuses(&largest.json())), (202, vec![202; 1000]));
    assert_eq!(api.get("/queues/t").await.json()["counts"]["queued"], 1000);
}

#[tokio::test]
async fn a_batch_may_have_sixteen_mebibytes() {
    let (_stack, api) = api_without_workers().await;
    let payload = "x".repeat(256 * 1024 - 2);
    let jobs = vec![json!({ "task": "t", "payload": payload }); 63];
    let mut body = json!({ "jobs": jobs }).to_string();
    body.push_str(&" ".repeat((16 << 20) - body.len()));
    let answer = api.post_bytes("/jobs/batch", body).await;
    assert_eq!((answer.status.as_u16(), statuses(&answer.json())), (202, vec![202; 63]));
}

#[tokio::test]
async fn payloads_in_a_batch_are_kept_byte_by_byte() {
    let (_stack, api) = api_without_workers().await;
    let payload = r#"{ "b":123456789012345678901234567890, "a":[1.000] }"#;
    let answer = api
        .post_bytes("/jobs/batch", format!(r#"{{"jobs":[{{"task":"t","payload":{payload}}}]}}"#))
        .await;
    let id = answer.json()["items"][0]["job"]["id"].as_str().unwrap().to_owned();
    assert_eq!(api.get(&format!("/jobs/{id}/payload")).await.body, payload.as_bytes());
}
