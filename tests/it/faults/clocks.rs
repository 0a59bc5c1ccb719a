//! Clocks that are wrong, or jump during a run. (F16)

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use crunch_common::time::Timestamp;
use crunch_tests::{Api, Filter, Proxy, RedisServer, Stack, Stage, eventually};
use serde_json::json;
use tempfile::TempDir;

use super::network::wait_until_working;
use super::*;

const HOUR_MS: i64 = 3_600_000;

/// A clock that a test sets, for processes that have the shim preloaded.
struct Clock {
    directory: TempDir,
}

impl Clock {
    fn off_by(ms: i64) -> Self {
        let clock = Self { directory: tempfile::tempdir().unwrap() };
        clock.set(ms);
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/it/faults/clock.c");
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(clock.shim()).arg(source);
        assert!(compile.status().expect("a C compiler is installed").success());
        clock
    }

    fn set(&self, ms: i64) {
        // Overwritten, never truncated: processes have it mapped.
        let file = File::options().create(true).truncate(false).write(true).open(self.file());
        file.unwrap().write_all(&ms.to_ne_bytes()).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("offset")
    }

    fn shim(&self) -> PathBuf {
        self.directory.path().join("clock.so")
    }

    /// The variables that make a process use this clock.
    fn environment(&self) -> [(&'static str, String); 2] {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        [("LD_PRELOAD", text(self.shim())), ("CRUNCH_TEST_CLOCK", text(self.file()))]
    }

    fn redis(&self) -> RedisServer {
        let variables = self.environment().map(|(name, value)| format!("{name}={value}"));
        RedisServer::with_command(
            &["env", &variables[0], &variables[1], "redis-server"],
            &["--appendonly", "no"],
        )
    }
}

/// Waits until a worker has sent the heartbeats of three leases.
async fn wait_for_three_leases(proxy: &Proxy) {
    let heartbeats = proxy.passed("heartbeat") + 12;
    eventually("three leases have passed", async || {
        (proxy.passed("heartbeat") >= heartbeats).then_some(())
    })
    .await;
}

/// The clock of Redis jumps while a job runs, and a sweep sees this before the next heartbeat: no live worker is
/// declared dead, and a dead one still is.
async fn assert_survives_jump(jump_ms: i64) {
    let clock = Clock::off_by(0);
    let mut stack = Stack::on(clock.redis());
    let (to_api, to_worker, stage) = (stack.proxy(), stack.proxy(), Stage::open().await);
    let (api, lease) = (stack.api_via(&to_api).await, [("CRUNCH_LEASE_MS", "2000")]);
    let mut worker = stack.worker_via(&to_worker, &api, 2, &lease).await;
    let running = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;

    let heartbeat = to_worker.hold_command(Filter::verb("heartbeat"));
    heartbeat.wait_until_held().await;
    clock.set(jump_ms);
    let sweeps = to_api.passed("sweep");
    eventually("a sweep has seen the jump", async || {
        (to_api.passed("sweep") > sweeps + 1).then_some(())
    })
    .await;

    heartbeat.release();
    wait_for_three_leases(&to_worker).await;
    wait_until_working(&api).await;
    let before: Timestamp =
        api.job(&running).await["created_at"].as_str().unwrap().parse().unwrap();
    let after = api.submit("echo", &json!(0)).await;
    let after: Timestamp = api.job(&after).await["created_at"].as_str().unwrap().parse().unwrap();
    let jump = after.unix_ms().cast_signed() - before.unix_ms().cast_signed();
    assert!((jump - jump_ms).abs() < 60_000, "the clock moved by {jump} ms");

    actor.returns(&json!("kept")).await;
    assert_eq!(api.wait_for_status(&running, "succeeded").await["result"], "kept");
    assert_eq!(outcomes(&api, &running).await, ["succeeded"]);
    assert!(stage.is_empty().await);

    let orphan = api.submit("act", &stage.payload()).await;
    let _running = stage.wait_for_handler().await;
    clock.set(0);
    worker.kill().await;
    let _second = stack.worker_with(&api, 1, &lease).await;
    stage.wait_for_handler().await.returns(&json!("rescued")).await;
    assert_eq!(api.wait_for_status(&orphan, "succeeded").await["result"], "rescued");
}

#[tokio::test]
async fn no_worker_is_declared_dead_when_the_clock_of_redis_jumps_ahead() {
    assert_survives_jump(HOUR_MS).await;
}

#[tokio::test]
async fn no_worker_is_declared_dead_when_the_clock_of_redis_jumps_back() {
    assert_survives_jump(-HOUR_MS).await;
}

/// Runs jobs with an API and two workers whose clocks differ by hours; only the clock of Redis counts.
async fn assert_clocks_do_not_matter(stack: &mut Stack, clocks: [&Clock; 3]) {
    let environments = clocks.map(Clock::environment);
    let as_text = |environment: &'static str| environment;
    let [api, first, second] = environments
        .each_ref()
        .map(|pairs| pairs.each_ref().map(|(name, value)| (as_text(name), value.as_str())));
    let api: Api = stack.api_with(&api).await;
    let mut workers = Vec::new();
    for clock in [first, second] {
        let environment = [&SAFE_LEASE[..], &clock].concat();
        workers.push(stack.worker_with(&api, 4, &environment).await);
    }

    let listed = api.get("/workers").await.json()["items"].clone();
    let started = |at: usize| listed[at]["started_at"].as_str().unwrap().to_owned();
    assert_ne!(started(0)[..13], started(1)[..13], "the clocks differ by hours");

    let ids = submit_squares(&api, 300, 20).await;
    let later = api.submit_with("echo", &json!(1), &json!({ "delay_ms": 500 })).await;
    wait_until_drained(&api, "square").await;
    assert_squares(&api, &ids).await;
    api.wait_for_status(&later, "succeeded").await;

    let entries = stack.ledger();
    assert!(runs(&entries).values().all(|runs| runs.len() == 1));
    assert!(runs(&entries).values().any(|runs| runs[0].pid == workers[0].pid()));
    assert!(runs(&entries).values().any(|runs| runs[0].pid == workers[1].pid()));
}

#[tokio::test]
async fn clocks_of_workers_and_apis_may_be_hours_wrong() {
    let (ahead, behind) = (Clock::off_by(HOUR_MS), Clock::off_by(-HOUR_MS));
    let mut stack = Stack::start();
    assert_clocks_do_not_matter(&mut stack, [&behind, &ahead, &behind]).await;
}
