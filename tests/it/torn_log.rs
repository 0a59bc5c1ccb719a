//! An append-only file (the *log*) that was cut inside a step, and its repair by `redis-check-aof --fix` before Redis
//! starts.
//!
//! Redis itself cuts such a file after the last whole command, which may be inside a transaction, and then appends to
//! it: the next start runs half of a step together with the step that follows.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crunch_common::Broker;
use crunch_common::broker::{Exchange, Library, Settled, TaskNames, WorkerId};
use crunch_common::job::{Partition, Payload};
use crunch_tests::{RedisServer, Stack, eventually};
use serde_json::json;

use crate::faults::job;

const ACCEPT_UNKNOWN_TASKS: [(&str, &str); 1] = [("CRUNCH_API_UNKNOWN_TASKS", "accept")];
/// The distance between two tested cuts, in bytes. Testing every byte takes minutes; the steps of a submission are
/// about 370 bytes long.
const STRIDE: usize = 53;

fn log_path(directory: &Path) -> PathBuf {
    directory.join("appendonlydir/appendonly.aof.1.incr.aof")
}

/// Repairs the log as `script/up` and `deploy/crunch-redis` do before they start Redis.
fn repair(directory: &Path) {
    let manifest = directory.join("appendonlydir/appendonly.aof.manifest");
    let mut check = Command::new("redis-check-aof");
    check.arg("--fix").arg(manifest).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut check = check.spawn().unwrap();
    check.stdin.take().unwrap().write_all(b"y\n").unwrap();
    assert!(check.wait().unwrap().success());
}

/// Returns the log of a Redis with some jobs, and where the step of its last submission begins.
async fn log_with_jobs() -> (Vec<u8>, usize) {
    let mut stack = Stack::on(RedisServer::durable());
    let api = stack.api_with(&ACCEPT_UNKNOWN_TASKS).await;
    for n in 0..3 {
        api.submit("unknown", &json!(n)).await;
    }
    drop(api);
    stack.redis.stop();
    let log = std::fs::read(log_path(stack.redis.directory())).unwrap();
    let is_step_start = |at: &usize| log[*at..].starts_with(b"*1\r\n$5\r\nMULTI");
    let steps: Vec<_> = (0..log.len()).filter(is_step_start).collect();
    // From the end, the first step from which on a key of a job appears: without workers only submissions write one.
    let has_job = |at: &&usize| String::from_utf8_lossy(&log[**at..]).contains(":job:");
    let last_submission = *steps.iter().rev().find(has_job).unwrap();
    (log, last_submission)
}

/// Runs one job, from its submission to its result, in three steps: `enqueue`, an `exchange` that claims, and one that
/// settles.
async fn run_a_job(broker: &Broker) {
    let queue = "square".parse().unwrap();
    let job = job(&queue, broker);
    let partition = job.id.partition();
    assert!(broker.enqueue(&[job]).await[0].is_ok());
    let mut exchange = Exchange {
        worker: WorkerId::generate(),
        number: 1,
        lease: Duration::from_secs(3600),
        tasks: TaskNames::default(),
        queues: vec![queue],
        settlements: Vec::new(),
        want: 1,
        busy: 0,
    };
    let claims = broker.exchange(partition, &exchange).await.unwrap().claims;
    (exchange.number, exchange.want) = (2, 0);
    exchange.settlements =
        claims.into_iter().map(|claim| claim.lease.complete(Payload::json("1"))).collect();
    let settled = broker.exchange(partition, &exchange).await.unwrap().settled;
    assert_eq!(settled, [Settled::Done]);
}

#[tokio::test]
#[ignore = "two starts of Redis for each byte of three steps: minutes"]
async fn a_log_that_was_cut_at_any_byte_of_a_job_is_repaired() {
    let mut stack = Stack::on(RedisServer::durable());
    let broker = stack.redis.broker("crunch", Library::shipped());

    run_a_job(&broker).await;
    let first_cut = std::fs::read(log_path(stack.redis.directory())).unwrap().len();
    run_a_job(&broker).await;
    stack.redis.stop();
    let log = std::fs::read(log_path(stack.redis.directory())).unwrap();
    for cut in first_cut..log.len() {
        stack.redis.stop();
        std::fs::write(log_path(stack.redis.directory()), &log[..cut]).unwrap();
        repair(stack.redis.directory());
        stack.redis.restart();
        let broker = stack.redis.broker("crunch", Library::shipped());
        // Redis may still be reading its log, and refuses everything meanwhile.
        eventually("Redis is available", async || broker.open().await.ok()).await;
        broker.sweep(Partition::default(), None).await.unwrap();
        run_a_job(&broker).await;
        stack.redis.restart();
        eventually("Redis is available", async || broker.open().await.ok()).await;
        stack.assert_clean_audit().await;
    }
}

#[tokio::test]
async fn half_a_step_at_the_end_of_a_log_is_never_run() {
    let (log, last_submission) = log_with_jobs().await;
    let mut stack = Stack::on(RedisServer::durable());

    for cut in (last_submission + 1..log.len()).step_by(STRIDE) {
        stack.redis.stop();
        std::fs::write(log_path(stack.redis.directory()), &log[..cut]).unwrap();
        repair(stack.redis.directory());
        stack.redis.restart();
        let api = stack.api_with(&ACCEPT_UNKNOWN_TASKS).await;
        api.submit("unknown", &json!("after")).await;
        drop(api);
        stack.redis.restart();
        stack.assert_clean_audit().await;
    }
}
