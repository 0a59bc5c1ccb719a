//! A private `redis-server` that can be stopped, killed, frozen and started again with its data.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crunch_common::broker::BrokerConfig;
use crunch_common::broker::{Broker, Library};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::draw;
use crate::port::Port;
use crate::wait::TIME_LIMIT;

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
        let output = Command::new(draw::redis_program()).arg("--version").output();
        let text = String::from_utf8(output.expect("it is installed").stdout).unwrap();
        let version = text.split(' ').find_map(|word| word.strip_prefix("v=")).unwrap();
        let mut numbers = version.split('.').map(|number| number.parse().unwrap());
        (numbers.next().unwrap(), numbers.next().unwrap())
    }

    /// Starts one that keeps its data in memory only.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&["--appendonly", "no"])
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
        Self::with(&["--appendonly", "no", "--replicaof", "127.0.0.1", &port])
    }

    /// Starts one with further arguments.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn with(arguments: &[&str]) -> Self {
        Self::with_command(&[draw::redis_program()], arguments)
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
        let mut server = Self::with(&arguments);
        server.tls_port = Some(port);
        server
    }

    /// Starts one with further arguments, through another command that executes it: for example `env`, or a shell.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn with_command(command: &[&str], arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let [command, arguments] =
            [command, arguments].map(|words| words.iter().map(ToString::to_string).collect());
        let (port, partitions) = (Port::reserve(), draw::partitions());
        let (process, tls_port) = (None, None);
        let mut server =
            Self { directory, port, command, arguments, tls_port, process, partitions };
        assert!(server.launch(), "redis-server did not start");
        server
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
            std::thread::sleep(std::time::Duration::from_millis(2));
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

    /// Returns its address in the form of `CRUNCH_REDIS_URL`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}/", self.port.addr())
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

    /// Creates a separate client, to inspect Redis directly.
    #[must_use]
    pub fn client(&self) -> redis::Client {
        redis::Client::open(self.url()).unwrap()
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
        let mut keys = redis::cmd("KEYS");
        let mut redis = self.connect().await;
        let keys: Vec<String> =
            keys.arg(format!("*:{{*}}:{end}")).query_async(&mut redis).await.unwrap();
        keys.into_iter().next().expect("the key exists")
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
        if self.process.is_some() {
            let _ = kill_process(self.pid(), signal);
        }
    }

    fn end(&mut self, signal: Signal) {
        self.signal(signal);
        // A frozen one does not handle TERM.
        self.signal(Signal::CONT);
        if let Some(mut process) = self.process.take() {
            let _ = process.wait();
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
