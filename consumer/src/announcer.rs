//! Declares in Redis, for every API, which tasks a worker has and which queues it serves.

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
    /// Shows that the tasks were declared, or that some were rejected. Other pulses show whether Redis is reachable.
    pub(crate) pulse: Pulse,
    /// Notified by the heartbeat when Redis has lost its data.
    pub(crate) data_lost: Arc<Notify>,
}

impl Announcer {
    /// Redis keeps a task for 30 days after its last declaration, and an unused queue for an hour.
    const INTERVAL: Duration = Duration::from_secs(60);

    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut reachability = Reachability::of("announcer");
        loop {
            let pause = match self.broker.announce(&self.queues, &self.tasks).await {
                Ok(()) => {
                    reachability.succeeded();
                    self.pulse.answered();
                    Self::INTERVAL
                }
                Err(error) => {
                    if matches!(error, Error::TooManyTasks { .. }) {
                        self.pulse.failed(&error);
                    }
                    reachability.failed(&error)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.data_lost.notified() => {
                    tracing::warn!("Redis lost its data, declaring tasks and queues again");
                }
                () = shutdown.cancelled() => return,
            }
        }
    }
}
