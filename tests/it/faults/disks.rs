//! A full disk under the append-only file of Redis. (F21)

use std::fs;

use crunch_tests::{RedisServer, Stack, Stage, eventually};
use reqwest::StatusCode;
use rustix::process::{Resource, Rlimit, prlimit};
use serde_json::json;

use super::network::wait_until_working;
use super::*;

/// Limits the size of the files that Redis may write from now on; `None` removes the limit. Simulates a full disk.
fn limit_files(redis: &RedisServer, bytes: Option<u64>) {
    let limit = Rlimit { current: bytes, maximum: None };
    prlimit(Some(redis.pid()), Resource::Fsize, limit).unwrap();
}

fn log_size(redis: &RedisServer) -> u64 {
    let files = fs::read_dir(redis.directory().join("appendonlydir")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).max().unwrap()
}

#[tokio::test]
async fn jobs_are_refused_while_the_disk_is_full_and_accepted_once_it_has_space() {
    // Above the limit a write fails as on a full disk, if the signal that comes with it is ignored.
    let command = ["sh", "-c", "trap '' XFSZ; exec redis-server \"$@\"", "sh"];
    let redis =
        RedisServer::with_command(&command, &["--appendonly", "yes", "--appendfsync", "everysec"]);
    let mut stack = Stack::on(redis);
    let (api, stage) = (stack.api().await, Stage::open().await);
    let mut worker = stack.worker_with(&api, 1, &SHORT_LEASE).await;
    let running = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;

    limit_files(&stack.redis, Some(log_size(&stack.redis) + 4096));
    let refused = eventually("a job is refused", async || {
        let answer = api.post("/jobs", &json!({ "task": "echo" })).await;
        (answer.status != StatusCode::ACCEPTED).then_some(answer)
    })
    .await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{refused:?}");
    assert_eq!(refused.header("retry-after"), "1");
    eventually("the API is not ready", async || {
        (api.get("/readyz").await.status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    actor.returns(&json!("kept")).await;
    worker.wait_for_log("MISCONF").await;

    limit_files(&stack.redis, None);
    wait_until_working(&api).await;
    assert_eq!(api.wait_for_status(&running, "succeeded").await["result"], "kept");
    assert_eq!(outcomes(&api, &running).await, ["succeeded"]);
    wait_until_drained(&api, "echo").await;
    assert!(!worker.has_exited());
}
