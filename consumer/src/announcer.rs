//! Declares in Redis, for every API, which tasks a worker has and which queues it serves.

use std::sync::Arc;
use std::time::Duration;

use crunch_common::broker::{Broker, Error};
use crunch_common::queue::QueueName;
use crunch_common::task::TaskDescriptor;
use crunch_common::telemetry::LogLimit;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{Pulse, Reachability};

/// Enough to notice; an operator must act.
static REJECTED: LogLimit = LogLimit::new(Duration::from_secs(60));
/// How soon tasks that were rejected are declared again: there may be room.
const WHILE_REJECTED: Duration = Duration::from_secs(2);

pub(crate) struct Announcer {
    pub(crate) broker: Broker,
    pub(crate) queues: Vec<QueueName>,
    pub(crate) tasks: Vec<TaskDescriptor>,
    /// Shows that the tasks were declared, or that some were rejected. Other pulses show whether Redis is reachable.
    pub(crate) pulse: Pulse,
    /// Notified by the heartbeat when Redis does not know the worker any more.
    pub(crate) forgotten: Arc<Notify>,
}

impl Announcer {
    /// Redis keeps a task for 30 days after its last declaration, and an unused queue for an hour.
    const INTERVAL: Duration = Duration::from_secs(60);

    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut reachability = Reachability::of("announcer");
        let announce = || self.broker.announce(&self.queues, &self.tasks);
        while let Some(announced) = shutdown.run_until_cancelled(announce()).await {
            let pause = match announced {
                Ok(()) => {
                    reachability.succeeded();
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
                () = self.forgotten.notified() => {
                    tracing::warn!("Redis does not know this worker any more and may have lost its data, declaring tasks and queues again");
                }
                () = shutdown.cancelled() => return,
            }
        }
    }
}
