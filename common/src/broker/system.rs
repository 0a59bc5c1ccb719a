//! The health of Redis for operators: what each node says of itself. Read-only.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use redis::{InfoDict, Value};

use super::endpoint::{ByNode, Node};
use super::error::Error;
use super::opening::field;
use super::redis_url::Address;
use super::{Broker, CALL_DEADLINE};
use crate::job::Partition;

/// A node of Redis, and what it says of itself.
#[derive(Debug, Clone)]
pub struct NodeHealth {
    /// Its address in a cluster; `None` if there is one Redis.
    pub address: Option<String>,
    /// The partitions that it has; in a cluster those for which no node is known are an entry of their own.
    pub partitions: Vec<Partition>,
    /// Its state, or why it could not be read.
    pub state: Result<NodeState, Error>,
}

/// The state of a node of Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeState {
    /// `redis` or `valkey`.
    pub server: &'static str,
    /// Its version.
    pub version: String,
    /// How long it has been running.
    pub uptime: Duration,
    /// `master`, or `slave` while a failover is not complete.
    pub role: String,
    /// How many replicas are connected to it.
    pub replicas: u64,
    /// How many clients are connected to it.
    pub clients: u64,
    /// How many clients may be.
    pub max_clients: u64,
    /// Commands in the last second or so.
    pub commands_per_second: u64,
    /// Memory that it uses, in bytes.
    pub used_memory: u64,
    /// Memory from which it rejects writes, in bytes; `None`: as much as the machine has.
    pub max_memory: Option<u64>,
    /// What it does then; Crunch needs `noeviction`.
    pub memory_policy: String,
    /// Whether it writes an append-only file.
    pub append_only: bool,
    /// Whether the last write to its disk succeeded, of the append-only file and of a snapshot.
    pub disk_ok: bool,
    /// How long it took to answer.
    pub round_trip: Duration,
}

impl Broker {
    /// Asks each node how it is, all at once. An entry of a node that does not answer has the reason.
    pub async fn system(&self) -> Vec<NodeHealth> {
        let mut nodes = ByNode::<(Vec<Partition>, Option<Error>)>::default();
        for (partition, node) in self.nodes().await {
            let failure = node.as_ref().err().cloned();
            nodes.get_or_make(node.ok(), || (Vec::new(), failure)).0.push(partition);
        }
        join_all(nodes.into_iter().map(async |(node, (partitions, failure))| {
            let state = match (failure, partitions.first()) {
                (None, Some(&partition)) => self.ask_node(partition).await,
                (failure, _) => Err(failure.unwrap_or_else(Error::timed_out)),
            };
            let address = node.and_then(|node| match node {
                Node::Only => None,
                Node::At(address) => Some(Address(&address).to_string()),
            });
            NodeHealth { address, partitions, state }
        }))
        .await
    }

    /// Asks the node of a partition.
    async fn ask_node(&self, partition: Partition) -> Result<NodeState, Error> {
        let asked = Instant::now();
        let mut ask = redis::pipe();
        // The default sections, in one reply of a few kilobytes.
        ask.cmd("INFO");
        let answer = tokio::time::timeout(CALL_DEADLINE, self.pooled(partition, &ask)).await;
        let mut answer = answer.map_err(|_| Error::timed_out())??;
        let info = redis::from_redis_value(answer.pop().unwrap_or(Value::Nil));
        let info = info.map_err(|error| Error::unreadable(error.to_string()))?;
        Ok(NodeState::read(&info, asked.elapsed()))
    }
}

impl NodeState {
    fn read(info: &InfoDict, round_trip: Duration) -> Self {
        let valkey: String = field(info, "valkey_version");
        let ok = |name| matches!(field::<String>(info, name).as_str(), "ok" | "");
        Self {
            server: if valkey.is_empty() { "redis" } else { "valkey" },
            version: if valkey.is_empty() { field(info, "redis_version") } else { valkey },
            uptime: Duration::from_secs(field(info, "uptime_in_seconds")),
            role: field(info, "role"),
            replicas: field(info, "connected_slaves"),
            clients: field(info, "connected_clients"),
            max_clients: field(info, "maxclients"),
            commands_per_second: field(info, "instantaneous_ops_per_sec"),
            used_memory: field(info, "used_memory"),
            max_memory: Some(field(info, "maxmemory")).filter(|&most| most > 0),
            memory_policy: field(info, "maxmemory_policy"),
            append_only: field::<u8>(info, "aof_enabled") == 1,
            disk_ok: ok("aof_last_write_status") && ok("rdb_last_bgsave_status"),
            round_trip,
        }
    }
}
