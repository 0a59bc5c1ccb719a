//! A private `redis-server` that can be stopped, killed, frozen and started again with its data: a single one, or a node
//! of a Redis Cluster, or several nodes.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crunch_common::broker::BrokerConfig;
use crunch_common::broker::{Broker, Library};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::draw;
use crate::formation::Formation;
use crate::port::Port;
use crate::proxy::Proxy;
use crate::wait::TIME_LIMIT;

/// How many nodes a cluster has in a test that is not about clusters: as few as show that they are several masters.
const NODES: usize = 3;

/// A Redis that is killed when this value is dropped; its data is deleted.
#[derive(Debug)]
pub struct RedisServer {
    directory: TempDir,
    /// Reserved even while Redis is down.
    port: Port,
    /// The program and the arguments before the usual ones.
    command: Vec<String>,
    arguments: Vec<String>,
    /// Where it serves TLS, if it does.
    tls_port: Option<Port>,
    /// Reserved for the bus of its cluster, if it is a node of one.
    bus: Option<Port>,
    /// Other nodes of its cluster, which are stopped, killed, frozen and started with it.
    others: Vec<Self>,
    process: Option<Child>,
    partitions: u16,
}

impl RedisServer {
    /// Returns the version of the program that tests start: of Redis, or of Valkey, which continues its numbers from 7.2.
    ///
    /// # Panics
    /// If it does not print one.
    #[must_use]
    pub fn version() -> (u32, u32) {
        let text = Self::version_text();
        let version = text.split(' ').find_map(|word| word.strip_prefix("v=")).unwrap();
        let mut numbers = version.split('.').map(|number| number.parse().unwrap());
        (numbers.next().unwrap(), numbers.next().unwrap())
    }

    /// Whether that program is Valkey.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn is_valkey() -> bool {
        Self::version_text().starts_with("Valkey")
    }

    fn version_text() -> String {
        let output = Command::new(draw::redis_program()).arg("--version").output();
        String::from_utf8(output.expect("it is installed").stdout).unwrap()
    }

    /// Starts one that keeps its data in memory only.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&["--appendonly", "no"])
    }

    /// Starts one that is no node of a cluster, whatever the tests use.
    #[must_use]
    pub fn single() -> Self {
        Self::single_with(&["--appendonly", "no"])
    }

    /// Starts three nodes if the tests use a cluster, otherwise one server. They keep their data in memory only.
    #[must_use]
    pub fn spread() -> Self {
        if !draw::is_cluster() {
            return Self::start();
        }
        let mut nodes = Self::nodes(NODES, &["--appendonly", "no"]);
        let others = nodes.split_off(1);
        let mut first = nodes.remove(0);
        first.others = others;
        first
    }

    /// Starts one that has every write on disk before it replies.
    #[must_use]
    pub fn durable() -> Self {
        Self::with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Starts a replica of this one.
    #[must_use]
    pub fn start_replica(&self) -> Self {
        let port = self.port().to_string();
        Self::single_with(&["--appendonly", "no", "--replicaof", "127.0.0.1", &port])
    }

    /// Starts one with further arguments.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn with(arguments: &[&str]) -> Self {
        Self::with_command(&[draw::redis_program()], arguments)
    }

    /// Starts one with further arguments that is no node of a cluster, whatever the tests use.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn single_with(arguments: &[&str]) -> Self {
        let mut server = Self::new(&[draw::redis_program()], arguments);
        assert!(server.launch(), "redis-server did not start");
        server
    }

    /// Starts one that also serves TLS, with these arguments for it.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn with_tls(arguments: &[&str]) -> Self {
        let port = Port::reserve();
        let number = port.addr().port().to_string();
        let arguments = [&["--appendonly", "no", "--tls-port", &number], arguments].concat();
        let mut server = Self::single_with(&arguments);
        server.tls_port = Some(port);
        server
    }

    /// Starts one with further arguments, through another command that executes it: for example `env`, or a shell.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn with_command(command: &[&str], arguments: &[&str]) -> Self {
        Self::start_new(Self::new(command, arguments), None)
    }

    /// Starts one with further arguments that has a user with this name and password, and requires a login.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn with_login(login: [&str; 2], arguments: &[&str]) -> Self {
        Self::start_new(Self::new(&[draw::redis_program()], arguments), Some(login))
    }

    fn start_new(mut server: Self, login: Option<[&str; 2]>) -> Self {
        if draw::is_cluster() {
            return Self::form(vec![server.into_node()], login).remove(0);
        }
        assert!(server.launch(), "redis-server did not start");
        server
    }

    /// Starts the nodes of a cluster, with equal shares of the slots and these arguments. It serves requests.
    ///
    /// # Panics
    /// If they cannot be started.
    #[must_use]
    pub fn nodes(count: usize, arguments: &[&str]) -> Vec<Self> {
        let node = || Self::new(&[draw::redis_program()], arguments).into_node();
        Self::form(std::iter::repeat_with(node).take(count).collect(), None)
    }

    /// Starts a node that belongs to no cluster yet.
    pub(crate) fn lone_node(arguments: &[&str]) -> Self {
        let mut node = Self::new(&[draw::redis_program()], arguments).into_node();
        assert!(node.launch(), "redis-server did not start");
        node
    }

    fn form(mut nodes: Vec<Self>, login: Option<[&str; 2]>) -> Vec<Self> {
        let ports: Vec<_> = nodes.iter().map(|node| (node.port(), node.bus_port())).collect();
        let formation = Formation::new(&ports);
        for (number, node) in nodes.iter_mut().enumerate() {
            formation.write(number, node.directory.path());
            assert!(node.launch(), "redis-server did not start");
        }
        formation.complete(login);
        nodes
    }

    /// Creates one that is not started.
    fn new(command: &[&str], arguments: &[&str]) -> Self {
        let [command, arguments] =
            [command, arguments].map(|words| words.iter().map(ToString::to_string).collect());
        Self {
            directory: tempfile::tempdir().unwrap(),
            port: Port::reserve(),
            command,
            arguments,
            tls_port: None,
            bus: None,
            others: Vec::new(),
            process: None,
            partitions: draw::partitions(),
        }
    }

    /// The same, as a node of a cluster.
    fn into_node(mut self) -> Self {
        let bus = self.bus.insert(Port::reserve()).addr().port().to_string();
        let words = ["--cluster-enabled", "yes", "--cluster-port", &bus];
        let more = ["--cluster-require-full-coverage", "no"];
        self.arguments.extend(words.into_iter().chain(more).map(str::to_owned));
        self
    }

    /// Starts it and waits until it listens; `false` if it ended.
    fn launch(&mut self) -> bool {
        let mut process = Command::new(&self.command[0])
            .args(&self.command[1..])
            .args(["--bind", "127.0.0.1", "--port", &self.port().to_string(), "--save", ""])
            .args(["--enable-debug-command", "local", "--loglevel", "warning", "--dir"])
            .arg(self.directory.path())
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let deadline = Instant::now() + TIME_LIMIT;
        while TcpStream::connect(self.port.addr()).is_err() {
            if process.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(Instant::now() < deadline, "redis-server did not start");
            std::thread::sleep(Duration::from_millis(2));
        }
        self.process = Some(process);
        true
    }

    /// The same server, for key spaces of that many partitions instead of a number that is drawn.
    #[must_use]
    pub fn with_partitions(mut self, partitions: u16) -> Self {
        self.partitions = partitions;
        self
    }

    /// Returns how many partitions the key spaces have.
    #[must_use]
    pub fn partitions(&self) -> u16 {
        self.partitions
    }

    /// Returns its address in the form of `CRUNCH_REDIS_URL`; of a cluster, the addresses of its nodes.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_with("")
    }

    /// Returns its address for a user: `user:password@`.
    #[must_use]
    pub fn url_with(&self, login: &str) -> String {
        let hosts: Vec<_> = self.all().map(|node| node.port.addr().to_string()).collect();
        let scheme = if self.bus.is_some() { "redis+cluster" } else { "redis" };
        format!("{scheme}://{login}{}/", hosts.join(","))
    }

    /// Whether it is a node of a cluster.
    #[must_use]
    pub fn is_node(&self) -> bool {
        self.bus.is_some()
    }

    /// Returns how long after its start it does not serve requests yet: a node of a cluster waits, because another one may
    /// have taken over.
    #[must_use]
    pub fn start_delay(&self) -> Duration {
        if self.is_node() { Duration::from_secs(2) } else { Duration::ZERO }
    }

    /// Returns the nodes: itself, and the others that were started with it.
    pub fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.others)
    }

    /// Starts a proxy between it and one client; of a cluster, between all nodes and one client.
    #[must_use]
    pub fn proxy(&self) -> Proxy {
        let ports: Vec<_> = self.all().map(Self::port).collect();
        if self.is_node() { Proxy::to_nodes(&ports) } else { Proxy::to(ports[0]) }
    }

    /// Returns its address with TLS, by that name of this host.
    ///
    /// # Panics
    /// If it was not started by [`RedisServer::with_tls`].
    #[must_use]
    pub fn tls_url(&self, host: &str) -> String {
        format!("rediss://{host}:{}/", self.tls_port())
    }

    /// Returns its port for TLS.
    ///
    /// # Panics
    /// If it was not started by [`RedisServer::with_tls`].
    #[must_use]
    pub fn tls_port(&self) -> u16 {
        self.tls_port.as_ref().expect("it serves TLS").addr().port()
    }

    /// Returns its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.addr().port()
    }

    /// Returns the port of its bus.
    ///
    /// # Panics
    /// If it is no node of a cluster.
    pub(crate) fn bus_port(&self) -> u16 {
        self.bus.as_ref().expect("it is a node").addr().port()
    }

    /// Returns its process id.
    ///
    /// # Panics
    /// If it is not running.
    #[must_use]
    pub fn pid(&self) -> Pid {
        let process = self.process.as_ref().expect("redis-server is running");
        Pid::from_raw(process.id().cast_signed()).expect("a process id is not zero")
    }

    /// Returns the directory of its files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Returns whether it is a replica that has what its master has.
    pub async fn is_synchronized(&self) -> bool {
        let read = async || {
            let mut connection = self.client().get_multiplexed_async_connection().await?;
            redis::cmd("INFO").arg("replication").query_async::<String>(&mut connection).await
        };
        read().await.is_ok_and(|text| text.contains("master_link_status:up"))
    }

    /// Creates a separate client, to inspect Redis directly; of several nodes, the first.
    #[must_use]
    pub fn client(&self) -> redis::Client {
        redis::Client::open(("127.0.0.1", self.port())).unwrap()
    }

    /// Opens a separate connection whose time limit is that of the tests.
    ///
    /// # Panics
    /// If it cannot be opened.
    pub async fn connect(&self) -> redis::aio::MultiplexedConnection {
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(TIME_LIMIT))
            .set_response_timeout(Some(TIME_LIMIT));
        self.client().get_multiplexed_async_connection_with_config(&config).await.unwrap()
    }

    /// Returns the key with this end behind the root of its partition, whichever that is: that of a job, for example.
    ///
    /// # Panics
    /// If it does not exist.
    pub async fn key(&self, end: &str) -> String {
        self.find(end).await.1
    }

    /// The same, and a connection to the node that has the key.
    ///
    /// # Panics
    /// If it does not exist.
    pub async fn find(&self, end: &str) -> (redis::aio::MultiplexedConnection, String) {
        for node in self.all() {
            let mut redis = node.connect().await;
            let mut command = redis::cmd("KEYS");
            command.arg(format!("*:{{*}}:{end}"));
            let keys: Vec<String> = command.query_async(&mut redis).await.unwrap();
            if let Some(key) = keys.into_iter().next() {
                return (redis, key);
            }
        }
        panic!("no key ends with {end}");
    }

    /// Creates a broker on it, with its own key prefix.
    #[must_use]
    pub fn broker(&self, prefix: &str, library: Library) -> Broker {
        self.broker_by(&self.url(), prefix, library)
    }

    pub(crate) fn broker_by(&self, url: &str, prefix: &str, library: Library) -> Broker {
        let config = BrokerConfig {
            redis_url: url.parse().unwrap(),
            key_prefix: prefix.parse().unwrap(),
            partitions: self.partitions,
            ..BrokerConfig::default()
        };
        Broker::with_library(&config, library).unwrap()
    }

    /// Sends TERM and waits until it has exited; its data on disk stays.
    pub fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// Kills Redis.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Restarts it on its port, with its data on disk.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&mut self) {
        self.end(Signal::TERM);
        assert!(self.launch(), "redis-server did not start again");
        self.others.iter_mut().for_each(Self::restart);
    }

    /// Stops it with its connections open, until [`RedisServer::thaw`].
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Continues a frozen one.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        for node in self.all().filter(|node| node.process.is_some()) {
            let _ = kill_process(node.pid(), signal);
        }
    }

    fn end(&mut self, signal: Signal) {
        self.signal(signal);
        // A frozen one does not handle TERM.
        self.signal(Signal::CONT);
        for node in std::iter::once(&mut self.process)
            .chain(self.others.iter_mut().map(|node| &mut node.process))
        {
            if let Some(mut process) = node.take() {
                let _ = process.wait();
            }
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
