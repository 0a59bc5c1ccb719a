//! The servers of a run, its workers, and the faults.

use std::path::PathBuf;

use crunch_common::Broker;
use crunch_common::broker::BrokerConfig;
use crunch_common::job::Partition;

use super::cluster_faults::{self, MASTERS};
use super::{Fault, Plan};
use crate::stack::command_on;
use crate::wait::eventually;
use crate::{Process, RedisCluster, RedisServer, Sentinels, tasks};

const WORKERS: usize = 2;

enum Servers {
    /// A master, and as many replicas as its loss and a planned failover require.
    Watched {
        servers: Vec<RedisServer>,
        sentinels: Sentinels,
    },
    Cluster(RedisCluster),
}

pub(super) struct Topology {
    servers: Servers,
    url: String,
    partitions: u16,
    workers: Vec<Process>,
    ledger: PathBuf,
}

impl Topology {
    pub(super) async fn start(plan: &Plan) -> anyhow::Result<Self> {
        let (servers, url) = if plan.fault.is_of_sentinel() {
            let master =
                RedisServer::with(&["--appendonly", "no", "--repl-diskless-sync-delay", "0"]);
            // After a loss a replica is left, for which durable jobs wait. In a planned failover another one would confirm
            // what the old master still accepts.
            let replicas = if plan.fault == Fault::SentinelKill { 2 } else { 1 };
            let mut servers: Vec<_> = (0..replicas).map(|_| master.start_replica()).collect();
            let sentinels = Sentinels::watch(&master, replicas).await;
            servers.push(master);
            let url = sentinels.url();
            (Servers::Watched { servers, sentinels }, url)
        } else {
            let cluster = match plan.fault.is_of_network() {
                true => RedisCluster::start_on_network(MASTERS, 1).await,
                false => RedisCluster::start(MASTERS, 1).await,
            };
            let url = cluster.url();
            (Servers::Cluster(cluster), url)
        };
        let ledger = plan.directory.join("ledger");
        std::fs::File::create(&ledger)?;
        let mut topology =
            Self { servers, url, partitions: plan.partitions, workers: Vec::new(), ledger };
        for number in 0..WORKERS {
            let mut command = command_on("test-worker", &topology.url);
            command.env("CRUNCH_PARTITIONS", plan.partitions.to_string());
            command.env("CRUNCH_WORKER_CONCURRENCY", "8").env("CRUNCH_LOG", "info");
            command.env(tasks::LEDGER_VARIABLE, &topology.ledger);
            let name = format!("worker-{number}");
            topology.workers.push(Process::spawn(command, &name, &plan.directory));
        }
        Ok(topology)
    }

    pub(super) fn broker(&self) -> anyhow::Result<Broker> {
        let config = BrokerConfig {
            redis_url: self.url.parse()?,
            partitions: self.partitions,
            ..BrokerConfig::default()
        };
        Ok(Broker::new(&config)?)
    }

    pub(super) fn ledger(&self) -> PathBuf {
        self.ledger.clone()
    }

    /// Returns the workers that ended.
    pub(super) fn problems(&mut self) -> Vec<String> {
        let problem = |worker: &mut Process| {
            worker.has_exited().then(|| format!("a worker ended by itself: {}", worker.log()))
        };
        self.workers.iter_mut().filter_map(problem).collect()
    }

    /// Injects a fault, and waits until others have taken over, or it is healed; returns the partitions that it concerns.
    pub(super) async fn inject(&mut self, fault: Fault, number: u32) -> Vec<Partition> {
        let broker = self.broker().expect("its address is valid");
        match &mut self.servers {
            Servers::Watched { servers, sentinels } => {
                fail_over(servers, sentinels, fault).await;
                broker.partitions().collect()
            }
            Servers::Cluster(cluster) => {
                cluster_faults::inject(cluster, &broker, fault, number as usize).await
            }
        }
    }

    /// Waits until every master has its replica again, so that the next fault loses nothing either.
    pub(super) async fn wait_until_whole(&self) {
        match &self.servers {
            Servers::Watched { servers, sentinels } => {
                eventually("the replica is synchronized", async || {
                    let master = sentinels.master().await?;
                    for replica in servers.iter().filter(|server| server.port() != master) {
                        replica.is_synchronized().await.then_some(())?;
                    }
                    Some(())
                })
                .await;
                // A Sentinel promotes no replica of which it has heard nothing since the last failover.
                sentinels.wait_until_ready().await;
            }
            Servers::Cluster(cluster) => cluster.wait_until_whole().await,
        }
    }
}

/// Replaces the master, and waits until the Sentinels name another one.
async fn fail_over(servers: &mut [RedisServer], sentinels: &Sentinels, fault: Fault) {
    let old = eventually("a master is known", async || sentinels.master().await).await;
    let index = servers.iter().position(|server| server.port() == old);
    let index = index.expect("it is one of them");
    match fault {
        Fault::SentinelKill => servers[index].kill(),
        _ => sentinels.fail_over().await,
    }
    eventually("another one is the master", async || {
        sentinels.master().await.filter(|&port| port != old)
    })
    .await;
    if fault == Fault::SentinelKill {
        tokio::task::block_in_place(|| servers[index].restart());
    }
}
