//! A Redis Cluster on this machine: masters with equal shares of the slots, and replicas.

use redis::{ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind};

use crate::RedisServer;
use crate::formation::SLOTS;
use crate::network::Network;
use crate::port::Port;
use crate::wait::eventually;

/// How long a node may be silent before the others replace it.
pub const NODE_TIMEOUT_MS: u64 = 2000;

/// Nodes that form a cluster. They are killed when this value is dropped.
#[derive(Debug)]
pub struct RedisCluster {
    /// The masters first, then the first replica of each, and so on.
    pub nodes: Vec<RedisServer>,
    /// Where others reach each node: its port, and that of its bus.
    announced: Vec<[u16; 2]>,
    masters: usize,
    replicas: usize,
    /// What is between clients and nodes, if anything is.
    network: Option<Network>,
}

impl RedisCluster {
    /// Starts one with that many masters, each with that many replicas.
    ///
    /// # Panics
    /// If it cannot be started.
    pub async fn start(masters: usize, replicas: usize) -> Self {
        // A node of Valkey 8.1 that was made by a takeover ends by itself after some calls.
        if RedisServer::is_valkey() {
            return Self::joined(None, masters, replicas).await;
        }
        let timeout = NODE_TIMEOUT_MS.to_string();
        let nodes = RedisServer::nodes(masters, &arguments(&timeout));
        let announced = nodes.iter().map(|node| [node.port(), node.bus_port()]).collect();
        let mut cluster =
            Self { nodes, announced, masters, replicas: masters * replicas, network: None };
        cluster.add_all_replicas().await;
        cluster
    }

    /// The same, on a network whose links can be cut.
    ///
    /// # Panics
    /// If it cannot be started.
    pub async fn start_on_network(masters: usize, replicas: usize) -> Self {
        Self::joined(Some(Network::new()), masters, replicas).await
    }

    /// Starts nodes, and introduces them to each other.
    async fn joined(network: Option<Network>, masters: usize, replicas: usize) -> Self {
        let (nodes, announced, replicas) = (Vec::new(), Vec::new(), masters * replicas);
        let mut cluster = Self { nodes, announced, masters, replicas, network };
        for number in 0..masters {
            cluster.start_node();
            let [first, end] = [number, number + 1].map(|n| (n * SLOTS).div_ceil(masters));
            let (first, last) = (first.to_string(), (end - 1).to_string());
            let epoch = (number + 1).to_string();
            cluster.execute::<()>(number, &["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await;
            cluster.execute::<()>(number, &["CLUSTER", "ADDSLOTSRANGE", &first, &last]).await;
        }
        for number in 1..masters {
            cluster.meet(number).await;
        }
        cluster.add_all_replicas().await;
        cluster
    }

    async fn add_all_replicas(&mut self) {
        for number in self.masters..self.masters + self.replicas {
            self.start_node();
            let epoch = (self.masters + number).to_string();
            self.execute::<()>(number, &["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await;
            self.meet(number).await;
        }
        self.wait_until_formed(0).await;
        for number in self.masters..self.nodes.len() {
            let master = self.id(number % self.masters).await;
            self.execute::<()>(number, &["CLUSTER", "REPLICATE", &master]).await;
        }
        self.wait_until_whole().await;
    }

    /// Starts a node that knows no other one.
    fn start_node(&mut self) {
        let (number, timeout) = (self.nodes.len(), NODE_TIMEOUT_MS.to_string());
        let mut arguments = arguments(&timeout).to_vec();
        let Some(network) = &self.network else {
            let node = RedisServer::lone_node(&arguments);
            self.announced.push([node.port(), node.bus_port()]);
            self.nodes.push(node);
            return;
        };
        let fronts = [Port::reserve(), Port::reserve()];
        let announced = fronts.each_ref().map(|front| front.addr().port());
        let [port, bus] = announced.map(|port| port.to_string());
        let source = Network::source(number);
        arguments.extend(["--cluster-announce-ip", "127.0.0.1", "--bind-source-addr", &source]);
        arguments.extend(["--cluster-announce-port", &port, "--cluster-announce-bus-port", &bus]);
        let node = RedisServer::lone_node(&arguments);
        let relayed = fronts.into_iter().zip([node.port(), node.bus_port()]);
        relayed.for_each(|(front, port)| network.relay(number, front, port));
        self.announced.push(announced);
        self.nodes.push(node);
    }

    /// Returns the network of [`RedisCluster::start_on_network`].
    ///
    /// # Panics
    /// If it was not started by that.
    #[must_use]
    pub fn network(&self) -> &Network {
        self.network.as_ref().expect("it was started on a network")
    }

    /// Introduces a node to the first one.
    async fn meet(&self, number: usize) {
        let [first, bus] = self.announced[0].map(|port| port.to_string());
        let node = &self.nodes[number];
        execute::<()>(node, &["CLUSTER", "MEET", "127.0.0.1", &first, &bus]).await;
    }

    /// Adds a master without slots; returns its number.
    pub async fn add_master(&mut self) -> usize {
        self.start_node();
        let number = self.nodes.len() - 1;
        self.meet(number).await;
        self.wait_until_formed(self.replicas).await;
        self.wait_until_in_order().await;
        number
    }

    /// Adds a replica of a master; returns its number.
    pub async fn add_replica(&mut self, master: usize) -> usize {
        let number = self.add_master().await;
        let master = self.id(master).await;
        self.execute::<()>(number, &["CLUSTER", "REPLICATE", &master]).await;
        self.replicas += 1;
        self.wait_until_whole().await;
        number
    }

    /// Removes the last nodes, of which none has slots, until there are this many, with that many replicas among them.
    pub async fn remove_last(&mut self, nodes: usize, replicas: usize) {
        let mut ids = Vec::new();
        for number in nodes..self.nodes.len() {
            ids.push(self.id(number).await);
        }
        self.nodes.truncate(nodes);
        self.announced.truncate(nodes);
        self.replicas = replicas;
        for node in &self.nodes {
            for id in &ids {
                // Others may have learned of it from one that has not forgotten it yet.
                eventually("the node is forgotten", async || {
                    let forget = ["CLUSTER", "FORGET", id];
                    let _ = try_execute::<()>(node, &forget).await;
                    let nodes: String = try_execute(node, &["CLUSTER", "NODES"]).await.ok()?;
                    (!nodes.contains(id.as_str())).then_some(())
                })
                .await;
            }
        }
        self.wait_until_formed(replicas).await;
        self.wait_until_in_order().await;
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

    /// Returns how many calls of functions a node has run or rejected.
    pub async fn calls(&self, number: usize) -> u64 {
        let text: String = self.execute(number, &["INFO", "commandstats"]).await;
        let line = text.lines().find_map(|line| line.strip_prefix("cmdstat_fcall:"));
        let fields = || line.unwrap_or_default().split(',');
        let count = |name| fields().find_map(|field| field.strip_prefix(name)?.parse::<u64>().ok());
        count("calls=").unwrap_or(0) + count("rejected_calls=").unwrap_or(0)
    }

    /// Returns the id of a node in the cluster.
    pub async fn id(&self, number: usize) -> String {
        execute(&self.nodes[number], &["CLUSTER", "MYID"]).await
    }

    /// Returns the address of the masters in the form of `CRUNCH_REDIS_URL`.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts = self.announced[..self.masters].iter();
        let hosts: Vec<_> = hosts.map(|[port, _]| format!("127.0.0.1:{port}")).collect();
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
        self.move_slot_pausing(slot, from, to, async || ()).await;
    }

    /// Like [`RedisCluster::move_slot`], with a pause when half of the keys have moved.
    ///
    /// # Panics
    /// If a step fails.
    pub async fn move_slot_pausing(
        &self,
        slot: u16,
        from: usize,
        to: usize,
        pause: impl AsyncFnOnce(),
    ) {
        let (slot, ids) = (slot.to_string(), [self.id(from).await, self.id(to).await]);
        let set = async |number: usize, what: &str, id: &str| {
            execute::<()>(&self.nodes[number], &["CLUSTER", "SETSLOT", &slot, what, id]).await;
        };
        set(to, "IMPORTING", &ids[0]).await;
        set(from, "MIGRATING", &ids[1]).await;
        let keys: u64 = self.execute(from, &["CLUSTER", "COUNTKEYSINSLOT", &slot]).await;
        self.move_keys(&slot, from, to, keys / 2).await;
        pause().await;
        self.move_keys(&slot, from, to, 0).await;
        set(to, "NODE", &ids[1]).await;
        // A master that has no slot left may already follow the other one, and know it.
        let assign = ["CLUSTER", "SETSLOT", &slot, "NODE", &ids[1]];
        let _ = try_execute::<()>(&self.nodes[from], &assign).await;
    }

    /// Moves keys of a slot that is being moved, until no more than this many are left.
    async fn move_keys(&self, slot: &str, from: usize, to: usize, left: u64) {
        let port = self.nodes[to].port().to_string();
        loop {
            let count: u64 = self.execute(from, &["CLUSTER", "COUNTKEYSINSLOT", slot]).await;
            if count <= left {
                return;
            }
            let most = (count - left).min(100).to_string();
            let keys: Vec<String> =
                self.execute(from, &["CLUSTER", "GETKEYSINSLOT", slot, &most]).await;
            let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            words.extend(keys.iter().map(String::as_str));
            eventually("the keys are moved", async || {
                // Keys may expire or be deleted meanwhile.
                let moved: RedisResult<String> = try_execute(&self.nodes[from], &words).await;
                // The other node may have lost touch with the others for a moment.
                let is_down = |error: &RedisError| error.to_string().contains("CLUSTERDOWN");
                assert!(moved.as_ref().err().is_none_or(is_down), "{moved:?}");
                moved.ok()
            })
            .await;
        }
    }

    /// Moves a range of slots from one master to another: those with keys one by one, like [`RedisCluster::move_slot`],
    /// then the others together.
    ///
    /// # Panics
    /// If a step fails.
    pub async fn move_slots(&self, (first, last): (u16, u16), from: usize, to: usize) {
        let of_each = |words: &[&str], rest: &[&str]| {
            let mut pipeline = redis::pipe();
            for slot in first..=last {
                pipeline.cmd("CLUSTER").arg(words).arg(slot).arg(rest);
            }
            pipeline
        };
        let mut source = self.nodes[from].connect().await;
        let counts = of_each(&["COUNTKEYSINSLOT"], &[]);
        let counts: Vec<u64> = counts.query_async(&mut source).await.unwrap();
        for (slot, _) in (first..=last).zip(counts).filter(|&(_, count)| count > 0) {
            self.move_slot(slot, from, to).await;
        }
        let ids = [self.id(from).await, self.id(to).await];
        // The new owner's claim is newer than the old one's if it imports.
        let mut target = self.nodes[to].connect().await;
        let owned = self.slots_of(to).await;
        let is_owned = |slot| owned.iter().any(|&(first, last)| (first..=last).contains(&slot));
        let mut import = redis::pipe();
        for slot in (first..=last).filter(|&slot| !is_owned(slot)) {
            import.cmd("CLUSTER").arg("SETSLOT").arg(slot).arg("IMPORTING").arg(&ids[0]);
        }
        if !import.is_empty() {
            import.exec_async(&mut target).await.unwrap();
        }
        let assign = of_each(&["SETSLOT"], &["NODE", &ids[1]]);
        assign.exec_async(&mut target).await.unwrap();
        // One that has no slot left may already follow the other one.
        let _ = assign.exec_async(&mut source).await;
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

/// Fails soon if the node does not answer, which is perhaps what a test wants.
async fn try_execute<T: FromRedisValue>(node: &RedisServer, words: &[&str]) -> RedisResult<T> {
    let client = node.client();
    let mut connection = client.get_multiplexed_async_connection().await?;
    command(words).query_async(&mut connection).await
}

/// Waits as long as tests wait for anything, also while the node loads what it gets from its master.
async fn execute<T: FromRedisValue>(node: &RedisServer, words: &[&str]) -> T {
    let mut connection = node.connect().await;
    eventually("the node has loaded its data", async || {
        let answer: RedisResult<T> = command(words).query_async(&mut connection).await;
        let loads =
            |error: &RedisError| error.kind() == ErrorKind::Server(ServerErrorKind::BusyLoading);
        if answer.as_ref().is_err_and(loads) { None } else { Some(answer.unwrap()) }
    })
    .await
}

fn command(words: &[&str]) -> redis::Cmd {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command
}
