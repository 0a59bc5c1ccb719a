//! Servers with children that are wrong in every way (`tests/children/wrong.py`), and with correct ones. Each test runs
//! real processes; jobs run as a worker runs them, without Redis.

use std::path::Path;
use std::time::{Duration, Instant};

use crunch_common::job::JobError;
use crunch_common::task::TaskName;
use serde_json::{Value, json};

use super::*;
use crate::Task;
use crate::process::Command;
use crate::registry::Registry;
use crate::suspension::Suspensions;
use crate::testing::{Attempt, Outcome, Report};

mod channel;
mod faults;
mod floods;
mod fuzz;
mod lives;
mod stops;

/// Long enough for the slowest machine; only a hang exceeds it.
const DEADLINE: Duration = Duration::from_secs(60);
const MAX_RESULT: usize = 1024 * 1024;
/// The children.
const CHILDREN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/children");

/// A server with children that have one fault.
struct Server {
    servers: Servers,
    registry: Registry,
}

impl Server {
    /// Starts one child, and waits until it is ready.
    async fn with(fault: &[&str]) -> Self {
        Self::of(spec(fault)).await
    }

    /// Starts children, and waits until one is ready.
    async fn of(spec: ServerSpec) -> Self {
        let servers = Self::start(spec);
        let pool = &servers.pools()[0];
        let tasks = in_time("a child is ready", pool.tasks()).await;
        let registry = registry(pool, &tasks, MAX_RESULT);
        Self { servers, registry }
    }

    fn start(spec: ServerSpec) -> Servers {
        Servers::start(vec![spec], MAX_RESULT as u64, &[])
    }

    fn pool(&self) -> &ServerPool {
        &self.servers.pools()[0]
    }

    fn task(&self, task: &str) -> Task {
        let name: TaskName = task.parse().unwrap();
        self.registry.find(&name).unwrap().as_ref().clone()
    }

    fn attempt(&self, task: &str) -> Attempt {
        Attempt::of(self.task(task))
    }

    async fn run(&self, task: &str, payload: Value) -> Report {
        let attempt = self.attempt(task).payload(payload);
        in_time("an attempt ends", attempt.run()).await
    }

    /// Runs a job that fails.
    async fn failure(&self, task: &str) -> JobError {
        error_of(self.run(task, json!(1)).await)
    }

    /// Waits until this many children are ready.
    async fn ready(&self, children: usize) {
        wait_until("children are ready", || self.pool().info().ready == children).await;
    }

    async fn end(self) {
        in_time("the children end", self.servers.end()).await;
    }
}

fn spec(fault: &[&str]) -> ServerSpec {
    let script = format!("{CHILDREN}/wrong.py");
    let arguments = std::iter::once(&script[..]).chain(fault.iter().copied());
    let kept = ["PATH", "HOME", "TMPDIR"];
    let is_kept = |name: &std::ffi::OsString| kept.iter().any(|kept| name == kept);
    ServerSpec {
        name: "wrong".to_owned(),
        command: Command {
            program: "python3".into(),
            arguments: arguments.map(Into::into).collect(),
            directory: Path::new(CHILDREN).to_owned(),
            writable: false,
            environment: std::env::vars_os().filter(|(name, _)| is_kept(name)).collect(),
        },
        processes: 1,
        concurrency: None,
        max_jobs: None,
        max_memory: None,
        start_timeout: DEADLINE,
        idle_exit: None,
        silence: Silence::default(),
        oom_counter: OomCounter::default(),
        tasks: FileValues::new(),
    }
}

/// A server of one child after another. A script prepares each of them, in a folder.
fn prepared_by(script: &str, folder: &Path, fault: &str) -> ServerSpec {
    let mut spec = spec(&[]);
    spec.command.program = "sh".into();
    let script = format!("folder='{}'; {script}; exec python3 wrong.py {fault}", folder.display());
    spec.command.arguments = ["-c".into(), script.into()].to_vec();
    spec
}

fn error_of(report: Report) -> JobError {
    match report.outcome {
        Outcome::Failed(error) | Outcome::Retried { error, .. } => error,
        other => panic!("{other:?}"),
    }
}

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("in time: {what}"))
}

async fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    eventually(what, async || is_so()).await;
}

async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < DEADLINE, "in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
