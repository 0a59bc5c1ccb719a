//! A busy worker has two exchanges under way, so that Redis need not wait while it reads an answer.

use std::collections::BTreeMap;

use crunch_tests::{Stack, in_time};
use futures_util::StreamExt;
use serde_json::json;

/// What Redis tells of an exchange that was called: over which connection it came, and on which strand.
fn exchange(told: &str) -> Option<(String, String)> {
    let (_time, rest) = told.split_once("[0 ")?;
    let (connection, call) = rest.split_once("] ")?;
    let words: Vec<_> = call.split(' ').map(|word| word.trim_matches('"')).collect();
    let [_fcall, function, _keys, _root, _worker, _number, strand, ..] = words[..] else {
        return None;
    };
    function.ends_with("_exchange").then(|| (strand.to_owned(), connection.to_owned()))
}

#[tokio::test]
async fn a_busy_worker_exchanges_over_two_connections() {
    let (stack, api, _worker) = Stack::simple(64).await;
    api.post("/queues/echo/pause", &json!({})).await;
    let jobs = vec![json!({ "task": "echo" }); 200];
    let batch = api.post("/jobs/batch", &json!({ "jobs": jobs })).await.json();
    let monitor = stack.redis.client().get_async_monitor().await.unwrap();
    let mut told = monitor.into_on_message::<String>();
    api.post("/queues/echo/resume", &json!({})).await;
    let mut strands = BTreeMap::new();
    let both = async {
        while strands.len() < 2 {
            strands.extend(told.next().await.as_deref().and_then(exchange));
        }
    };
    in_time("exchanges on both strands", both).await;
    assert_ne!(strands[""], strands["2"], "each has a connection of its own");
    for item in batch["items"].as_array().unwrap() {
        api.wait_for_status(item["job"]["id"].as_str().unwrap(), "succeeded").await;
    }
}
