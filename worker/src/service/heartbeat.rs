//! Keeps leases alive while handlers work.
//!
//! Runs on an OS thread of its own with its own runtime and connection: a handler that hogs the CPU or blocks the async
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

/// A worker is forgotten 30 s after its last beat, whatever its lease.
const LONGEST_INTERVAL: Duration = Duration::from_millis(7500);
/// Many tasks may be suspended for one reason: one beat shows them all.
const AFTER_SUSPENSION: Duration = Duration::from_millis(50);
/// A beat that takes longer is one that hangs: no call does.
const ANSWERS_WITHIN: Duration = Duration::from_millis(2500);

pub(crate) struct Heartbeat {
    pub(crate) broker: Broker,
    pub(crate) worker: WorkerId,
    pub(crate) info: WorkerInfo,
    pub(crate) lease: Duration,
    pub(crate) running: Arc<RunningJobs>,
    /// Go into `info` with each beat.
    pub(crate) suspensions: Arc<Suspensions>,
    /// Rung when Redis lost its memory.
    pub(crate) forgotten: Arc<Notify>,
    pub(crate) pulse: Pulse,
}

impl Heartbeat {
    /// How long after Redis is back a beat may come. After an outage that was too short for sweeps to give grace, a lease
    /// has little more than a third of itself left.
    pub(crate) fn longest_pause(lease: Duration) -> Duration {
        lease / 8
    }

    /// Starts the thread; it ends when `shutdown` fires.
    pub(crate) fn spawn(self, shutdown: CancellationToken) -> std::io::Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("crunch-heartbeat".to_owned()).spawn(move || {
            runtime.block_on(async { shutdown.run_until_cancelled(self.beat_for_ever()).await });
        })
    }

    async fn beat_for_ever(&self) {
        let mut redis = Reachability::of("heartbeat").felt_in(&self.pulse);
        // A quarter of the lease: three beats may get lost before it ends. And often enough to stay known.
        let interval = (self.lease / 4).min(LONGEST_INTERVAL);
        let suspended = self.suspensions.changed();
        loop {
            let _next_beat = self.pulse.expects(interval + ANSWERS_WITHIN);
            let pause = match self.tick().await {
                Ok(()) => {
                    redis.back();
                    interval
                }
                // After an outage the next beat comes as soon as Redis answers: leases may be about to end.
                Err(error) => redis.failed(&error).min(Self::longest_pause(self.lease)),
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // Known at once: it may be over before the next beat.
                () = suspended.notified() => tokio::time::sleep(AFTER_SUSPENSION).await,
            }
        }
    }

    /// Beats once in every partition. One that fails does not keep the beat from the others.
    pub(crate) async fn tick(&self) -> Result<(), Error> {
        let mut leases: HashMap<Partition, Vec<LeaseKey>> = HashMap::new();
        for lease in self.running.leases() {
            leases.entry(lease.id.partition()).or_default().push(lease);
        }
        let info = WorkerInfo { suspended: self.suspensions.list(), ..self.info.clone() };
        let mut outcome = Ok(());
        for partition in self.broker.partitions() {
            let leases = leases.remove(&partition).unwrap_or_default();
            outcome = self.beat(partition, &info, &leases).await.and(outcome);
        }
        outcome
    }

    async fn beat(
        &self,
        partition: Partition,
        info: &WorkerInfo,
        leases: &[LeaseKey],
    ) -> Result<(), Error> {
        let beat = broker::Heartbeat {
            worker: self.worker,
            lease: self.lease,
            info,
            busy: self.running.count(),
            leases,
        };
        let beaten = self.broker.heartbeat(partition, &beat).await?;
        leases.iter().zip(beaten.verdicts).for_each(|(&lease, verdict)| self.heed(lease, verdict));
        if beaten.forgotten {
            self.forgotten.notify_one();
        }
        if beaten.sweep_on {
            self.broker.sweep(partition).await?;
        }
        Ok(())
    }

    fn heed(&self, lease: LeaseKey, verdict: Verdict) {
        match verdict {
            Verdict::Held => {}
            Verdict::Cancel => self.running.stop(lease, StopReason::Canceled),
            Verdict::Lost => self.running.stop(lease, StopReason::LeaseLost),
        }
    }
}
