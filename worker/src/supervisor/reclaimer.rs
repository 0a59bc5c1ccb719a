//! Has Redis take back what dead workers held.

use crunch_common::broker::{Broker, WorkerId};
use tokio::sync::mpsc;

use crate::service::Reachability;

pub(super) struct Reclaimer {
    pub(super) broker: Broker,
    /// Whoever died, in that order.
    pub(super) deaths: mpsc::Receiver<WorkerId>,
}

impl Reclaimer {
    /// Buries one after the other until nobody can die any more.
    pub(super) async fn run(mut self) {
        while let Some(dead) = self.deaths.recv().await {
            self.reclaim(dead).await;
        }
    }

    /// Asks until Redis has answered: an outage at that moment costs time, and nothing else.
    async fn reclaim(&self, dead: WorkerId) {
        // A connection for this alone: one that was kept for days may be broken without anybody knowing.
        let broker = self.broker.with_own_connection();
        let mut redis = Reachability::of("supervisor");
        loop {
            match broker.reclaim(dead).await {
                Ok(reclaimed) => {
                    redis.back();
                    tracing::info!(worker.id = %dead, jobs.requeued = reclaimed.requeued, jobs.failed = reclaimed.failed, "took back what it held");
                    return;
                }
                Err(error) => tokio::time::sleep(redis.failed(&error)).await,
            }
        }
    }
}
