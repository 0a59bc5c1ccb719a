//! Finds jobs whose worker sends no heartbeats, and queues them again. It never decides *whether* a worker is dead:
//! expired leases do.

use std::time::Duration;

use crunch_common::broker::{Broker, Error, Looks};

pub(crate) struct Sweeper {
    pub(crate) broker: Broker,
    pub(crate) looks: Looks,
}

impl Sweeper {
    /// One second limits recovery to lease + 1 s.
    pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

    pub(crate) async fn tick(&mut self) -> Result<(), Error> {
        let mut outcome = Ok(());
        let all: Vec<_> = self.broker.partitions().collect();
        let (due, _away) = self.broker.to_sweep(&all, &mut self.looks).await?;
        for partition in due {
            let swept = self.broker.sweep(partition, self.looks.quiet_at(partition)).await;
            outcome = swept.map(drop).and(outcome);
        }
        outcome
    }
}
