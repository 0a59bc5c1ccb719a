//! Extends leases while attempts run, and keeps the worker registered.
//!
//! Has its own connection, and in a worker its own thread: a handler that hogs the CPU or blocks the async runtime
//! cannot make its worker look dead.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crunch_common::broker::{
    self, Beaten, Broker, ByNode, Error, LeaseKey, Looks, Verdict, WorkerId, WorkerInfo,
    WorkerState,
};
use crunch_common::job::Partition;
use futures_util::stream::{self, StreamExt};
use tokio_util::sync::CancellationToken;

use crate::declared::Declared;
use crate::share::Fleet;
use crate::{Leases, Monitor, Pulse, Reachability, Settings, Slots, Tallies};

/// A quarter of the 30 s after which Redis forgets a worker that sends no heartbeat, whatever its lease.
const LONGEST_INTERVAL: Duration = Duration::from_millis(7500);
/// How long a worker may be without a heartbeat in a partition in which it lately claimed, or may have, holds no lease
/// and nothing is due, as a share of its lease: a hand-over that fails counts as one only if its worker has sent a
/// heartbeat within a lease.
const QUIET_SHARE: f64 = 0.75;
/// And at most so long: half of the time after which Redis forgets the worker there.
const LONGEST_QUIET: Duration = Duration::from_secs(15);
/// A lease that was granted in an answer that is lost has been taken back by then: leases, each a lease apart.
const USED_FOR_LEASES: u32 = 3;
/// How long a worker may be without a heartbeat in other partitions, which then forget it: as the announcer repeats what
/// they must know of its tasks.
const LONGEST_UNUSED: Duration = Duration::from_secs(60);
/// Redis remembers a worker for 30 s. If it has not for this long, it may have lost its data.
const REMEMBERED: Duration = Duration::from_secs(25);
/// How long a worker of a large fleet does not look whether a sweep is due: the fleet may have become small.
const LONGEST_WITHOUT_LOOK: Duration = Duration::from_secs(30);
/// The pause between a change, such as the suspension of a task, and the heartbeat that reports it: many tasks may be
/// suspended for one reason, and one heartbeat then shows them all.
const AFTER_CHANGE: Duration = Duration::from_millis(50);
/// A sweep is continued by the next one, of any process.
const LONGEST_SWEEP: Duration = Duration::from_secs(1);
/// The end of a worker waits no longer for its last counts.
const LAST_COUNTS: Duration = Duration::from_secs(1);
/// A heartbeat that is not answered within this time hangs: no call takes that long.
const ANSWERS_WITHIN: Duration = Duration::from_millis(2500);

/// How many heartbeats are sent at once: on a long line one after the other would take longer than a lease.
const AT_ONCE: usize = 16;

pub(crate) struct Heartbeat<M> {
    broker: Broker,
    worker: WorkerId,
    info: WorkerInfo,
    lease: Duration,
    leases: Arc<Leases>,
    tallies: Arc<Tallies>,
    slots: Arc<Slots>,
    declared: Arc<Declared>,
    fleet: Arc<Fleet>,
    monitor: Arc<M>,
    /// Whether it drains.
    drains: bool,
    /// What the worker does otherwise, and whether the next heartbeat must show that this has changed.
    state: WorkerState,
    state_changed: bool,
    /// How many pools the last heartbeat described.
    described: usize,
    /// The partitions that know the worker, and when each last answered.
    known: HashMap<Partition, Instant>,
    looks: Looks,
    looked_at_all: Instant,
    /// Whether the next heartbeat is for all partitions, because they must learn something.
    for_all: bool,
    /// The partitions that did not answer the last one.
    failed: HashSet<Partition>,
    pulse: Pulse,
}

impl<M: Monitor> Heartbeat<M> {
    pub(crate) fn new(
        settings: &Settings,
        monitor: &Arc<M>,
        slots: &Arc<Slots>,
        declared: &Arc<Declared>,
        fleet: &Arc<Fleet>,
    ) -> Self {
        let pause = longest_pause(settings.lease);
        Self {
            broker: settings.broker.with_own_connection_retrying_every(pause),
            worker: settings.worker,
            info: settings.info.clone(),
            lease: settings.lease,
            leases: settings.leases.clone(),
            tallies: settings.tallies.clone(),
            slots: slots.clone(),
            declared: declared.clone(),
            fleet: fleet.clone(),
            monitor: monitor.clone(),
            drains: false,
            state: WorkerState::Running,
            state_changed: false,
            described: 0,
            known: HashMap::new(),
            looks: Looks::default(),
            looked_at_all: Instant::now(),
            for_all: false,
            failed: HashSet::new(),
            pulse: settings.pulses.add("heartbeat"),
        }
    }

    pub(crate) async fn run(mut self, draining: CancellationToken, done: CancellationToken) {
        done.run_until_cancelled(self.send_forever(&draining)).await;
        self.send_last_counts().await;
    }

    /// Sends what was counted since the last heartbeat, once: otherwise the history would lack what a worker did that
    /// ends soon.
    async fn send_last_counts(&self) {
        let info = self.describe();
        // Those of a heartbeat that was interrupted come first.
        let send_all = async {
            while self.tallies.to_send().is_some() {
                self.send(Partition::default(), &info, &[]).await?;
            }
            Ok::<_, Error>(())
        };
        if !matches!(tokio::time::timeout(LAST_COUNTS, send_all).await, Ok(Ok(()))) {
            tracing::debug!("the history lacks the last attempts of this worker");
        }
    }

    async fn send_forever(&mut self, draining: &CancellationToken) {
        let mut reachability = Reachability::of("heartbeat").reporting_to(&self.pulse);
        // A quarter of the lease: three heartbeats may get lost before it expires. And often enough to stay registered.
        let interval = (self.lease / 4).min(LONGEST_INTERVAL);
        loop {
            let _next_heartbeat = self.pulse.expects(interval + ANSWERS_WITHIN);
            let pause = match self.send_to_all(interval).await {
                Ok(()) => {
                    reachability.succeeded();
                    interval
                }
                Err(error) => reachability.failed(&error),
            };
            // After an outage the next heartbeat is sent as soon as Redis answers: leases may be about to expire.
            let pause =
                if self.failed.is_empty() { pause } else { pause.min(longest_pause(self.lease)) };
            let changed = std::mem::take(&mut self.state_changed);
            let pause = if changed { AFTER_CHANGE } else { pause };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // The first partition has what operators request and see; it gets every heartbeat.
                () = self.monitor.requested() => {}
                () = draining.cancelled(), if !self.drains => self.drains = true,
                () = self.declared.added.notified() => self.for_all = true,
                // Not only with the next regular heartbeat: a suspension may be over before it.
                () = self.monitor.changed() => {
                    tokio::time::sleep(AFTER_CHANGE).await;
                    self.for_all = true;
                }
            }
        }
    }

    /// Sends a heartbeat to every partition but the quiet ones, also after a failure in one of them. Fails if all do.
    async fn send_to_all(&mut self, interval: Duration) -> Result<(), Error> {
        let pools = self.declared.count();
        let info = self.describe();
        let (mut unfinished, mut outcome) = (Vec::new(), Ok(()));
        let (mut due, is_answered) = self.due(interval).await;
        // The partitions that get one may all be of a node that is away.
        let mut reached = is_answered && self.broker.is_cluster();
        self.failed.clear();
        self.leave_out_away(&mut due);
        let sent: Vec<_> = {
            let (this, info) = (&*self, &info);
            let send = |(partition, leases): (_, Vec<_>)| async move {
                let send = this.send(partition, info, &leases);
                // Leases at other nodes do not wait for one that is away.
                let sent = match this.broker.is_away(partition) {
                    true => tokio::time::timeout(longest_pause(this.lease), send).await,
                    false => Ok(send.await),
                };
                let timed_out = || Error::Unavailable { reason: "no answer in time".to_owned() };
                (partition, sent.unwrap_or_else(|_| Err(timed_out())))
            };
            stream::iter(due).map(send).buffer_unordered(AT_ONCE).collect().await
        };
        for (partition, sent) in sent {
            match sent {
                Ok(reply) => {
                    reached = true;
                    unfinished.extend(reply.sweep_on.then_some(partition));
                    self.record(partition, reply.forgotten);
                    self.change_state(reply.wanted);
                }
                Err(error) => {
                    tracing::debug!(%error, %partition, "a heartbeat failed, trying again");
                    self.failed.insert(partition);
                    outcome = Err(error);
                }
            }
        }
        self.for_all = false;
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
        if reached { Ok(()) } else { outcome }
    }

    /// Of the partitions of a node that is away, leaves the first one: if it is answered, the others are next. Those of
    /// other nodes come first.
    fn leave_out_away(&mut self, due: &mut Vec<(Partition, Vec<LeaseKey>)>) {
        let mut away = ByNode::<Partition>::default();
        due.retain(|&(partition, _)| {
            let is_left = !self.broker.is_away(partition)
                || *away.get_or_make(self.broker.node(partition), || partition) == partition;
            if !is_left {
                self.failed.insert(partition);
            }
            is_left
        });
        due.sort_by_key(|&(partition, _)| self.broker.is_away(partition));
    }

    fn describe(&self) -> WorkerInfo {
        let mut info = WorkerInfo {
            suspended: self.monitor.suspended(),
            servers: self.monitor.servers(),
            slots: self.slots.total(),
            state: if self.drains { WorkerState::Stopping } else { self.state },
            ..self.info.clone()
        };
        self.declared.describe(&mut info);
        info
    }

    async fn sweep(&self, partitions: &[Partition]) -> Result<(), Error> {
        for &partition in partitions {
            self.broker.sweep(partition, self.looks.quiet_at(partition)).await?;
        }
        Ok(())
    }

    /// Returns the partitions that get a heartbeat now, with the leases held there, and whether a look at some was
    /// answered. The first one always gets one, so that the worker soon learns that Redis does not know it any more;
    /// others where it holds leases or lately claimed, or where a sweep is due, since there may be no API that sweeps.
    async fn due(&mut self, interval: Duration) -> (Vec<(Partition, Vec<LeaseKey>)>, bool) {
        let all: Vec<_> = self.broker.partitions().collect();
        let mut due: BTreeSet<_> =
            all.iter().copied().filter(|&it| self.is_due(it, interval)).collect();
        let looks_at_all = self.looks_at_all();
        // A heartbeat sweeps if that is due, and a sweep must know how lately nothing was due.
        let looked_at = if looks_at_all { all.clone() } else { due.iter().copied().collect() };
        let looked = match all.len() {
            1 => Ok((Vec::new(), Vec::new())),
            _ => self.broker.to_sweep(&looked_at, &mut self.looks).await,
        };
        let mut is_answered = false;
        match looked {
            Ok((to_sweep, away)) => {
                is_answered = away.len() < looked_at.len();
                due.extend(to_sweep.into_iter().chain(away));
            }
            // So that an outage shows as failed heartbeats.
            Err(_) if looks_at_all => due.extend(all),
            Err(_) => {}
        }
        let mut due: Vec<_> = due.into_iter().map(|it| (it, self.leases.of(it))).collect();
        // On a slow line leases do not wait for the rest.
        due.sort_by_key(|(_, leases)| leases.is_empty());
        (due, is_answered)
    }

    /// Whether a partition gets a heartbeat even if no sweep is due there.
    fn is_due(&self, partition: Partition, interval: Duration) -> bool {
        let is_used = self.leases.were_claimed(partition, self.lease * USED_FOR_LEASES);
        let longest = match is_used {
            true => self.lease.mul_f64(QUIET_SHARE).min(LONGEST_QUIET),
            // Workers that started together do not send them together.
            false => LONGEST_UNUSED.mul_f64(rand::random_range(0.5..1.0)),
        };
        // With the heartbeat that is nearest to the end of that time.
        let rest = longest.saturating_sub(interval / 2);
        self.for_all
            || partition == Partition::default()
            || self.failed.contains(&partition)
            || !self.leases.of(partition).is_empty()
            || self.known.get(&partition).is_none_or(|answered| answered.elapsed() >= rest)
    }

    /// Whether it looks in all partitions whether a sweep is due. In a large fleet enough others do.
    fn looks_at_all(&mut self) -> bool {
        let is_turn = self.fleet.is_my_turn()
            || self.looked_at_all.elapsed() >= LONGEST_WITHOUT_LOOK
            // The only one that always gets a heartbeat says nothing about other nodes.
            || self.broker.is_away(Partition::default());
        if is_turn {
            self.looked_at_all = Instant::now();
        }
        is_turn
    }

    /// Sends a heartbeat, and applies the verdicts.
    async fn send(
        &self,
        partition: Partition,
        info: &WorkerInfo,
        leases: &[LeaseKey],
    ) -> Result<Beaten, Error> {
        let is_first = partition == Partition::default();
        let counts = is_first.then(|| self.tallies.to_send()).flatten();
        let heartbeat = broker::Heartbeat {
            worker: self.worker,
            lease: self.lease,
            info,
            busy: self.monitor.busy(),
            leases,
            quiet_at: self.looks.quiet_at(partition),
            counts: counts.as_deref(),
        };
        let reply = self.broker.heartbeat(partition, &heartbeat).await?;
        if counts.is_some() {
            self.tallies.confirmed();
        }
        leases
            .iter()
            .zip(&reply.verdicts)
            .for_each(|(&lease, &verdict)| self.apply(lease, verdict));
        Ok(reply)
    }

    /// Records that a partition has answered. Its first heartbeat makes the worker known there, until it is unused.
    fn record(&mut self, partition: Partition, forgotten: bool) {
        let known = self.known.insert(partition, Instant::now());
        if forgotten && known.is_some_and(|answered| answered.elapsed() <= REMEMBERED) {
            tracing::warn!(
                "Redis does not know this worker any more and may have lost its data, declaring tasks and queues again"
            );
            self.declared.forgotten();
        }
    }

    /// Does what an operator requested, if that is new.
    fn change_state(&mut self, wanted: Option<WorkerState>) {
        let Some(wanted) = wanted.filter(|&wanted| wanted != self.state) else { return };
        tracing::info!(state = wanted.as_str(), "an operator changes what this worker does");
        self.slots.set_quiet(wanted != WorkerState::Running);
        self.monitor.wanted(wanted);
        (self.state, self.state_changed) = (wanted, true);
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
