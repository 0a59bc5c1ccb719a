//! Has Redis take back what dead workers held.

use crunch_common::broker::{Broker, WorkerId};
use tokio::sync::mpsc;

use crate::service::Reachability;

pub(super) struct Undertaker {
    pub(super) broker: Broker,
    /// Whoever died, in that order.
    pub(super) graves: mpsc::Receiver<WorkerId>,
}

impl Undertaker {
    /// Buries one after the other until nobody can die any more.
    pub(super) async fn run(mut self) {
        while let Some(dead) = self.graves.recv().await {
            self.bury(dead).await;
        }
    }

    /// Asks until Redis has answered: an outage at that moment costs time, and nothing else.
    async fn bury(&self, dead: WorkerId) {
        // A connection for this alone: one that was kept for days may be broken without anybody knowing.
        let broker = self.broker.separate();
        let mut redis = Reachability::of("supervisor");
        loop {
            match broker.bury(dead).await {
                Ok(buried) => {
                    redis.back();
                    tracing::info!(worker.id = %dead, jobs.requeued = buried.requeued, jobs.failed = buried.failed, "took back what it held");
                    return;
                }
                Err(error) => tokio::time::sleep(redis.failed(&error)).await,
            }
        }
    }
}
