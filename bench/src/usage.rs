//! Resource usage as reported by Redis and the kernel.

use std::fs;
use std::iter::Sum;
use std::time::Duration;

use crunch_tests::RedisServer;
use redis::InfoDict;
use redis::aio::MultiplexedConnection;

/// Values of `INFO`, or the difference of two.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RedisInfo {
    /// Seconds of CPU.
    pub(crate) cpu: f64,
    /// Commands from clients.
    pub(crate) commands: f64,
    /// Bytes from clients and to them.
    pub(crate) bytes: f64,
    /// Reads from sockets.
    pub(crate) reads: f64,
    /// Bytes of memory in use.
    pub(crate) memory: f64,
    /// Clients that are connected.
    pub(crate) connections: f64,
}

impl RedisInfo {
    pub(crate) fn of(server: &RedisServer) -> Self {
        let mut redis = server.client().get_connection().unwrap();
        let info: InfoDict = redis::cmd("INFO").query(&mut redis).unwrap();
        let field = |name: &str| info.get::<f64>(name).unwrap_or_default();
        Self {
            cpu: field("used_cpu_user") + field("used_cpu_sys"),
            commands: field("total_commands_processed"),
            bytes: field("total_net_input_bytes") + field("total_net_output_bytes"),
            reads: field("total_reads_processed"),
            memory: field("used_memory"),
            connections: field("connected_clients"),
        }
    }

    /// The difference from these values to the current ones.
    pub(crate) fn until_now(self, server: &RedisServer) -> Self {
        let now = Self::of(server);
        Self {
            cpu: now.cpu - self.cpu,
            commands: now.commands - self.commands,
            bytes: now.bytes - self.bytes,
            reads: now.reads - self.reads,
            memory: now.memory - self.memory,
            connections: now.connections - self.connections,
        }
    }
}

impl Sum for RedisInfo {
    fn sum<I: Iterator<Item = Self>>(servers: I) -> Self {
        servers.fold(Self::default(), |sum, server| Self {
            cpu: sum.cpu + server.cpu,
            commands: sum.commands + server.commands,
            bytes: sum.bytes + server.bytes,
            reads: sum.reads + server.reads,
            memory: sum.memory + server.memory,
            connections: sum.connections + server.connections,
        })
    }
}

/// Activity of Redis per second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RedisActivity {
    /// Commands, including those inside functions.
    pub(crate) commands: f64,
    /// Reads from sockets: about as many as calls, if few arrive together.
    pub(crate) reads: f64,
}

impl RedisActivity {
    /// Observes Redis for this many seconds.
    pub(crate) async fn observe(redis: &mut MultiplexedConnection, seconds: u64) -> Self {
        let before = totals(redis).await;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let after = totals(redis).await;
        // The query itself counts as one command and one read.
        let [commands, reads] =
            [0, 1].map(|at| (after[at] - before[at] - 1.0).max(0.0) / seconds as f64);
        Self { commands, reads }
    }
}

async fn totals(redis: &mut MultiplexedConnection) -> [f64; 2] {
    let info: InfoDict = redis::cmd("INFO").arg("stats").query_async(redis).await.unwrap();
    ["total_commands_processed", "total_reads_processed"].map(|name| info.get(name).unwrap())
}

/// `USER_HZ`, which has this value on every Linux machine that Crunch supports; see proc(5).
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of CPU that a process has used.
pub(crate) fn cpu_of(pid: u32) -> f64 {
    cpu_in(&fs::read_to_string(format!("/proc/{pid}/stat")).unwrap())
}

/// The same for several, without those that have ended.
pub(crate) fn cpu_of_all(pids: &[u32]) -> f64 {
    let stats = pids.iter().filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok());
    stats.map(|stat| cpu_in(&stat)).sum()
}

fn cpu_in(stat: &str) -> f64 {
    // The name may contain spaces and parentheses; utime and stime are the 12th and 13th fields after it.
    let fields = stat.rsplit_once(')').unwrap().1;
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).map(|it| it.parse::<u64>().unwrap()).sum();
    ticks as f64 / TICKS_PER_SECOND
}

/// Resident memory of a process, in KiB.
pub(crate) fn memory_of(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
