//! Declares in Redis, for every API, which tasks a worker has and which queues it serves.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crunch_common::broker::{Broker, Error};
use crunch_common::task::TaskName;
use crunch_common::telemetry::LogLimit;
use tokio_util::sync::CancellationToken;

use crate::declared::Declared;
use crate::{Pulse, Reachability};

/// Enough to notice; an operator must act.
static REJECTED: LogLimit = LogLimit::new(Duration::from_secs(60));
/// Two workers that differ find it out each minute, without an end.
static DISPUTED: LogLimit = LogLimit::new(Duration::from_secs(600));
/// How soon tasks that were rejected are declared again: there may be room.
const WHILE_REJECTED: Duration = Duration::from_secs(2);

pub(crate) struct Announcer {
    pub(crate) broker: Broker,
    pub(crate) declared: Arc<Declared>,
    /// Shows that the tasks were declared, or that some were rejected. Other pulses show whether Redis is reachable.
    pub(crate) pulse: Pulse,
}

impl Announcer {
    /// Redis keeps a task for 30 days after its last declaration, and an unused queue for an hour.
    const INTERVAL: Duration = Duration::from_secs(60);

    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut reachability = Reachability::of("announcer");
        let mut own = Own::default();
        // The first heartbeat comes before.
        let Some(()) = shutdown.run_until_cancelled(self.declared.outdated.notified()).await else {
            return;
        };
        while let Some(announced) = shutdown.run_until_cancelled(self.announce()).await {
            let pause = match announced {
                Ok((tasks, replaced)) => {
                    reachability.succeeded();
                    warn_of(&own.disputed(tasks, replaced));
                    self.pulse.answered();
                    Self::INTERVAL
                }
                // Redis is reachable: other tasks would have to be forgotten first.
                Err(error @ Error::TooManyTasks { .. }) => {
                    if let Some(left_out) = REJECTED.admit() {
                        tracing::warn!(%error, left_out, "some tasks of this worker are not declared, retrying");
                    }
                    self.pulse.failed(&error);
                    WHILE_REJECTED
                }
                Err(error) => reachability.failed(&error),
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.declared.outdated.notified() => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Returns the tasks that were declared, and those of them whose declaration was another one before.
    async fn announce(&self) -> Result<(Vec<TaskName>, Vec<TaskName>), Error> {
        let begun = self.declared.announcing();
        let tasks = self.declared.tasks();
        let answered = self.broker.announce(&self.declared.queues(), &tasks).await;
        let succeeded = matches!(answered, Ok(_) | Err(Error::TooManyTasks { .. }));
        self.declared.announced(begun, succeeded);
        let replaced = answered?;
        Ok((tasks.into_iter().map(|task| task.name).collect(), replaced))
    }
}

/// The tasks that this worker has declared; what it declares of a task does not change.
#[derive(Debug, Default)]
struct Own(HashSet<TaskName>);

impl Own {
    /// Records an announcement. Returns the tasks that another worker has declared differently since this one did. That
    /// the first declaration replaces another one is no dispute: the task may have changed.
    fn disputed(&mut self, tasks: Vec<TaskName>, replaced: Vec<TaskName>) -> Vec<TaskName> {
        let disputed = replaced.into_iter().filter(|task| self.0.contains(task)).collect();
        self.0.extend(tasks);
        disputed
    }
}

/// How many tasks a warning lists.
const LISTED: usize = 5;

fn warn_of(disputed: &[TaskName]) {
    if disputed.is_empty() {
        return;
    }
    if let Some(left_out) = DISPUTED.admit() {
        let names: Vec<_> = disputed.iter().take(LISTED).map(TaskName::as_str).collect();
        let and_more = if disputed.len() > LISTED { ",…" } else { "" };
        let tasks = names.join(",") + and_more;
        tracing::warn!(
            tasks,
            left_out,
            "another worker declares these tasks differently, so their schemas, queues and limits change back and forth: \
             expected during a deploy, otherwise make the workers equal (docs/upgrade.md, New tasks, and changed ones)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_disputed_once_this_worker_has_declared_it() {
        let names = |names: &[&str]| -> Vec<TaskName> {
            names.iter().map(|name| name.parse().unwrap()).collect()
        };
        let mut own = Own::default();
        assert_eq!(own.disputed(names(&["a"]), names(&["a"])), names(&[]));
        assert_eq!(own.disputed(names(&["a"]), names(&[])), names(&[]));
        // Those of a server are added later.
        assert_eq!(own.disputed(names(&["a", "b"]), names(&["b"])), names(&[]));
        assert_eq!(own.disputed(names(&["a", "b"]), names(&["a", "b"])), names(&["a", "b"]));
    }
}
