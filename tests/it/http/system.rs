//! What Redis says of itself.

use crunch_tests::{RedisServer, Stack};
use serde_json::{Value, json};

use super::assert_problem;
use super::keys::ApiWithKeys;

#[tokio::test]
async fn each_node_shows_its_state_or_why_there_is_none() {
    let mut stack = Stack::on(RedisServer::start().with_partitions(4));
    let api = stack.api().await;
    let nodes = api.get("/system").await.json()["items"].as_array().unwrap().clone();
    let mut partitions = Vec::new();
    for node in &nodes {
        partitions.extend(node["partitions"].as_array().unwrap().clone());
        assert_eq!(node["problem"], Value::Null, "{node}");
        assert_eq!(
            (&node["role"], &node["memory_policy"]),
            (&json!("master"), &json!("noeviction"))
        );
        assert!(["redis", "valkey"].contains(&node["server"].as_str().unwrap()), "{node}");
        for more_than_zero in ["used_memory", "clients", "max_clients"] {
            assert!(node[more_than_zero].as_u64().unwrap() > 0, "{node}");
        }
        assert!(node["round_trip_ms"].as_f64().unwrap() > 0.0, "{node}");
        assert_eq!(node["disk_ok"], true, "{node}");
    }
    partitions.sort_by_key(Value::as_u64);
    assert_eq!(json!(partitions), json!([0, 1, 2, 3]));
    // The only Redis needs no address.
    assert!(nodes.len() == 1 || nodes.iter().all(|node| node["address"].is_string()));

    stack.redis.stop();
    let answer = api.get("/system").await;
    assert_eq!(answer.status.as_u16(), 200);
    for node in answer.json()["items"].as_array().unwrap() {
        assert!(node["problem"].as_str().unwrap().contains("redis is unavailable"), "{node}");
        assert_eq!(node["version"], Value::Null, "{node}");
    }
}

#[tokio::test]
async fn a_key_for_some_queues_does_not_see_the_state_of_redis() {
    let keyed = ApiWithKeys::start(&[]).await;
    let some = keyed.create_key(&["--scopes", "admin", "--queues", "mine"]).await;
    assert_problem(&keyed.send(&some, "GET", "/system").await, 403, "forbidden");
}
