//! Extends leases while attempts run, and keeps the worker registered.
//!
//! Has its own connection, and in a worker its own thread: a handler that hogs the CPU or blocks the async runtime
//! cannot make its worker look dead.

use std::sync::Arc;
use std::time::Duration;

use crunch_common::broker::{self, Broker, Error, LeaseKey, Verdict, WorkerId, WorkerInfo};
use crunch_common::job::Partition;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{Leases, Pulse, Reachability, Runner, Settings};

/// A quarter of the 30 s after which Redis forgets a worker that sends no heartbeat, whatever its lease.
const LONGEST_INTERVAL: Duration = Duration::from_millis(7500);
/// The pause between the suspension of a task and the heartbeat that reports it: many tasks may be suspended for one
/// reason, and one heartbeat then shows them all.
const AFTER_SUSPENSION: Duration = Duration::from_millis(50);
/// A heartbeat that is not answered within this time hangs: no call takes that long.
const ANSWERS_WITHIN: Duration = Duration::from_millis(2500);

pub(crate) struct Heartbeat<R> {
    broker: Broker,
    worker: WorkerId,
    info: WorkerInfo,
    lease: Duration,
    leases: Arc<Leases>,
    runner: Arc<R>,
    /// Notified when Redis lost its data.
    data_lost: Arc<Notify>,
    pulse: Pulse,
}

impl<R: Runner> Heartbeat<R> {
    pub(crate) fn new(settings: &Settings, runner: &Arc<R>, data_lost: &Arc<Notify>) -> Self {
        let pause = longest_pause(settings.lease);
        Self {
            broker: settings.broker.with_own_connection_retrying_every(pause),
            worker: settings.worker,
            info: settings.info.clone(),
            lease: settings.lease,
            leases: settings.leases.clone(),
            runner: runner.clone(),
            data_lost: data_lost.clone(),
            pulse: settings.pulses.add("heartbeat"),
        }
    }

    pub(crate) async fn run(self, done: CancellationToken) {
        done.run_until_cancelled(self.send_forever()).await;
    }

    async fn send_forever(&self) {
        let mut redis = Reachability::of("heartbeat").reporting_to(&self.pulse);
        // A quarter of the lease: three heartbeats may get lost before it expires. And often enough to stay registered.
        let interval = (self.lease / 4).min(LONGEST_INTERVAL);
        loop {
            let _next_heartbeat = self.pulse.expects(interval + ANSWERS_WITHIN);
            let pause = match self.send_to_all().await {
                Ok(()) => {
                    redis.succeeded();
                    interval
                }
                // After an outage the next heartbeat is sent as soon as Redis answers: leases may be about to expire.
                Err(error) => redis.failed(&error).min(longest_pause(self.lease)),
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // Not only with the next regular heartbeat: the suspension may be over before it.
                () = self.runner.suspends() => tokio::time::sleep(AFTER_SUSPENSION).await,
            }
        }
    }

    /// Sends a heartbeat to every partition, also after a failure in one of them.
    async fn send_to_all(&self) -> Result<(), Error> {
        let info = WorkerInfo { suspended: self.runner.suspended(), ..self.info.clone() };
        let mut outcome = Ok(());
        for partition in self.broker.partitions() {
            outcome = self.send(partition, &info).await.and(outcome);
        }
        outcome
    }

    /// Sends a heartbeat to one partition, and does what the reply asks for.
    async fn send(&self, partition: Partition, info: &WorkerInfo) -> Result<(), Error> {
        let leases = self.leases.of(partition);
        let heartbeat = broker::Heartbeat {
            worker: self.worker,
            lease: self.lease,
            info,
            busy: self.leases.count(),
            leases: &leases,
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
            Verdict::Cancel | Verdict::Lost => self.runner.stop(lease, verdict),
        }
    }
}

/// The longest pause between two tries to reach Redis, and so between the end of an outage and the next heartbeat.
/// After an outage that was too short for sweeps to extend all leases by a grace period, a lease has little more than a
/// third of its time left.
fn longest_pause(lease: Duration) -> Duration {
    lease / 8
}
