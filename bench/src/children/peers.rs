//! Other task systems for Python, each with its module in `bench/python`.

use std::process::{Command, Stdio};

use crunch_tests::RedisServer;

use super::python::{Python, modules};
use crate::testbed::{PAYLOAD, SHIPPED};

/// A task system.
pub(super) struct Peer {
    pub(super) name: &'static str,
    /// How many times as many jobs the children of Crunch get, so that both take about as long.
    share: usize,
}

pub(super) const ALL: [Peer; 4] = [
    Peer { name: "Celery", share: 6 },
    Peer { name: "dramatiq", share: 2 },
    Peer { name: "RQ", share: 100 },
    Peer { name: "taskiq", share: 2 },
];

impl Peer {
    /// Drains a queue on a new Redis; returns jobs a second.
    pub(super) async fn drain(&self, python: &Python, jobs: usize, processes: usize) -> f64 {
        let redis = RedisServer::with(SHIPPED);
        let mut command = Command::new(&python.program);
        command.current_dir(modules()).env("PEER_REDIS_URL", redis.url());
        command.args(["drain.py", &self.name.to_lowercase()]);
        command.args(["--jobs", &(jobs / self.share).to_string()]);
        command.args(["--processes", &processes.to_string()]);
        command.args(["--payload", &PAYLOAD.to_string()]).stderr(Stdio::null());
        let run = tokio::task::spawn_blocking(move || command.output());
        let output = run.await.unwrap().unwrap();
        assert!(output.status.success(), "{} cannot be measured: {output:?}", self.name);
        String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
    }
}
