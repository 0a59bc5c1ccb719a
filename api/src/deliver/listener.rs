//! Waits for deliveries without polling: blocks on the queue's wake-up token while slots are idle. Takes tokens, never
//! jobs.

use std::sync::Arc;

use crunch_common::backoff::Backoff;
use crunch_common::broker::Broker;
use crunch_common::job::Partition;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::queue;

/// Requests an exchange from the consumer; answered by dropping it.
pub(super) type Look = oneshot::Sender<()>;

pub(super) struct Listener {
    /// With its own connection: its calls block.
    pub(super) broker: Broker,
    /// The consumer's: if the connection of the listener died, the consumer's may have died unnoticed.
    pub(super) exchanges: Broker,
    pub(super) partition: Partition,
    pub(super) slots: Arc<Semaphore>,
    pub(super) looks: mpsc::Sender<Look>,
}

impl Listener {
    pub(super) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.listen()).await;
    }

    async fn listen(&self) {
        let (queues, mut failures) = ([queue()], 0);
        // The consumer exchanges before the first wait: there may be deliveries without a token.
        while self.request_look().await.is_some() {
            // A delivery that ends makes the consumer claim the next one; only an idle deliverer may take a token.
            let Ok(idle) = self.slots.acquire().await else { return };
            drop(idle);
            match self.broker.wait_for_work(self.partition, &queues).await {
                Ok(_) => failures = 0,
                Err(error) => {
                    failures += 1;
                    tracing::debug!(%error, "cannot wait for deliveries, retrying");
                    self.exchanges.reset_connection();
                    tokio::time::sleep(Backoff::FOR_CONNECTIONS.draw(failures)).await;
                }
            }
        }
    }

    async fn request_look(&self) -> Option<()> {
        let (look, looked) = oneshot::channel();
        self.looks.send(look).await.ok()?;
        let _answered_by_dropping = looked.await;
        Some(())
    }
}
