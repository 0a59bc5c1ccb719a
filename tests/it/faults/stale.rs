//! Workers that report a result after their lease has expired and the job was claimed again. (F14, F15)

use std::time::Duration;

use crunch_common::broker::{
    Durability, Exchange, Library, NewJob, Settled, Start, TaskNames, WorkerId,
};
use crunch_common::job::{Partition, Payload, Priority};
use crunch_common::queue::QueueName;
use crunch_tests::{RedisServer, Stack, Stage, eventually};
use rustix::process::Signal;
use serde_json::json;

use super::*;
use crate::broker::simulated::options;

#[tokio::test]
async fn a_late_result_after_a_network_partition_is_refused() {
    let mut stack = Stack::start();
    let (api, proxy, stage) = (stack.api().await, stack.proxy(), Stage::open().await);
    let mut first = stack.worker_via(&proxy, &api, 1, &SHORT_LEASE).await;
    let id = api.submit("act", &stage.payload()).await;
    let late = stage.wait_for_handler().await;
    let _second = stack.worker_with(&api, 1, &SHORT_LEASE).await;

    proxy.black_hole();
    let current = stage.wait_for_handler().await;
    assert!(current.id == id && current.epoch > late.epoch);

    // Before a heartbeat can stop it.
    late.returns_and_ends(&json!("late")).await;
    proxy.heal();
    first.wait_for_log("stale outcome dropped: another attempt holds the job").await;

    current.returns(&json!("current")).await;
    assert_eq!(api.wait_for_status(&id, "succeeded").await["result"], "current");
    assert_eq!(outcomes(&api, &id).await, ["lost", "succeeded"]);
}

#[tokio::test]
async fn a_handler_whose_job_was_claimed_again_during_a_partition_is_stopped() {
    let mut stack = Stack::start();
    let (api, proxy, stage) = (stack.api().await, stack.proxy(), Stage::open().await);
    let mut first = stack.worker_via(&proxy, &api, 1, &SHORT_LEASE).await;
    let id = api.submit("act", &stage.payload()).await;
    let mut late = stage.wait_for_handler().await;
    let _second = stack.worker_with(&api, 1, &SHORT_LEASE).await;

    proxy.black_hole();
    let current = stage.wait_for_handler().await;

    proxy.heal();
    late.wait_for_stop_request().await;
    first.wait_for_log("lease lost").await;
    current.returns(&json!("current")).await;
    assert_eq!(api.wait_for_status(&id, "succeeded").await["result"], "current");
}

/// How this can happen is not known. Exchanges repeated without a pause would keep Redis busy for half a minute.
#[tokio::test]
async fn a_live_worker_that_was_reclaimed_retries_in_growing_intervals() {
    let (stack, api, mut worker) = Stack::with_one_partition().with_api_and_worker(1).await;
    let worker_id = api.get("/workers").await.json()["items"][0]["id"].as_str().unwrap().to_owned();
    let broker = stack.redis.broker("crunch", Library::shipped());
    broker.reclaim(worker_id.parse().unwrap()).await.unwrap();

    let job = api.submit("echo", &json!(1)).await;
    worker.wait_for_log("Redis rejected an exchange as stale").await;

    let mut redis = stack.redis.connect().await;
    let mut last_sweep = async || -> u64 {
        let mut read = redis::cmd("HGET");
        read.arg("crunch:{0}:sweep").arg("last").query_async(&mut redis).await.unwrap()
    };
    // A sweep comes once a second.
    for _ in 0..3 {
        let last = last_sweep().await;
        eventually("another sweep has run", async || (last_sweep().await != last).then_some(()))
            .await;
    }

    let rejected = worker.log().matches("Redis rejected an exchange as stale").count();
    assert!(rejected < 100, "{rejected} exchanges in three seconds");

    let mut redis = stack.redis.connect().await;
    let delete = redis::cmd("DEL").arg(format!("crunch:{{0}}:worker:{worker_id}")).to_owned();
    let () = delete.query_async(&mut redis).await.unwrap();
    api.wait_for_status(&job, "succeeded").await;
}

#[tokio::test]
async fn a_worker_that_wakes_after_its_lease_cannot_overwrite_the_new_attempt() {
    let mut stack = Stack::start();
    let (api, stage) = (stack.api().await, Stage::open().await);
    let first = stack.worker_with(&api, 1, &SHORT_LEASE).await;
    let id = api.submit("act", &stage.payload()).await;
    let late = stage.wait_for_handler().await;
    let _second = stack.worker_with(&api, 1, &SHORT_LEASE).await;

    first.signal(Signal::STOP);
    let current = stage.wait_for_handler().await;
    // Sent while the worker is stopped: the first thing it does after that is to settle.
    late.returns(&json!("late")).await;
    first.signal(Signal::CONT);

    eventually("the late result is refused", async || {
        let log = first.log();
        (log.contains("stale outcome dropped") || log.contains("lease lost")).then_some(())
    })
    .await;
    assert_eq!(api.job(&id).await["status"], "running");

    current.returns(&json!("current")).await;
    assert_eq!(api.wait_for_status(&id, "succeeded").await["result"], "current");
}

const LATE: usize = 10_000;

pub(crate) fn job(queue: &QueueName, broker: &crunch_common::Broker) -> NewJob {
    NewJob {
        id: broker.new_id(None),
        task: "square".parse().unwrap(),
        queue: queue.clone(),
        priority: Priority::Normal,
        start: Start::Now,
        payload: "1".into(),
        options: options(),
        retention: None,
        idempotency: None,
        durability: Durability::MEMORY,
        webhook: None,
        indexes: Vec::new(),
        lock: None,
        schedule: None,
    }
}

/// A worker that only exchanges.
struct Exchanger {
    broker: crunch_common::Broker,
    exchange: Exchange,
}

impl Exchanger {
    fn new(broker: &crunch_common::Broker, queue: &QueueName, lease: Duration) -> Self {
        let exchange = Exchange {
            worker: WorkerId::generate(),
            number: 0,
            lease,
            tasks: TaskNames::default(),
            queues: vec![queue.clone()],
            settlements: Vec::new(),
            want: Exchange::MAX_CLAIMS,
            busy: 0,
        };
        Self { broker: broker.clone(), exchange }
    }

    async fn claim(&mut self, count: usize) -> Vec<crunch_common::broker::Claim> {
        let mut claims = Vec::new();
        while claims.len() < count {
            self.exchange.number += 1;
            let partition = Partition::new(0).unwrap();
            let batch = self.broker.exchange(partition, &self.exchange).await.unwrap().claims;
            assert!(!batch.is_empty(), "{} of {count}", claims.len());
            claims.extend(batch);
        }
        claims
    }

    /// Settles every claim as succeeded with this result; returns how many were accepted, and how many stale.
    async fn complete(
        &mut self,
        claims: Vec<crunch_common::broker::Claim>,
        result: &'static str,
    ) -> [usize; 2] {
        let (mut done, mut stale) = (0, 0);
        self.exchange.want = 0;
        let mut claims = claims.into_iter().peekable();
        while claims.peek().is_some() {
            self.exchange.number += 1;
            let batch = claims.by_ref().take(Exchange::MAX_SETTLEMENTS);
            self.exchange.settlements =
                batch.map(|claim| claim.lease.complete(Payload::json(result))).collect();
            let partition = Partition::new(0).unwrap();
            let settled = self.broker.exchange(partition, &self.exchange).await.unwrap().settled;
            done += settled.iter().filter(|&&code| code == Settled::Done).count();
            stale += settled.iter().filter(|&&code| code == Settled::Stale).count();
        }
        [done, stale]
    }
}

#[tokio::test]
async fn ten_thousand_late_results_are_all_refused() {
    let redis = RedisServer::start().with_partitions(1);
    let broker = redis.broker("late", Library::shipped());
    let queue: QueueName = "square".parse().unwrap();
    let jobs: Vec<_> = (0..LATE).map(|_| job(&queue, &broker)).collect();
    assert!(broker.enqueue(&jobs).await.iter().all(Result::is_ok));

    let mut late = Exchanger::new(&broker, &queue, Duration::from_millis(1));
    let claims = late.claim(LATE).await;
    let mut requeued = 0;
    eventually("every job is in the queue again", async || {
        let swept = broker.sweep(Partition::new(0).unwrap(), None).await.unwrap();
        requeued += swept.requeued;
        (requeued == LATE as u64).then_some(())
    })
    .await;

    let mut current = Exchanger::new(&broker, &queue, Duration::from_secs(60));
    let new_claims = current.claim(LATE).await;

    assert_eq!(late.complete(claims, "\"late\"").await, [0, LATE]);
    assert_eq!(current.complete(new_claims, "\"current\"").await, [LATE, 0]);
}
