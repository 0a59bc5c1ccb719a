//! Forms a Redis Cluster before its nodes start, so that it serves requests after a tenth of a second.
//!
//! A master whose cluster was not in order does not serve its slots in the first two seconds after its start, nor does a
//! new one: another node may have taken over meanwhile. That does not apply to a replica that takes over. So each node
//! starts as the replica of a master that has its slots, but does not exist, and takes over from that.

use std::path::Path;
use std::time::{Duration, Instant};

use redis::{Connection, FromRedisValue};

use crate::wait::TIME_LIMIT;

pub(crate) const SLOTS: usize = 16_384;
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// Nothing listens there.
const NOWHERE: &str = "127.0.0.1:1@2";

/// A node: what it needs to know of the others, and they of it.
#[derive(Debug)]
struct Node {
    id: String,
    /// The id of the master that does not exist.
    absent: String,
    port: u16,
    bus: u16,
    /// As the cluster writes them.
    slots: String,
}

/// Masters with equal shares of the slots.
#[derive(Debug)]
pub(crate) struct Formation(Vec<Node>);

impl Formation {
    /// Plans a cluster of nodes with these ports, for clients and for the bus.
    pub(crate) fn new(ports: &[(u16, u16)]) -> Self {
        let bound = |number: usize| (number * SLOTS).div_ceil(ports.len());
        let node = |(number, &(port, bus)): (usize, &(u16, u16))| Node {
            id: new_id(),
            absent: new_id(),
            port,
            bus,
            slots: format!("{}-{}", bound(number), bound(number + 1) - 1),
        };
        Self(ports.iter().enumerate().map(node).collect())
    }

    /// Writes the file that a node reads when it starts.
    ///
    /// # Panics
    /// If it cannot be written.
    pub(crate) fn write(&self, number: usize, directory: &Path) {
        let mut lines = Vec::new();
        for (other, Node { id, absent, port, bus, slots }) in self.0.iter().enumerate() {
            let flags = if other == number { "myself,slave" } else { "slave" };
            lines.push(format!("{id} 127.0.0.1:{port}@{bus} {flags} {absent} 0 0 0 connected"));
            lines.push(format!("{absent} {NOWHERE} master - 0 0 0 connected {slots}"));
        }
        lines.push("vars currentEpoch 0 lastVoteEpoch 0\n".to_owned());
        std::fs::write(directory.join("nodes.conf"), lines.join("\n")).unwrap();
    }

    /// Makes the nodes, which listen, take over their slots; waits until each knows that of all of them. They are asked by
    /// the user with this name and password, if one is needed.
    ///
    /// # Panics
    /// If that takes too long.
    pub(crate) fn complete(&self, login: Option<[&str; 2]>) {
        let mut nodes: Vec<_> = self.0.iter().map(|node| connect(node.port, login)).collect();
        for node in &mut nodes {
            // It is in order until the absent masters are missed.
            wait_until("a node is in order", || is_in_order(node));
            execute::<()>(node, "FAILOVER", "TAKEOVER");
        }
        for node in &mut nodes {
            wait_until("a node knows all masters", || self.is_known_to(node));
            for Node { absent, .. } in &self.0 {
                execute::<()>(node, "FORGET", absent);
            }
            wait_until("the cluster is in order", || is_in_order(node));
        }
    }

    fn is_known_to(&self, connection: &mut Connection) -> bool {
        let known: String = redis::cmd("CLUSTER").arg("NODES").query(connection).unwrap();
        let is_master = |node: &Node| {
            let line = known.lines().find(|line| line.starts_with(&node.id));
            line.is_some_and(|line| line.contains("master") && line.ends_with(&node.slots))
        };
        self.0.iter().all(is_master)
    }
}

/// Whether a node of a cluster serves requests.
pub(crate) fn is_in_order(node: &mut Connection) -> bool {
    let info = redis::cmd("CLUSTER").arg("INFO").query::<String>(node);
    info.is_ok_and(|info| info.contains("cluster_state:ok"))
}

/// 40 hexadecimal digits.
fn new_id() -> String {
    format!("{:032x}{:08x}", rand::random::<u128>(), rand::random::<u32>())
}

fn connect(port: u16, login: Option<[&str; 2]>) -> Connection {
    let client = redis::Client::open(("127.0.0.1", port)).unwrap();
    let mut connection = client.get_connection().unwrap();
    if let Some(login) = login {
        redis::cmd("AUTH").arg(&login).exec(&mut connection).unwrap();
    }
    connection
}

fn execute<T: FromRedisValue>(node: &mut Connection, verb: &str, argument: &str) -> T {
    redis::cmd("CLUSTER").arg(verb).arg(argument).query(node).unwrap()
}

fn wait_until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIME_LIMIT;
    while !is_true() {
        assert!(Instant::now() < deadline, "timed out waiting for: {what}");
        std::thread::sleep(POLL_INTERVAL);
    }
}
