//! Extends leases while handlers work.
//!
//! Runs on a separate OS thread with its own runtime and connection: a handler that hogs the CPU or blocks the async
//! runtime cannot make its worker look dead.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crunch_common::broker::{self, Broker, Error, LeaseKey, Verdict, WorkerId, WorkerInfo};
use crunch_common::job::Partition;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Reachability;
use crate::health::Pulse;
use crate::running::{RunningJobs, StopReason};
use crate::suspension::Suspensions;

/// Redis forgets a worker 30 s after its last heartbeat, whatever its lease.
const LONGEST_INTERVAL: Duration = Duration::from_millis(7500);
/// Many tasks may be suspended for one reason: one heartbeat shows them all.
const AFTER_SUSPENSION: Duration = Duration::from_millis(50);
/// A heartbeat that takes longer hangs: no call takes that long.
const ANSWERS_WITHIN: Duration = Duration::from_millis(2500);

pub(crate) struct Heartbeat {
    pub(crate) broker: Broker,
    pub(crate) worker: WorkerId,
    pub(crate) info: WorkerInfo,
    pub(crate) lease: Duration,
    pub(crate) running: Arc<RunningJobs>,
    /// Added to `info` with each heartbeat.
    pub(crate) suspensions: Arc<Suspensions>,
    /// Notified when Redis lost its data.
    pub(crate) data_lost: Arc<Notify>,
    pub(crate) pulse: Pulse,
}

impl Heartbeat {
    /// How long after Redis is reachable again a heartbeat may come. After an outage that was too short for sweeps to
    /// give grace, a lease has little more than a third of its time left.
    pub(crate) fn longest_pause(lease: Duration) -> Duration {
        lease / 8
    }

    /// Starts the thread; it ends when `shutdown` fires.
    pub(crate) fn spawn(self, shutdown: CancellationToken) -> std::io::Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("crunch-heartbeat".to_owned()).spawn(move || {
            runtime.block_on(async { shutdown.run_until_cancelled(self.send_for_ever()).await });
        })
    }

    async fn send_for_ever(&self) {
        let mut redis = Reachability::of("heartbeat").reporting_to(&self.pulse);
        // A quarter of the lease: three heartbeats may get lost before it expires. And often enough to stay known.
        let interval = (self.lease / 4).min(LONGEST_INTERVAL);
        let suspended = self.suspensions.changed();
        loop {
            let _next_heartbeat = self.pulse.expects(interval + ANSWERS_WITHIN);
            let pause = match self.tick().await {
                Ok(()) => {
                    redis.succeeded();
                    interval
                }
                // After an outage the next heartbeat is sent as soon as Redis answers: leases may be about to expire.
                Err(error) => redis.failed(&error).min(Self::longest_pause(self.lease)),
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // Sent immediately: the suspension may be over before the next heartbeat.
                () = suspended.notified() => tokio::time::sleep(AFTER_SUSPENSION).await,
            }
        }
    }

    /// Sends a heartbeat to every partition. A failure in one does not keep it from the others.
    pub(crate) async fn tick(&self) -> Result<(), Error> {
        let mut leases: HashMap<Partition, Vec<LeaseKey>> = HashMap::new();
        for lease in self.running.leases() {
            leases.entry(lease.id.partition()).or_default().push(lease);
        }
        let info = WorkerInfo { suspended: self.suspensions.list(), ..self.info.clone() };
        let mut outcome = Ok(());
        for partition in self.broker.partitions() {
            let leases = leases.remove(&partition).unwrap_or_default();
            outcome = self.send(partition, &info, &leases).await.and(outcome);
        }
        outcome
    }

    async fn send(
        &self,
        partition: Partition,
        info: &WorkerInfo,
        leases: &[LeaseKey],
    ) -> Result<(), Error> {
        let heartbeat = broker::Heartbeat {
            worker: self.worker,
            lease: self.lease,
            info,
            busy: self.running.count(),
            leases,
        };
        let reply = self.broker.heartbeat(partition, &heartbeat).await?;
        leases.iter().zip(reply.verdicts).for_each(|(&lease, verdict)| self.apply(lease, verdict));
        if reply.forgotten {
            self.data_lost.notify_one();
        }
        if reply.sweep_on {
            self.broker.sweep(partition).await?;
        }
        Ok(())
    }

    fn apply(&self, lease: LeaseKey, verdict: Verdict) {
        match verdict {
            Verdict::Held => {}
            Verdict::Cancel => self.running.stop(lease, StopReason::Canceled),
            Verdict::Lost => self.running.stop(lease, StopReason::LeaseLost),
        }
    }
}
