//! A large fleet on a Redis Cluster: each worker listens to some partitions only, and runs the jobs of all.

use std::time::Duration;

use crunch_common::Broker;
use crunch_common::broker::{BrokerConfig, Heartbeat, WorkerId, WorkerInfo};
use crunch_common::job::Partition;
use crunch_tests::{RedisCluster, RedisServer, Stack, eventually};
use serde_json::json;

const PARTITIONS: u16 = 64;
const NODES: usize = 3;
/// Workers that are registered besides the one that runs.
const OTHERS: usize = 499;
/// The share of the partitions, rounded up, to which one of five hundred listens: each has 32 listeners.
const LISTENS_TO: usize = 5;

/// Registers workers that do not run, as if each had just sent a heartbeat.
async fn register(cluster: &RedisCluster) {
    let redis_url = cluster.url().parse().unwrap();
    let config = BrokerConfig { redis_url, partitions: PARTITIONS, ..BrokerConfig::default() };
    let broker = Broker::new(&config).unwrap();
    broker.open().await.unwrap();
    let queues = vec!["square".parse().unwrap()];
    let info = WorkerInfo { queues, ..WorkerInfo::of_this_process() };
    for _ in 0..OTHERS {
        let (worker, lease) = (WorkerId::generate(), Duration::from_secs(30));
        let heartbeat = Heartbeat::idle(worker, lease, &info);
        broker.heartbeat(Partition::default(), &heartbeat).await.unwrap();
    }
}

/// Counts the connections that wait for tokens.
async fn count_waits(cluster: &RedisCluster) -> usize {
    let mut waits = 0;
    for node in 0..NODES {
        let clients: String = cluster.execute(node, &["CLIENT", "LIST"]).await;
        waits += clients.lines().filter(|client| client.contains(" cmd=blpop ")).count();
    }
    waits
}

#[tokio::test]
async fn a_worker_of_a_large_fleet_listens_to_some_partitions_and_runs_the_jobs_of_all() {
    let cluster = RedisCluster::start(NODES, 0).await;
    register(&cluster).await;
    // Nothing connects to this one.
    let unused = RedisServer::start().with_partitions(PARTITIONS);
    let mut stack = Stack::on(unused).by(cluster.url());
    let api = stack.api().await;
    let _worker = stack.worker_with(&api, 4, &[("CRUNCH_WORKER_QUEUES", "square")]).await;
    let waits = eventually("the worker waits for tokens", async || {
        Some(count_waits(&cluster).await).filter(|&waits| waits >= LISTENS_TO)
    })
    .await;
    assert!(waits <= LISTENS_TO + NODES, "{waits} connections wait for tokens");

    // One by one: after each, it has nothing to do but to look for the tokens of the next.
    for n in 0..6 {
        let answer = api.post("/jobs", &json!({ "task": "square", "payload": { "n": n } })).await;
        assert_eq!(answer.status.as_u16(), 202, "{:#}", answer.json());
        api.wait_for_status(&answer.id(), "succeeded").await;
    }
    assert!(count_waits(&cluster).await <= LISTENS_TO + NODES);
    stack.assert_clean_audit().await;
}
