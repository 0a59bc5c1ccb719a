//! What a job costs Redis on one node of a cluster and on several, with the same partitions: if it costs the same, nodes
//! add up, as far as workers and network can use them. On a machine with few cores the rates cannot show that.

use std::time::{Duration, Instant};

use crunch_common::Broker;
use crunch_common::broker::BrokerConfig;
use crunch_tests::{Process, RedisCluster, RedisServer, Stack};
use tokio::process::Command;

use crate::metrics::Unit;
use crate::session::Session;
use crate::testbed::{PAYLOAD, TASK, fill};
use crate::usage::RedisInfo;

/// Size of the benchmark.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Jobs in the queue.
    #[arg(long, default_value_t = 120_000)]
    jobs: usize,
    /// Nodes of the larger cluster.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Partitions of both.
    #[arg(long, default_value_t = 12)]
    partitions: u16,
    /// Slots of each of two workers.
    #[arg(long, default_value_t = 300)]
    slots: usize,
}

/// Runs the benchmark.
pub(crate) async fn measure(session: &mut Session, arguments: &Arguments) {
    for nodes in [1, arguments.nodes] {
        session.refresh_control();
        measure_nodes(session, arguments, nodes).await;
    }
}

async fn measure_nodes(session: &mut Session, arguments: &Arguments, nodes: usize) {
    let name = match nodes {
        1 => "cluster, 1 node".to_owned(),
        _ => format!("cluster, {nodes} nodes"),
    };
    let (cluster, broker) = start(nodes, arguments.partitions).await;
    // Only the directory of the workers' logs is of this one.
    let mut stack = Stack::on(RedisServer::start());
    let workers = start_workers(&mut stack, &broker, &cluster, arguments).await;
    let queue = TASK.parse().unwrap();
    broker.pause(&queue, true).await.unwrap();

    let mut record = |what: &str, start: Instant, before: Vec<RedisInfo>| {
        let (jobs, seconds) = (arguments.jobs as f64, start.elapsed().as_secs_f64());
        let costs = before.into_iter().zip(&cluster.nodes);
        let cpu: f64 = costs.map(|(before, node)| before.until_now(node).cpu).sum();
        session.record(&format!("{name}: {what}"), jobs / seconds, Unit::PerSecond);
        let cpu_name = format!("{name}: {what}: CPU of Redis");
        session.record(&cpu_name, cpu / jobs * 1e5, Unit::CpuSeconds);
    };
    let infos = || cluster.nodes.iter().map(RedisInfo::of).collect::<Vec<_>>();

    let (before, start) = (infos(), Instant::now());
    fill(&broker, arguments.jobs, PAYLOAD, 1).await;
    record("submission", start, before);

    let (before, start) = (infos(), Instant::now());
    broker.resume(&queue).await.unwrap();
    while broker.depths(1).await.unwrap()[&queue].depth.is_live() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    record("drain", start, before);
    drop(workers);
}

/// Starts a cluster without replicas, and opens its key space.
pub(crate) async fn start(nodes: usize, partitions: u16) -> (RedisCluster, Broker) {
    let cluster = RedisCluster::start(nodes, 0).await;
    let redis_url = cluster.url().parse().unwrap();
    let config = BrokerConfig { redis_url, partitions, ..BrokerConfig::default() };
    let broker = Broker::new(&config).unwrap();
    broker.open().await.unwrap();
    (cluster, broker)
}

/// Starts a worker on it whose tasks do nothing.
pub(crate) fn start_worker(
    stack: &mut Stack,
    cluster: &RedisCluster,
    partitions: u16,
    slots: usize,
) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["worker", "--redis-url", &cluster.url()]);
    command.args(["--slots", &slots.to_string()]);
    command.env("CRUNCH_PARTITIONS", partitions.to_string());
    stack.spawn(command, "worker")
}

async fn start_workers(
    stack: &mut Stack,
    broker: &Broker,
    cluster: &RedisCluster,
    arguments: &Arguments,
) -> Vec<Process> {
    let mut workers = Vec::new();
    for _ in 0..2 {
        workers.push(start_worker(stack, cluster, arguments.partitions, arguments.slots));
    }
    while broker.fleet().await.unwrap().len() < workers.len() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    workers
}
