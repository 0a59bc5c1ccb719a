//! Sends heartbeats: they extend the leases of deliveries in flight, and list the deliverer in `GET /workers`.

use std::sync::Arc;
use std::time::Duration;

use crunch_common::broker::{Broker, Error, Heartbeat, Verdict, WorkerId, WorkerInfo};
use crunch_common::job::Partition;
use crunch_common::task::TaskName;
use crunch_common::time::Timestamp;

use super::held::Held;
use super::{LEASE, queue};

pub(super) struct Beat {
    /// With its own connection.
    broker: Broker,
    worker: WorkerId,
    info: WorkerInfo,
    leases: Arc<Held>,
}

impl Beat {
    /// Three heartbeats may get lost before a lease expires.
    const INTERVAL: Duration = Duration::from_millis(2500);
    /// The interval while Redis is unavailable: a lease may be about to expire.
    const PAUSE: Duration = Duration::from_secs(1);

    pub(super) fn new(broker: &Broker, worker: WorkerId, leases: Arc<Held>, slots: usize) -> Self {
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
        Self {
            broker: broker.with_own_connection_retrying_every(Self::PAUSE),
            worker,
            info,
            leases,
        }
    }

    /// Sends heartbeats until it is dropped.
    pub(super) async fn run(self) {
        loop {
            let pause = match self.tick().await {
                Ok(()) => Self::INTERVAL,
                Err(error) => {
                    tracing::debug!(%error, "cannot send a heartbeat of the deliverer, retrying");
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
        let leases = self.leases.of(partition);
        let beat = Heartbeat {
            worker: self.worker,
            lease: LEASE,
            info: &self.info,
            busy: self.leases.count(),
            leases: &leases,
        };
        let beaten = self.broker.heartbeat(partition, &beat).await?;
        for (lease, verdict) in leases.iter().zip(beaten.verdicts) {
            // An attempt is short: it runs to its end; settling it then cancels the delivery if that was requested, or
            // is rejected.
            if verdict == Verdict::Lost {
                tracing::debug!(job.id = %lease.id, "lost the lease of a delivery");
            }
        }
        if beaten.forgotten {
            self.broker.announce(&[queue()], &[]).await?;
        }
        Ok(())
    }
}
