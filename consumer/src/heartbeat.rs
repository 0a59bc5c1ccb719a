//! Extends leases while attempts run, and keeps the worker registered.
//!
//! Has its own connection, and in a worker its own thread: a handler that hogs the CPU or blocks the async runtime
//! cannot make its worker look dead.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crunch_common::broker::{self, Broker, Error, LeaseKey, Verdict, WorkerId, WorkerInfo};
use crunch_common::job::Partition;
use tokio_util::sync::CancellationToken;

use crate::declared::Declared;
use crate::{Leases, Monitor, Pulse, Reachability, Settings, Slots};

/// A quarter of the 30 s after which Redis forgets a worker that sends no heartbeat, whatever its lease.
const LONGEST_INTERVAL: Duration = Duration::from_millis(7500);
/// The pause between a change, such as the suspension of a task, and the heartbeat that reports it: many tasks may be
/// suspended for one reason, and one heartbeat then shows them all.
const AFTER_CHANGE: Duration = Duration::from_millis(50);
/// A sweep is continued by the next one, of any process.
const LONGEST_SWEEP: Duration = Duration::from_secs(1);
/// A heartbeat that is not answered within this time hangs: no call takes that long.
const ANSWERS_WITHIN: Duration = Duration::from_millis(2500);

pub(crate) struct Heartbeat<M> {
    broker: Broker,
    worker: WorkerId,
    info: WorkerInfo,
    lease: Duration,
    leases: Arc<Leases>,
    slots: Arc<Slots>,
    declared: Arc<Declared>,
    monitor: Arc<M>,
    /// How many pools the last heartbeat described.
    described: usize,
    /// The partitions that know the worker.
    known: HashSet<Partition>,
    pulse: Pulse,
}

impl<M: Monitor> Heartbeat<M> {
    pub(crate) fn new(
        settings: &Settings,
        monitor: &Arc<M>,
        slots: &Arc<Slots>,
        declared: &Arc<Declared>,
    ) -> Self {
        let pause = longest_pause(settings.lease);
        Self {
            broker: settings.broker.with_own_connection_retrying_every(pause),
            worker: settings.worker,
            info: settings.info.clone(),
            lease: settings.lease,
            leases: settings.leases.clone(),
            slots: slots.clone(),
            declared: declared.clone(),
            monitor: monitor.clone(),
            described: 0,
            known: HashSet::new(),
            pulse: settings.pulses.add("heartbeat"),
        }
    }

    pub(crate) async fn run(mut self, done: CancellationToken) {
        done.run_until_cancelled(self.send_forever()).await;
    }

    async fn send_forever(&mut self) {
        let mut reachability = Reachability::of("heartbeat").reporting_to(&self.pulse);
        // A quarter of the lease: three heartbeats may get lost before it expires. And often enough to stay registered.
        let interval = (self.lease / 4).min(LONGEST_INTERVAL);
        loop {
            let _next_heartbeat = self.pulse.expects(interval + ANSWERS_WITHIN);
            let pause = match self.send_to_all().await {
                Ok(()) => {
                    reachability.succeeded();
                    interval
                }
                // After an outage the next heartbeat is sent as soon as Redis answers: leases may be about to expire.
                Err(error) => reachability.failed(&error).min(longest_pause(self.lease)),
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.declared.added.notified() => {}
                // Not only with the next regular heartbeat: a suspension may be over before it.
                () = self.monitor.changed() => tokio::time::sleep(AFTER_CHANGE).await,
            }
        }
    }

    /// Sends a heartbeat to every partition, also after a failure in one of them.
    async fn send_to_all(&mut self) -> Result<(), Error> {
        let pools = self.declared.count();
        let info = self.describe();
        let (mut unfinished, mut outcome) = (Vec::new(), Ok(()));
        for partition in self.broker.partitions() {
            let sent = self.send(partition, &info).await;
            unfinished.extend(sent.as_ref().is_ok_and(|&sweep_on| sweep_on).then_some(partition));
            outcome = sent.map(drop).and(outcome);
        }
        // Even if it failed: the announcer retries by itself.
        if pools > self.described {
            self.described = pools;
            self.declared.outdated.notify_one();
        }
        // No heartbeat waits for a sweep.
        let swept = tokio::time::timeout(LONGEST_SWEEP, self.sweep(&unfinished)).await;
        if let Ok(Err(error)) = swept {
            tracing::debug!(%error, "cannot finish a sweep, the next one continues it");
        }
        outcome
    }

    fn describe(&self) -> WorkerInfo {
        let mut info = WorkerInfo {
            suspended: self.monitor.suspended(),
            servers: self.monitor.servers(),
            slots: self.slots.total(),
            ..self.info.clone()
        };
        self.declared.describe(&mut info);
        info
    }

    async fn sweep(&self, partitions: &[Partition]) -> Result<(), Error> {
        for &partition in partitions {
            self.broker.sweep(partition).await?;
        }
        Ok(())
    }

    /// Sends a heartbeat; returns whether a sweep was due and is not finished.
    async fn send(&mut self, partition: Partition, info: &WorkerInfo) -> Result<bool, Error> {
        let leases = self.leases.of(partition);
        let heartbeat = broker::Heartbeat {
            worker: self.worker,
            lease: self.lease,
            info,
            busy: self.monitor.busy(),
            leases: &leases,
        };
        let reply = self.broker.heartbeat(partition, &heartbeat).await?;
        leases.iter().zip(reply.verdicts).for_each(|(&lease, verdict)| self.apply(lease, verdict));
        // Its first heartbeat makes it known.
        let first = self.known.insert(partition);
        if reply.forgotten && !first {
            tracing::warn!(
                "Redis does not know this worker any more and may have lost its data, declaring tasks and queues again"
            );
            self.declared.outdated.notify_one();
        }
        Ok(reply.sweep_on)
    }

    fn apply(&self, lease: LeaseKey, verdict: Verdict) {
        match verdict {
            Verdict::Held => {}
            Verdict::Cancel | Verdict::Lost => self.monitor.stop(lease, verdict),
        }
    }
}

/// The longest pause between two tries to reach Redis, and so between the end of an outage and the next heartbeat.
/// After an outage that was too short for sweeps to extend all leases by a grace period, a lease has little more than a
/// third of its time left.
fn longest_pause(lease: Duration) -> Duration {
    lease / 8
}
