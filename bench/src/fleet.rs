//! What a fleet of idle workers costs a cluster: CPU of Redis, connections and memory, for each worker.
//!
//! A fleet of a thousand does not fit on one machine. But what each worker does depends on the others only by their
//! number, so that of a large fleet a few workers run and the others are only registered, by heartbeats.

use std::time::Duration;

use crunch_common::Broker;
use crunch_common::broker::{Heartbeat, WorkerId, WorkerInfo};
use crunch_common::job::Partition;
use crunch_tests::{RedisCluster, RedisServer, Stack};

use crate::cluster;
use crate::metrics::Unit;
use crate::session::Session;
use crate::testbed::TASK;
use crate::usage::RedisInfo;

/// Size of the benchmark.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Workers that run.
    #[arg(long, default_value_t = 20)]
    workers: usize,
    /// Workers of the large fleet, most of them only registered.
    #[arg(long, default_value_t = 1000)]
    fleet: usize,
    /// Nodes of the cluster.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Its partitions.
    #[arg(long, default_value_t = 64)]
    partitions: u16,
    /// How long each fleet is observed, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Time until workers that just started have seen each other, and are as idle as they will be: they decide how much to
/// listen once a minute, and partitions in which they claimed nothing get a heartbeat a minute.
const SETTLES: Duration = Duration::from_secs(75);
/// As often as workers send them.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(7500);

/// Runs the benchmark.
pub(crate) async fn measure(session: &mut Session, arguments: &Arguments) {
    session.refresh_control();
    let Arguments { workers, fleet, .. } = *arguments;
    measure_fleet(session, arguments, workers / 2, 0).await;
    measure_fleet(session, arguments, workers, 0).await;
    measure_fleet(session, arguments, workers, fleet - workers).await;
}

/// Measures some workers, and as many others that are only registered.
async fn measure_fleet(
    session: &mut Session,
    arguments: &Arguments,
    workers: usize,
    others: usize,
) {
    let name = match others {
        0 => format!("fleet of {workers}"),
        _ => format!("{workers} of a fleet of {}", workers + others),
    };
    let (cluster, broker) = cluster::start(arguments.nodes, arguments.partitions).await;
    let info = WorkerInfo { queues: vec![TASK.parse().unwrap()], ..WorkerInfo::of_this_process() };
    let registered = tokio::spawn(register(broker.clone(), vec![info; others]));
    // Only the directory of the workers' logs is of this one.
    let mut stack = Stack::on(RedisServer::start());
    tokio::time::sleep(HEARTBEAT).await;
    let empty = total(&cluster);
    let without = rates(&cluster, arguments.seconds / 3).await;
    let idle = format!("{name}: CPU of Redis before they start");
    session.record(&idle, without.cpu * 1e6, Unit::Counted("µs/s"));
    let running: Vec<_> = (0..workers)
        .map(|_| cluster::start_worker(&mut stack, &cluster, arguments.partitions, 4))
        .collect();
    tokio::time::sleep(SETTLES).await;

    let (each, before) = (workers as f64, total(&cluster));
    let with = rates(&cluster, arguments.seconds).await;
    let [cpu, commands] = [with.cpu - without.cpu, with.commands - without.commands];
    let connections = before.connections - empty.connections;
    session.record(&format!("{name}: CPU of Redis"), cpu / each * 1e6, Unit::Counted("µs/s"));
    session.record(&format!("{name}: commands"), commands / each, Unit::Counted("/s"));
    let nodes = arguments.nodes as f64;
    session.record(
        &format!("{name}: connections to a node"),
        connections / each / nodes,
        Unit::Counted(""),
    );
    let memory = (before.memory - empty.memory) / each / 1024.0;
    session.record(&format!("{name}: memory of Redis"), memory, Unit::Counted("KiB"));
    registered.abort();
    drop(running);
}

/// Sends the heartbeats of workers that do not run.
pub(crate) async fn register(broker: Broker, infos: Vec<WorkerInfo>) {
    if infos.is_empty() {
        return;
    }
    let workers: Vec<_> = infos.into_iter().map(|info| (WorkerId::generate(), info)).collect();
    // Not a pause after each: the rate must be the same whatever else runs.
    let mut ticks = tokio::time::interval(HEARTBEAT / u32::try_from(workers.len()).unwrap());
    for (worker, info) in workers.iter().cycle() {
        ticks.tick().await;
        let heartbeat = Heartbeat::idle(*worker, Duration::from_secs(30), info);
        broker.heartbeat(Partition::default(), &heartbeat).await.unwrap();
    }
}

/// The sum of all nodes.
fn total(cluster: &RedisCluster) -> RedisInfo {
    cluster.nodes.iter().map(RedisInfo::of).sum()
}

/// CPU and commands a second.
async fn rates(cluster: &RedisCluster, seconds: u64) -> RedisInfo {
    let before = total(cluster);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (after, seconds) = (total(cluster), seconds as f64);
    RedisInfo {
        cpu: (after.cpu - before.cpu) / seconds,
        commands: (after.commands - before.commands) / seconds,
        ..after
    }
}
