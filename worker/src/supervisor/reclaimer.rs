//! Has Redis reclaim what dead workers held.

use crunch_common::broker::{Broker, WorkerId};
use crunch_consumer::Reachability;
use tokio::sync::mpsc;

pub(super) struct Reclaimer {
    pub(super) broker: Broker,
    /// The dead workers, in the order of their deaths.
    pub(super) deaths: mpsc::Receiver<WorkerId>,
}

impl Reclaimer {
    /// Reclaims one after the other until no worker can die any more.
    pub(super) async fn run(mut self) {
        while let Some(dead) = self.deaths.recv().await {
            self.reclaim(dead).await;
        }
    }

    /// Retries until Redis has answered: an outage at that time only costs time.
    async fn reclaim(&self, dead: WorkerId) {
        // A separate connection: one that was kept for days may be broken unnoticed.
        let broker = self.broker.with_own_connection();
        let mut reachability = Reachability::of("supervisor");
        loop {
            match broker.reclaim(dead).await {
                Ok(reclaimed) => {
                    reachability.succeeded();
                    tracing::info!(worker.id = %dead, jobs.requeued = reclaimed.requeued, jobs.failed = reclaimed.failed, "reclaimed the jobs of a dead worker");
                    return;
                }
                Err(error) => tokio::time::sleep(reachability.failed(&error)).await,
            }
        }
    }
}
