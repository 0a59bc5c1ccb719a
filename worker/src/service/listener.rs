//! Waits for work without polling: blocks on the wake-up tokens of the worker's queues while slots are idle.
//!
//! Takes tokens, never jobs. A full or draining worker takes none, so that they wake somebody who can use them.

use std::sync::Arc;

use crunch_common::broker::Broker;
use crunch_common::job::Partition;
use crunch_common::queue::QueueName;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::Reachability;

/// Asks the processor to look for work; answered (dropped) when it has looked.
pub(crate) type Look = oneshot::Sender<()>;

pub(crate) struct Listener {
    /// With a connection of its own: it blocks.
    pub(crate) broker: Broker,
    pub(crate) partition: Partition,
    pub(crate) queues: Vec<QueueName>,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) looks: mpsc::Sender<Look>,
}

impl Listener {
    pub(crate) async fn run(self, draining: CancellationToken) {
        draining.run_until_cancelled(self.listen()).await;
    }

    async fn listen(&self) {
        let mut redis = Reachability::of("listener");
        // The processor is told to look before the first wait: work may lie there without a token.
        while self.ask_to_look().await.is_some() {
            match self.broker.wait_for_work(self.partition, &self.queues).await {
                // Without a token it looks all the same: this bounds how long a lost token can matter.
                Ok(_token) => redis.back(),
                Err(error) => tokio::time::sleep(redis.failed(&error)).await,
            }
        }
    }

    /// Has the processor look once; comes back when it has, and a slot is idle.
    async fn ask_to_look(&self) -> Option<()> {
        let (look, looked) = oneshot::channel();
        self.looks.send(look).await.ok()?;
        let _answered_by_dropping = looked.await;
        self.slots.acquire().await.map(drop).ok()
    }
}
