//! Finds jobs whose worker sends no heartbeats, and queues them again. It never decides *whether* a worker is dead:
//! expired leases do.

use std::time::Duration;

use crunch_common::broker::{Broker, Error, Swept};

use crate::metrics;

pub(crate) struct Sweeper {
    pub(crate) broker: Broker,
}

impl Sweeper {
    /// One second limits recovery to lease + 1 s, and costs one call per partition and second.
    pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

    pub(crate) async fn tick(&self) -> Result<(), Error> {
        for partition in self.broker.partitions() {
            let swept = self.broker.sweep(partition).await?;
            if swept.requeued + swept.failed > 0 {
                let Swept { requeued, failed, .. } = swept;
                metrics::leases_lost(requeued + failed);
                metrics::finished("", "", "failed", failed);
                tracing::warn!(%partition, requeued, failed, "reclaimed jobs from silent workers");
            }
        }
        Ok(())
    }
}
