//! A busy worker has two exchanges under way, so that Redis need not wait while it reads an answer.

use std::collections::BTreeMap;

use crunch_tests::{Stack, in_time};
use futures_util::StreamExt;
use serde_json::json;

/// The sequence and the connection of an exchange in a line of `MONITOR`; nothing for other commands.
fn parse_exchange(line: &str) -> Option<(String, String)> {
    let (_time, rest) = line.split_once("[0 ")?;
    let (connection, call) = rest.split_once("] ")?;
    let words: Vec<_> = call.split(' ').map(|word| word.trim_matches('"')).collect();
    let [_fcall, function, _keys, _layout, _worker, _number, sequence, ..] = words[..] else {
        return None;
    };
    function.ends_with("_exchange").then(|| (sequence.to_owned(), connection.to_owned()))
}

#[tokio::test]
async fn a_busy_worker_exchanges_over_two_connections() {
    let (stack, api, _worker) = Stack::on_one_node().with_api_and_worker(64).await;
    api.post("/queues/echo/pause", &json!({})).await;
    // More in each partition than one exchange claims, so that a second one begins.
    let jobs = vec![json!({ "task": "echo" }); 1000];
    let batch = api.post("/jobs/batch", &json!({ "jobs": jobs })).await.json();

    let monitor = stack.redis.client().get_async_monitor().await.unwrap();
    let mut lines = monitor.into_on_message::<String>();

    api.post("/queues/echo/resume", &json!({})).await;
    let mut connections = BTreeMap::new();
    let both_sequences = async {
        while connections.len() < 2 {
            connections.extend(lines.next().await.as_deref().and_then(parse_exchange));
        }
    };
    in_time("exchanges on both sequences", both_sequences).await;

    assert_ne!(connections["0"], connections["1"], "each sequence has its own connection");
    for item in batch["items"].as_array().unwrap() {
        api.wait_for_status(item["job"]["id"].as_str().unwrap(), "succeeded").await;
    }
}
