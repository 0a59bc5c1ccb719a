//! Declares a worker's tasks, and the queues it serves, to every API.

use std::sync::Arc;
use std::time::Duration;

use crunch_common::broker::{Broker, Error};
use crunch_common::queue::QueueName;
use crunch_common::task::TaskDescriptor;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{Pulse, Reachability};

pub(crate) struct Announcer {
    pub(crate) broker: Broker,
    pub(crate) queues: Vec<QueueName>,
    pub(crate) tasks: Vec<TaskDescriptor>,
    /// Shows that the tasks were declared, or why not all of them. Other pulses show that Redis is unreachable.
    pub(crate) pulse: Pulse,
    /// Notified when Redis does not know the worker any more.
    pub(crate) forgotten: Arc<Notify>,
}

impl Announcer {
    /// A declaration is kept for weeks; this keeps its last-seen time current.
    const INTERVAL: Duration = Duration::from_secs(60);

    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut redis = Reachability::of("announcer");
        while let Some(announced) = shutdown.run_until_cancelled(self.tick()).await {
            let pause = match announced {
                Ok(()) => {
                    redis.succeeded();
                    self.pulse.answered();
                    Self::INTERVAL
                }
                Err(error) => {
                    if matches!(error, Error::TooManyTasks { .. }) {
                        self.pulse.failed(&error);
                    }
                    redis.failed(&error)
                }
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

    async fn tick(&self) -> Result<(), Error> {
        self.broker.announce(&self.queues, &self.tasks).await
    }
}
