//! The life cycle of a consumer: heartbeats and the announcer; then for each pool a listener, and in each partition two
//! processors, which share two connections.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crunch_common::broker::Sequence;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::announcer::Announcer;
use crate::connection::Connection;
use crate::declared::{Announced, Declared};
use crate::heartbeat::Heartbeat;
use crate::listener::{Listener, Visits};
use crate::processor::Processor;
use crate::share::{Fleet, Shares};
use crate::{Monitor, PoolSettings, PoolSlots, Runner, Settings, Slots};

/// How long the last settlements may take to reach Redis at the end: longer than any call's deadline.
const LAST_EXCHANGE: Duration = Duration::from_secs(3);

/// A running consumer. It ends with [`Consumer::drain`] and [`Consumer::leave`], or at once when it is dropped.
#[derive(Debug)]
pub struct Consumer {
    settings: Settings,
    slots: Arc<Slots>,
    declared: Arc<Declared>,
    fleet: Arc<Fleet>,
    /// The number of pools.
    pools: u8,
    /// Claim jobs and settle attempts.
    processors: JoinSet<()>,
    /// Support the processors; end last.
    helpers: JoinSet<()>,
    phases: Phases,
}

/// The phases of a shutdown, in their order.
#[derive(Debug, Default)]
struct Phases {
    /// No new jobs.
    draining: CancellationToken,
    /// No more attempts to settle.
    give_up: CancellationToken,
    /// No more heartbeats.
    done: CancellationToken,
}

impl Consumer {
    /// Starts to send heartbeats. Must be called on the runtime that attempts are to run on.
    ///
    /// # Errors
    /// If the system refuses another runtime.
    pub fn start<M: Monitor>(settings: Settings, monitor: &Arc<M>) -> io::Result<Self> {
        let partitions = settings.broker.partitions().count();
        let slots = Slots::new(settings.slots.clone(), partitions);
        let declared = Arc::<Declared>::default();
        let (mut helpers, phases) = (JoinSet::new(), Phases::default());
        let fleet = Arc::<Fleet>::default();
        let heartbeat = Heartbeat::new(&settings, monitor, &slots, &declared, &fleet);
        let heartbeat = heartbeat.run(phases.draining.clone(), phases.done.clone());
        let announcer = Announcer {
            broker: settings.broker.clone(),
            declared: declared.clone(),
            pulse: settings.pulses.add("announcer"),
        };
        helpers.spawn(announcer.run(phases.done.clone()));
        settings.threads.spawn("crunch-heartbeat", &mut helpers, vec![heartbeat])?;
        let processors = JoinSet::new();
        Ok(Self { settings, slots, declared, fleet, pools: 0, processors, helpers, phases })
    }

    /// Adds a pool, which starts to claim jobs; returns its slots. Must be called on the runtime that attempts are to
    /// run on.
    ///
    /// # Errors
    /// If the system refuses another runtime.
    pub fn add_pool<R: Runner>(
        &mut self,
        pool: &PoolSettings,
        runner: &Arc<R>,
    ) -> io::Result<PoolSlots> {
        let (slots, sequences) = (self.slots.add(pool.slots), Sequence::of_pool(self.pools));
        self.pools += 1;
        self.declared.add(pool);
        let connections =
            [(); 2].map(|()| Connection::new(self.settings.broker.with_own_connection()));
        let connections = connections.map(Arc::new);
        // One for all of its loops: together they claim work. While all slots are busy only the processors call Redis.
        let pulse = self.settings.pulses.add(pool.pulse());
        let mut requests = Vec::new();
        let mut processors = Vec::new();
        for partition in self.settings.broker.partitions() {
            let (sender, mut receiver) = mpsc::channel(1);
            requests.push((partition, sender));
            for (is_second, connection) in connections.iter().enumerate() {
                let processor = Processor {
                    connection: connection.clone(),
                    partition,
                    sequence: sequences[is_second],
                    is_second: is_second == 1,
                    worker: self.settings.worker,
                    lease: self.settings.lease,
                    queues: pool.queues.clone(),
                    slots: slots.clone(),
                    leases: self.settings.leases.clone(),
                    runner: runner.clone(),
                    pulse: pulse.clone(),
                };
                // The second one gets a channel that nobody sends to.
                let receiver = std::mem::replace(&mut receiver, mpsc::channel(1).1);
                let (draining, give_up) = (&self.phases.draining, &self.phases.give_up);
                let (draining, give_up) = (draining.clone(), give_up.clone());
                processors.push(processor.run(receiver, Handle::current(), draining, give_up));
            }
        }
        let looks = self.settings.broker.with_own_connection();
        let visits = Arc::new(Mutex::new(Visits::of(self.settings.broker.partitions())));
        let groups = self.settings.broker.groups();
        let queues = pool.queues.queues().to_vec();
        let (worker, fleet) = (self.settings.worker, self.fleet.clone());
        let shares = Shares::new(looks.clone(), fleet, worker, queues.clone());
        // The only listener never does both at once.
        let is_alone = groups.len() == 1;
        for group in groups {
            let own = if is_alone { looks.clone() } else { looks.with_own_connection() };
            let listener = Listener {
                broker: own,
                looks: looks.clone(),
                connections: connections.clone(),
                queues: queues.clone(),
                slots: slots.clone(),
                runner: runner.clone(),
                group,
                share: shares.watch(),
                requests: requests.clone(),
                visits: visits.clone(),
                pulse: pulse.clone(),
            };
            self.helpers.spawn(listener.run(self.phases.draining.clone()));
        }
        if self.settings.broker.partitions().count() > 1 {
            self.helpers.spawn(shares.run(self.phases.draining.clone()));
        }
        self.settings.threads.spawn("crunch-consumer", &mut self.processors, processors)?;
        Ok(slots)
    }

    /// Returns what was announced to Redis so far, and all that follows, until the consumer ends.
    #[must_use]
    pub fn announced(&self) -> watch::Receiver<Announced> {
        self.declared.announcements()
    }

    /// Claims no more jobs, takes no more tokens that could wake another consumer, and waits until all attempts are
    /// settled. When `grace` is over, `release` asks those that
    /// still run to stop; it returns when they have. Heartbeats continue, so that nothing else runs their jobs.
    pub async fn drain(
        &mut self,
        grace: impl Future<Output = ()>,
        release: impl Future<Output = ()>,
    ) {
        self.phases.draining.cancel();
        tokio::select! {
            () = ended(&mut self.processors) => return,
            () = grace => {}
        }
        release.await;
        if tokio::time::timeout(LAST_EXCHANGE, ended(&mut self.processors)).await.is_err() {
            tracing::warn!("could not settle all jobs; they run again when their leases expire");
            self.phases.give_up.cancel();
        }
    }

    /// Ends the heartbeats and deregisters the worker.
    pub async fn leave(mut self) {
        self.phases.draining.cancel();
        self.phases.done.cancel();
        // No heartbeat may follow: it would register the worker again. An open call has its own deadline.
        ended(&mut self.helpers).await;
        // Redis forgets a worker that does not get through.
        let left =
            tokio::time::timeout(LAST_EXCHANGE, self.settings.broker.leave(self.settings.worker))
                .await;
        if let Ok(Err(error)) = left {
            tracing::debug!(%error, "could not deregister the worker");
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let Phases { draining, give_up, done } = &self.phases;
        [draining, give_up, done].into_iter().for_each(CancellationToken::cancel);
    }
}

async fn ended(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}
