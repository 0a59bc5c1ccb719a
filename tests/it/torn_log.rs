//! An append-only file that was cut inside a step: what `redis-check-aof --fix`, run before the start, makes of it.
//!
//! Redis itself cuts such a file after the last whole command, which may stand inside a transaction, and then appends to it: the next
//! start runs half of a step together with the step that follows.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crunch_tests::{RedisServer, Stack};
use serde_json::json;

const UNKNOWN: [(&str, &str); 1] = [("CRUNCH_API_UNKNOWN_TASKS", "accept")];
/// Every byte takes minutes; the steps of a submission are about 370 bytes long.
const STRIDE: usize = 53;

fn log_in(directory: &Path) -> PathBuf {
    directory.join("appendonlydir/appendonly.aof.1.incr.aof")
}

/// As `script/up` and `docker-compose.yml` do before they start Redis.
fn mend(directory: &Path) {
    let manifest = directory.join("appendonlydir/appendonly.aof.manifest");
    let mut check = Command::new("redis-check-aof");
    check.arg("--fix").arg(manifest).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut check = check.spawn().unwrap();
    check.stdin.take().unwrap().write_all(b"y\n").unwrap();
    assert!(check.wait().unwrap().success());
}

/// The log of a Redis that took some jobs, and where its last submission begins.
async fn written() -> (Vec<u8>, usize) {
    let mut stack = Stack::on(RedisServer::durable());
    let api = stack.api_with(&UNKNOWN).await;
    for n in 0..3 {
        api.submit("nobody", &json!(n)).await;
    }
    drop(api);
    stack.redis.stop();
    let log = std::fs::read(log_in(stack.redis.directory())).unwrap();
    let begins = |at: &usize| log[*at..].starts_with(b"*1\r\n$5\r\nMULTI");
    let steps: Vec<_> = (0..log.len()).filter(begins).collect();
    let submits = |at: &&usize| String::from_utf8_lossy(&log[**at..]).contains(":job:");
    let last = *steps.iter().rev().find(submits).unwrap();
    (log, last)
}

#[tokio::test]
async fn half_a_step_at_the_end_of_a_log_is_never_run() {
    let (log, last) = written().await;
    let mut stack = Stack::on(RedisServer::durable());
    for cut in (last + 1..log.len()).step_by(STRIDE) {
        stack.redis.stop();
        std::fs::write(log_in(stack.redis.directory()), &log[..cut]).unwrap();
        mend(stack.redis.directory());
        stack.redis.restart();
        let api = stack.api_with(&UNKNOWN).await;
        api.submit("nobody", &json!("after")).await;
        drop(api);
        stack.redis.restart();
        stack.audits_clean().await;
    }
}
