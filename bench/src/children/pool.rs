//! A worker with the tasks of a file, on a Redis of its own.

use std::fs;
use std::time::Duration;

use crunch_common::broker::{JobRecord, Lookup};
use crunch_common::job::JobId;
use crunch_tests::{Process, children_of};

use crate::testbed::{SHIPPED, Testbed};

/// The worker, and what it runs on.
pub(super) struct Pool {
    pub(super) testbed: Testbed,
    pub(super) worker: Process,
}

/// Between two looks at whether something has happened.
const LOOK: Duration = Duration::from_millis(2);

impl Pool {
    /// Starts a worker with these tasks, and waits until one of them is declared: then a child is ready.
    pub(super) async fn start(tasks: &str, task: &str) -> Self {
        let mut testbed = Testbed::start(SHIPPED).await;
        let file = testbed.stack.directory().join("tasks.toml");
        fs::write(&file, tasks).unwrap();
        let mut command = testbed.stack.command("crunch-worker");
        command.arg("--tasks").arg(file).args(["--concurrency", "4", "--log", "warn"]);
        let worker = testbed.stack.spawn(command, "worker");
        while !testbed.broker.tasks().await.unwrap().iter().any(|it| it.name.as_str() == task) {
            tokio::time::sleep(LOOK).await;
        }
        Self { testbed, worker }
    }

    /// All processes below the worker.
    pub(super) fn descendants(&self) -> Vec<u32> {
        let mut found = children_of(self.worker.pid());
        let mut at = 0;
        while at < found.len() {
            found.extend(children_of(found[at]));
            at += 1;
        }
        found
    }

    /// Waits until a job has ended.
    pub(super) async fn ended(&self, id: JobId) -> JobRecord {
        loop {
            let found = self.testbed.broker.job_without_result(id).await.unwrap();
            let Lookup::Found(job) = found else { panic!("the job is lost: {found:?}") };
            if job.status.is_terminal() {
                return job;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
