//! A replica that takes over. (F17)

use crunch_tests::{Api, Proxy, RedisServer, Stack, Stage, Worker, eventually};
use reqwest::StatusCode;
use serde_json::json;

use super::network::{RESUME, works_again};
use super::*;

/// A master, its replica, and everybody else behind a name that can be moved.
struct Pair {
    stack: Stack,
    replica: RedisServer,
    name: Proxy,
    api: Api,
    worker: Worker,
}

async fn ask(redis: &RedisServer, words: &[&str]) -> redis::Value {
    let mut connection = redis.connect().await;
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(&mut connection).await.unwrap()
}

impl Pair {
    async fn start() -> Self {
        let mut stack = Stack::on(RedisServer::durable());
        let master = stack.redis.port().to_string();
        let replica =
            RedisServer::with(&["--appendonly", "no", "--replicaof", "127.0.0.1", &master]);
        let name = stack.proxy();
        let api = stack.api_via(&name).await;
        let worker = stack.worker_via(&name, &api, 2, &SAFE_LEASE).await;
        let pair = Self { stack, replica, name, api, worker };
        pair.in_sync().await;
        pair
    }

    /// Waits until the replica has everything that the master had when this was called.
    async fn in_sync(&self) {
        let mut master = self.stack.redis.connect().await;
        eventually("the replica follows", async || {
            let mut wait = redis::pipe();
            wait.cmd("SET").arg("in-sync").arg(1).ignore().cmd("WAIT").arg(1).arg(200);
            let (replicas,): (u32,) = wait.query_async(&mut master).await.ok()?;
            (replicas == 1).then_some(())
        })
        .await;
    }

    async fn promote(&self) {
        ask(&self.replica, &["REPLICAOF", "NO", "ONE"]).await;
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
    pair.in_sync().await;
    pair.stack.redis.kill();
    pair.promote().await;
    assert!(works_again(&pair.api).await < RESUME);
    actor.returns(&json!("kept")).await;
    assert_eq!(pair.api.wait_for_status(&running, "succeeded").await["result"], "kept");
    assert_eq!(outcomes(&pair.api, &running).await, ["succeeded"]);
    pair.api.wait_for_status(&later, "succeeded").await;
    assert!(stage.is_empty().await && !pair.worker.has_exited());
}

#[tokio::test]
async fn a_master_that_became_a_replica_is_left_for_the_new_one() {
    let pair = Pair::start().await;
    pair.promote().await;
    // It answers READONLY on connections that stay open: a planned failover looks like this.
    let new = pair.replica.port().to_string();
    ask(&pair.stack.redis, &["REPLICAOF", "127.0.0.1", &new]).await;
    assert!(works_again(&pair.api).await < RESUME);
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
    pair.in_sync().await;
    // It hears nothing of its master any more.
    ask(&pair.replica, &["REPLICAOF", "NO", "ONE"]).await;
    let gone = pair.api.submit_with("echo", &json!(2), &json!({ "delay_ms": 500 })).await;
    actor.returns(&json!("first")).await;
    pair.api.wait_for_status(&running, "succeeded").await;
    pair.stack.redis.kill();
    pair.promote().await;
    works_again(&pair.api).await;
    pair.api.wait_for_status(&kept, "succeeded").await;
    assert_eq!(pair.api.get(&format!("/jobs/{gone}")).await.status, StatusCode::NOT_FOUND);
    // Its end was among what was lost: the job runs again, under a claim that is newer than the first.
    let again = stage.wait_for_handler().await;
    assert!(again.id == running && again.epoch > first_epoch);
    again.returns(&json!("second")).await;
    assert_eq!(pair.api.wait_for_status(&running, "succeeded").await["result"], "second");
    assert!(!pair.worker.has_exited());
}
