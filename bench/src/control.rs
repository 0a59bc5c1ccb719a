//! The control: the results of `redis-benchmark` with a Redis that does nothing else, on this machine at this time.

use std::process::Command;

use crunch_tests::RedisServer;

use crate::usage::RedisInfo;

/// A Redis for controls only.
pub(crate) struct ControlServer(RedisServer);

/// The results of the control.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Control {
    /// `LPUSH` commands of 100 bytes per second, 16 in a pipeline over each of 50 connections.
    pub(crate) pushes: f64,
    /// The same one by one over one connection: round trips per second.
    pub(crate) round_trips: f64,
    /// Seconds of CPU that Redis took for 100 000 of the pipelined commands.
    pub(crate) push_cpu: f64,
}

const PUSHES: u32 = 500_000;
const ROUND_TRIPS: u32 = 20_000;

impl ControlServer {
    pub(crate) fn start() -> Self {
        Self(RedisServer::start())
    }

    /// Measures the control; takes a second.
    pub(crate) fn measure(&self) -> Control {
        let before = RedisInfo::of(&self.0);
        let pushes = self.benchmark(PUSHES, &["-P", "16", "-c", "50"]);
        let push_cpu = before.until_now(&self.0).cpu / f64::from(PUSHES) * 1e5;
        let round_trips = self.benchmark(ROUND_TRIPS, &["-P", "1", "-c", "1"]);
        let mut redis = self.0.client().get_connection().unwrap();
        redis::cmd("FLUSHALL").exec(&mut redis).unwrap();
        Control { pushes, round_trips, push_cpu }
    }

    /// Commands per second.
    fn benchmark(&self, count: u32, arguments: &[&str]) -> f64 {
        let output = Command::new("redis-benchmark")
            .args(["-p", &self.0.port().to_string(), "-t", "lpush", "-d", "100", "--csv"])
            .args(["-n", &count.to_string()])
            .args(arguments)
            .output()
            .expect("redis-benchmark is installed");
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find(|line| line.starts_with("\"LPUSH")).unwrap();
        line.split(',').nth(1).unwrap().trim_matches('"').parse().unwrap()
    }
}
