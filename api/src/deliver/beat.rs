//! Holds the leases of deliveries under way, and shows in `GET /workers` that somebody delivers.

use std::sync::Arc;
use std::time::Duration;

use crunch_common::broker::{Broker, Error, Heartbeat, Verdict, WorkerId, WorkerInfo};
use crunch_common::job::Partition;
use crunch_common::task::TaskName;
use crunch_common::time::Timestamp;

use super::held::Held;
use super::{LEASE, queue};

pub(super) struct Beat {
    /// With a connection of its own.
    broker: Broker,
    worker: WorkerId,
    info: WorkerInfo,
    held: Arc<Held>,
}

impl Beat {
    /// Three beats may get lost before a lease ends.
    const INTERVAL: Duration = Duration::from_millis(2500);
    /// While Redis is away: a lease may be about to end.
    const PAUSE: Duration = Duration::from_secs(1);

    pub(super) fn new(broker: &Broker, worker: WorkerId, held: Arc<Held>, slots: usize) -> Self {
        let info = WorkerInfo {
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            tasks: vec![TaskName::webhooks()],
            queues: vec![queue()],
            slots,
            started_at: Timestamp::now(),
            suspended: Vec::new(),
        };
        Self { broker: broker.with_own_connection_retrying_every(Self::PAUSE), worker, info, held }
    }

    /// Never ends by itself.
    pub(super) async fn run(self) {
        loop {
            let pause = match self.tick().await {
                Ok(()) => Self::INTERVAL,
                Err(error) => {
                    tracing::debug!(%error, "a beat of the deliverer got lost");
                    Self::PAUSE
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn tick(&self) -> Result<(), Error> {
        let mut outcome = Ok(());
        for partition in self.broker.partitions() {
            outcome = self.beat(partition).await.and(outcome);
        }
        outcome
    }

    async fn beat(&self, partition: Partition) -> Result<(), Error> {
        let leases = self.held.of(partition);
        let beat = Heartbeat {
            worker: self.worker,
            lease: LEASE,
            info: &self.info,
            busy: self.held.count(),
            leases: &leases,
        };
        let beaten = self.broker.heartbeat(partition, &beat).await?;
        for (lease, verdict) in leases.iter().zip(beaten.verdicts) {
            // An attempt is short: it runs to its end, which is then settled as the wish to cancel says, or refused.
            if verdict == Verdict::Lost {
                tracing::debug!(job.id = %lease.id, "the lease of a delivery is lost");
            }
        }
        if beaten.forgotten {
            self.broker.announce(&[queue()], &[]).await?;
        }
        Ok(())
    }
}
