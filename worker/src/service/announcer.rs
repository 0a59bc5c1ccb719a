//! Declares this worker's tasks to every API, and the queues it serves.

use std::time::Duration;

use crunch_common::broker::{Broker, Error};
use crunch_common::queue::QueueName;
use crunch_common::task::TaskDescriptor;
use tokio_util::sync::CancellationToken;

use super::Reachability;

pub(crate) struct Announcer {
    pub(crate) broker: Broker,
    pub(crate) queues: Vec<QueueName>,
    pub(crate) tasks: Vec<TaskDescriptor>,
}

impl Announcer {
    /// A Redis that lost its memory hears of the tasks again within a minute.
    const INTERVAL: Duration = Duration::from_secs(60);

    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut redis = Reachability::of("announcer");
        loop {
            let pause = match self.tick().await {
                Ok(()) => {
                    redis.back();
                    Self::INTERVAL
                }
                Err(error) => redis.failed(&error),
            };
            if shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    pub(crate) async fn tick(&self) -> Result<(), Error> {
        self.broker.announce(&self.queues, &self.tasks).await
    }
}
