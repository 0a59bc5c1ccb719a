//! Sentinels that watch a master and its replicas. They are killed when this value is dropped.

use std::collections::HashMap;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::RedisServer;
use crate::draw::redis_program;
use crate::port::Port;
use crate::wait::eventually;

/// How many there are: as many as it takes to replace a master while one of them is down.
const COUNT: usize = 3;

/// Sentinels of one master, which they call [`Sentinels::MASTER`].
#[derive(Debug)]
pub struct Sentinels {
    sentinels: Vec<Sentinel>,
    /// What is before the hosts in the address.
    scheme_and_user: String,
}

/// How Sentinels are reached, and how they reach Redis.
#[derive(Debug, Clone, Default)]
pub struct SentinelSettings {
    /// The password of Redis, and theirs.
    pub passwords: Option<[String; 2]>,
    /// Certificate, key and authority, if they use TLS, and reach Redis at its port for TLS by the name `localhost`.
    pub tls: Option<[String; 3]>,
}

#[derive(Debug)]
struct Sentinel {
    process: Child,
    port: Port,
    tls_port: Option<Port>,
    password: Option<String>,
    _directory: TempDir,
}

impl Sentinels {
    /// The name of the master.
    pub const MASTER: &str = "main";

    /// Starts three for this master, and waits until each of them knows the others and all replicas.
    pub async fn watch(master: &RedisServer, replicas: usize) -> Self {
        Self::with(master, replicas, &SentinelSettings::default()).await
    }

    /// Like [`Sentinels::watch`], with passwords or TLS.
    ///
    /// # Panics
    /// If they cannot be started.
    pub async fn with(master: &RedisServer, replicas: usize, settings: &SentinelSettings) -> Self {
        let scheme = if settings.tls.is_some() { "rediss" } else { "redis" };
        let user =
            settings.passwords.as_ref().map_or_else(String::new, |[redis, _]| format!(":{redis}@"));
        let sentinels = (0..COUNT).map(|_| Sentinel::start(master, settings)).collect();
        let sentinels = Self { sentinels, scheme_and_user: format!("{scheme}+sentinel://{user}") };
        for sentinel in &sentinels.sentinels {
            eventually("the Sentinels know each other and the replicas", async || {
                let known = sentinel.ask("MASTER").await.ok()?;
                let count = |name| known.get(name)?.parse::<usize>().ok();
                let is_complete = count("num-slaves")? == replicas
                    && count("num-other-sentinels")? == COUNT - 1
                    && known.get("flags")? == "master";
                is_complete.then_some(())
            })
            .await;
        }
        sentinels
    }

    /// Returns their address in the form of `CRUNCH_REDIS_URL`.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts = self.sentinels.iter().map(Sentinel::host_and_port);
        let hosts = hosts.collect::<Vec<_>>().join(",");
        format!("{}{hosts}/{}", self.scheme_and_user, Self::MASTER)
    }

    /// Has a replica promoted while the master works.
    ///
    /// # Panics
    /// If they refuse.
    pub async fn fail_over(&self) {
        let mut connection = self.sentinels[0].connect().await.unwrap();
        eventually("a failover begins", async || {
            let command = redis::cmd("SENTINEL").arg("FAILOVER").arg(Self::MASTER).clone();
            command.exec_async(&mut connection).await.ok()
        })
        .await;
    }

    /// Returns the port of the master that a majority of them names.
    pub async fn master(&self) -> Option<u16> {
        let mut ports = Vec::new();
        for sentinel in &self.sentinels {
            ports.push(sentinel.ask("MASTER").await.ok()?.get("port")?.parse().ok()?);
        }
        ports.sort_unstable();
        ports
            .windows(COUNT / 2 + 1)
            .find(|some| some.iter().all(|it| *it == some[0]))
            .map(|it| it[0])
    }

    /// Waits until each of them knows a replica that it could promote.
    pub async fn wait_until_ready(&self) {
        for sentinel in &self.sentinels {
            eventually("a replica can be promoted", async || {
                let mut connection = sentinel.connect().await.ok()?;
                let mut command = redis::cmd("SENTINEL");
                command.arg("REPLICAS").arg(Self::MASTER);
                let replicas: Vec<HashMap<String, String>> =
                    command.query_async(&mut connection).await.ok()?;
                let is_ready = |replica: &HashMap<String, String>| {
                    replica.get("flags").is_some_and(|flags| flags == "slave")
                        && replica.get("master-link-status").is_some_and(|link| link == "ok")
                };
                replicas.iter().any(is_ready).then_some(())
            })
            .await;
        }
    }

    /// Kills the first one of the address.
    pub fn kill_first(&mut self) {
        drop(self.sentinels.remove(0));
    }
}

impl Sentinel {
    fn start(master: &RedisServer, settings: &SentinelSettings) -> Self {
        let (directory, port) = (tempfile::tempdir().unwrap(), Port::reserve());
        let tls_port = settings.tls.as_ref().map(|_| Port::reserve());
        let name = Sentinels::MASTER;
        let number = |port: &Port| port.addr().port();
        let mut lines = vec![
            "bind 127.0.0.1".to_owned(),
            format!("port {}", number(&port)),
            format!("dir {}", directory.path().display()),
        ];
        let mut monitored = format!("127.0.0.1 {}", master.port());
        if let (Some(tls_port), Some([certificate, key, ca])) = (&tls_port, &settings.tls) {
            monitored = format!("localhost {}", master.tls_port());
            lines.extend([
                format!("tls-port {}", number(tls_port)),
                format!("tls-cert-file {certificate}"),
                format!("tls-key-file {key}"),
                format!("tls-ca-cert-file {ca}"),
                "tls-replication yes".to_owned(),
                "sentinel resolve-hostnames yes".to_owned(),
                "sentinel announce-hostnames yes".to_owned(),
            ]);
        }
        lines.extend([
            format!("sentinel monitor {name} {monitored} 2"),
            format!("sentinel down-after-milliseconds {name} 1000"),
            format!("sentinel failover-timeout {name} 4000"),
        ]);
        if let Some([redis, own]) = &settings.passwords {
            lines.extend([
                format!("sentinel auth-pass {name} {redis}"),
                format!("requirepass {own}"),
            ]);
        }
        let file = directory.path().join("sentinel.conf");
        std::fs::write(&file, lines.join("\n") + "\n").unwrap();
        let process = Command::new(redis_program())
            .arg(&file)
            .arg("--sentinel")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let password = settings.passwords.as_ref().map(|[_, own]| own.clone());
        Self { process, port, tls_port, password, _directory: directory }
    }

    fn host_and_port(&self) -> String {
        match &self.tls_port {
            Some(port) => format!("localhost:{}", port.addr().port()),
            None => self.port.addr().to_string(),
        }
    }

    async fn connect(&self) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
        let user = self.password.as_ref().map_or_else(String::new, |word| format!(":{word}@"));
        let client = redis::Client::open(format!("redis://{user}{}/", self.port.addr()))?;
        client.get_multiplexed_async_connection().await
    }

    async fn ask(&self, what: &str) -> redis::RedisResult<HashMap<String, String>> {
        let mut connection = self.connect().await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg(what).arg(Sentinels::MASTER).query_async(&mut connection).await
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
