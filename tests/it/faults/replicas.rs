//! Failover to a replica. (F17)

use crunch_tests::{Api, Proxy, RedisServer, Stack, Stage, Worker, eventually};
use reqwest::StatusCode;
use serde_json::json;

use super::network::{RESUME, wait_until_working};
use super::*;

/// A master and its replica, and an API and a worker that connect through a name that can be redirected.
struct Pair {
    stack: Stack,
    replica: RedisServer,
    name: Proxy,
    api: Api,
    worker: Worker,
}

const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

async fn execute(redis: &RedisServer, words: &[&str]) -> redis::Value {
    let mut connection = redis.connect().await;
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(&mut connection).await.unwrap()
}

impl Pair {
    async fn start() -> Self {
        let mut stack = Stack::on(RedisServer::single_with(&DURABLE));
        let replica = stack.redis.start_replica();
        let name = stack.proxy();
        let api = stack.api_via(&name).await;
        let worker = stack.worker_via(&name, &api, 2, &SAFE_LEASE).await;
        let pair = Self { stack, replica, name, api, worker };
        pair.wait_until_in_sync().await;
        pair
    }

    /// Waits until the replica has everything that the master has now.
    async fn wait_until_in_sync(&self) {
        let mut master = self.stack.redis.connect().await;
        eventually("the replica is in sync", async || {
            let mut wait = redis::pipe();
            wait.cmd("SET").arg("in-sync").arg(1).ignore().cmd("WAIT").arg(1).arg(200);
            let (replicas,): (u32,) = wait.query_async(&mut master).await.ok()?;
            (replicas == 1).then_some(())
        })
        .await;
    }

    async fn promote(&self) {
        execute(&self.replica, &["REPLICAOF", "NO", "ONE"]).await;
        self.name.redirect_to(self.replica.port());
    }
}

#[tokio::test]
async fn a_replica_in_sync_takes_over_and_nothing_is_lost_or_runs_twice() {
    let mut pair = Pair::start().await;
    let stage = Stage::open().await;
    let running = pair.api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    let later = pair.api.submit_with("echo", &json!(1), &json!({ "delay_ms": 100 })).await;
    pair.wait_until_in_sync().await;

    pair.stack.redis.kill();
    pair.promote().await;

    assert!(wait_until_working(&pair.api).await < RESUME);
    actor.returns(&json!("kept")).await;
    assert_eq!(pair.api.wait_for_status(&running, "succeeded").await["result"], "kept");
    assert_eq!(outcomes(&pair.api, &running).await, ["succeeded"]);
    pair.api.wait_for_status(&later, "succeeded").await;
    assert!(stage.is_empty().await && !pair.worker.has_exited());
}

#[tokio::test]
async fn clients_of_a_master_that_became_a_replica_use_the_new_master() {
    let pair = Pair::start().await;
    pair.promote().await;
    // It replies READONLY on connections that stay open, as after a planned failover.
    let new_port = pair.replica.port().to_string();
    execute(&pair.stack.redis, &["REPLICAOF", "127.0.0.1", &new_port]).await;
    assert!(wait_until_working(&pair.api).await < RESUME);
    let id = pair.api.submit("echo", &json!("on the new master")).await;
    pair.api.wait_for_status(&id, "succeeded").await;
}

#[tokio::test]
async fn a_replica_that_lags_loses_what_it_did_not_have_and_nothing_else() {
    let mut pair = Pair::start().await;
    let stage = Stage::open().await;
    let running = pair.api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    let first_epoch = actor.epoch;
    let kept = pair.api.submit_with("echo", &json!(1), &json!({ "delay_ms": 500 })).await;
    pair.wait_until_in_sync().await;

    // From now on the replica receives nothing from its master.
    execute(&pair.replica, &["REPLICAOF", "NO", "ONE"]).await;
    let lost = pair.api.submit_with("echo", &json!(2), &json!({ "delay_ms": 500 })).await;
    actor.returns(&json!("first")).await;
    pair.api.wait_for_status(&running, "succeeded").await;

    pair.stack.redis.kill();
    pair.promote().await;
    wait_until_working(&pair.api).await;

    pair.api.wait_for_status(&kept, "succeeded").await;
    assert_eq!(pair.api.get(&format!("/jobs/{lost}")).await.status, StatusCode::NOT_FOUND);
    // Its end was lost, too: the job runs again, with a newer claim than the first.
    let again = stage.wait_for_handler().await;
    assert!(again.id == running && again.epoch > first_epoch);
    again.returns(&json!("second")).await;
    assert_eq!(pair.api.wait_for_status(&running, "succeeded").await["result"], "second");
    assert!(!pair.worker.has_exited());
}
