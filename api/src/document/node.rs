//! A node of Redis.

use crunch_common::broker::NodeHealth;
use serde::Serialize;
use utoipa::ToSchema;

/// A node of Redis, and what it says of itself. All members but the first three are null if it does not answer.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = RedisNode)]
pub(crate) struct NodeDocument {
    /// Its address in a cluster; null if there is one Redis.
    address: Option<String>,
    /// The numbers of the partitions that it has.
    partitions: Vec<u16>,
    /// Why it does not answer; null if it does.
    problem: Option<String>,
    /// `redis` or `valkey`.
    server: Option<&'static str>,
    version: Option<String>,
    uptime_s: Option<u64>,
    /// `master`, or `slave` while a failover is not complete.
    role: Option<String>,
    replicas: Option<u64>,
    clients: Option<u64>,
    max_clients: Option<u64>,
    commands_per_second: Option<u64>,
    /// Bytes.
    used_memory: Option<u64>,
    /// Bytes; null: as much as the machine has.
    max_memory: Option<u64>,
    /// Crunch needs `noeviction`.
    memory_policy: Option<String>,
    append_only: Option<bool>,
    /// Whether the last write to its disk succeeded.
    disk_ok: Option<bool>,
    /// How long it took to answer.
    round_trip_ms: Option<f64>,
}

impl From<NodeHealth> for NodeDocument {
    fn from(node: NodeHealth) -> Self {
        let partitions = node.partitions.iter().map(|partition| partition.number()).collect();
        let known = Self { address: node.address, partitions, ..Self::default() };
        match node.state {
            Err(error) => Self { problem: Some(error.to_string()), ..known },
            Ok(state) => Self {
                server: Some(state.server),
                version: Some(state.version),
                uptime_s: Some(state.uptime.as_secs()),
                role: Some(state.role),
                replicas: Some(state.replicas),
                clients: Some(state.clients),
                max_clients: Some(state.max_clients),
                commands_per_second: Some(state.commands_per_second),
                used_memory: Some(state.used_memory),
                max_memory: state.max_memory,
                memory_policy: Some(state.memory_policy),
                append_only: Some(state.append_only),
                disk_ok: Some(state.disk_ok),
                round_trip_ms: Some(state.round_trip.as_secs_f64() * 1000.0),
                ..known
            },
        }
    }
}
