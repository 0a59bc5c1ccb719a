//! A Redis Cluster on this machine: masters with equal shares of the slots, and replicas.

use redis::{FromRedisValue, RedisResult};

use crate::RedisServer;
use crate::wait::eventually;

/// How long a node may be silent before the others replace it.
pub const NODE_TIMEOUT_MS: u64 = 2000;

/// Nodes that form a cluster. They are killed when this value is dropped.
#[derive(Debug)]
pub struct RedisCluster {
    /// The masters first, then the first replica of each, and so on.
    pub nodes: Vec<RedisServer>,
    masters: usize,
    replicas: usize,
}

impl RedisCluster {
    /// Starts one with that many masters, each with that many replicas.
    ///
    /// # Panics
    /// If it cannot be started.
    pub async fn start(masters: usize, replicas: usize) -> Self {
        let timeout = NODE_TIMEOUT_MS.to_string();
        let arguments = arguments(&timeout);
        let mut nodes = RedisServer::nodes(masters, &arguments);
        nodes.extend((0..masters * replicas).map(|_| RedisServer::lone_node(&arguments)));
        let cluster = Self { nodes, masters, replicas: masters * replicas };
        for number in masters..cluster.nodes.len() {
            let epoch = (masters + number).to_string();
            execute::<()>(&cluster.nodes[number], &["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await;
            cluster.meet(number).await;
        }
        cluster.wait_until_formed(0).await;
        for number in masters..cluster.nodes.len() {
            let master = cluster.id(number % masters).await;
            execute::<()>(&cluster.nodes[number], &["CLUSTER", "REPLICATE", &master]).await;
        }
        cluster.wait_until_whole().await;
        cluster
    }

    /// Introduces a node to the first one.
    async fn meet(&self, number: usize) {
        let (first, bus) = (self.nodes[0].port().to_string(), self.nodes[0].bus_port());
        let node = &self.nodes[number];
        execute::<()>(node, &["CLUSTER", "MEET", "127.0.0.1", &first, &bus.to_string()]).await;
    }

    /// Adds a master without slots; returns its number.
    pub async fn add_master(&mut self) -> usize {
        let timeout = NODE_TIMEOUT_MS.to_string();
        self.nodes.push(RedisServer::lone_node(&arguments(&timeout)));
        let number = self.nodes.len() - 1;
        self.meet(number).await;
        self.wait_until_formed(self.replicas).await;
        self.wait_until_in_order().await;
        number
    }

    /// Waits until every node knows every other one and that many replicas: a master does not vote for a node that it
    /// takes for another master.
    async fn wait_until_formed(&self, replicas: usize) {
        for node in &self.nodes {
            eventually("the cluster is formed", async || {
                let nodes: String = try_execute(node, &["CLUSTER", "NODES"]).await.ok()?;
                let count = |word: &str| nodes.lines().filter(|line| line.contains(word)).count();
                let is_formed = nodes.lines().count() == self.nodes.len()
                    && count("slave") == replicas
                    && ["fail", "handshake", "disconnected"].iter().all(|word| count(word) == 0);
                is_formed.then_some(())
            })
            .await;
        }
    }

    /// Waits until every node serves requests: a new master does two seconds after its start.
    async fn wait_until_in_order(&self) {
        for node in &self.nodes {
            eventually("the cluster is in order", async || {
                let info: String = try_execute(node, &["CLUSTER", "INFO"]).await.ok()?;
                info.contains("cluster_state:ok").then_some(())
            })
            .await;
        }
    }

    /// Returns the id of a node in the cluster.
    pub async fn id(&self, number: usize) -> String {
        execute(&self.nodes[number], &["CLUSTER", "MYID"]).await
    }

    /// Returns the address of the masters in the form of `CRUNCH_REDIS_URL`.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts = self.nodes[..self.masters].iter();
        let hosts: Vec<_> = hosts.map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis+cluster://{}/", hosts.join(","))
    }

    /// Sends a command to a node.
    ///
    /// # Panics
    /// If it fails.
    pub async fn execute<T: FromRedisValue>(&self, number: usize, words: &[&str]) -> T {
        execute(&self.nodes[number], words).await
    }

    /// Returns whether a node is a master now.
    pub async fn is_master(&self, number: usize) -> bool {
        let role: RedisResult<Vec<redis::Value>> =
            try_execute(&self.nodes[number], &["ROLE"]).await;
        role.is_ok_and(|role| role.first() == Some(&redis::Value::BulkString(b"master".to_vec())))
    }

    /// Returns the ranges of slots that a node is the master of.
    pub async fn slots_of(&self, number: usize) -> Vec<(u16, u16)> {
        let id = self.id(number).await;
        let nodes: String = self.execute(number, &["CLUSTER", "NODES"]).await;
        let line = nodes.lines().find(|line| line.starts_with(&id)).unwrap_or_default();
        let ranges = line.split(' ').skip(8).filter(|range| !range.starts_with('['));
        ranges
            .map(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                (first.parse().unwrap(), last.parse().unwrap())
            })
            .collect()
    }

    /// Waits until every node that is no master is a replica that has what its master has.
    pub async fn wait_until_whole(&self) {
        self.wait_until_formed(self.replicas).await;
        self.wait_until_in_order().await;
        for (number, node) in self.nodes.iter().enumerate() {
            eventually("the cluster is whole", async || {
                (self.is_master(number).await || node.is_synchronized().await).then_some(())
            })
            .await;
        }
    }

    /// Moves a slot from one master to another, as versions before 8.4 do: key by key.
    ///
    /// # Panics
    /// If a step fails.
    pub async fn move_slot(&self, slot: u16, from: usize, to: usize) {
        let (slot, ids) = (slot.to_string(), [self.id(from).await, self.id(to).await]);
        let set = async |number: usize, what: &str, id: &str| {
            execute::<()>(&self.nodes[number], &["CLUSTER", "SETSLOT", &slot, what, id]).await;
        };
        set(to, "IMPORTING", &ids[0]).await;
        set(from, "MIGRATING", &ids[1]).await;
        let port = self.nodes[to].port().to_string();
        loop {
            let keys: Vec<String> =
                execute(&self.nodes[from], &["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).await;
            if keys.is_empty() {
                break;
            }
            let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            words.extend(keys.iter().map(String::as_str));
            // Keys may expire or be deleted meanwhile.
            let _: String = execute(&self.nodes[from], &words).await;
        }
        set(to, "NODE", &ids[1]).await;
        // A master that has no slot left may already follow the other one, and know it.
        let assign = ["CLUSTER", "SETSLOT", &slot, "NODE", &ids[1]];
        let _ = try_execute::<()>(&self.nodes[from], &assign).await;
    }
}

fn arguments(node_timeout: &str) -> [&str; 8] {
    [
        "--appendonly",
        "no",
        "--hash-max-listpack-value",
        "1024",
        "--cluster-node-timeout",
        node_timeout,
        "--repl-diskless-sync-delay",
        "0",
    ]
}

async fn try_execute<T: FromRedisValue>(node: &RedisServer, words: &[&str]) -> RedisResult<T> {
    let client = node.client();
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]).query_async(&mut connection).await
}

async fn execute<T: FromRedisValue>(node: &RedisServer, words: &[&str]) -> T {
    try_execute(node, words).await.unwrap()
}
