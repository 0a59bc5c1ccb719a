//! Delivers webhooks: to Redis this is a separate worker, which claims deliveries as any worker claims jobs.
//!
//! The API delivers and not the workers, because it has the job document and the secrets, and because a network that
//! runs jobs needs no access to the internet. Every API with a secret delivers; the deliveries of one that died are
//! reclaimed and delivered by another.

mod beat;
mod consumer;
mod handler;
mod held;
mod judge;
mod listener;
mod message;
mod post;
mod share;

use std::sync::Arc;
use std::time::Duration;

use crunch_common::broker::{Broker, WorkerId};
use crunch_common::queue::QueueName;
use crunch_common::task::TaskName;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::webhook::Webhooks;
use beat::Beat;
use consumer::{Consumer, Pool};
use handler::DeliveryHandler;
use held::Held;
use listener::Listener;
use post::Post;
use share::Shares;

/// How many deliveries one API makes at once. They spend most of their time waiting for receivers.
const SLOTS: usize = 32;
/// The lease of a delivery without a heartbeat; the same as for jobs of workers.
const LEASE: Duration = Duration::from_secs(10);
/// Deliveries in flight at shutdown get as long as the last requests.
const LAST_DELIVERIES: Duration = Duration::from_secs(5);
/// Then the rest is released, if Redis can be reached in this time.
const LAST_EXCHANGE: Duration = Duration::from_secs(2);

/// The tasks that deliver; they end with [`Deliverer::end`], or at once when this value is dropped.
#[derive(Debug)]
pub(crate) struct Deliverer {
    broker: Broker,
    worker: WorkerId,
    /// Claim deliveries and settle them.
    consumers: JoinSet<()>,
    /// Support the consumers; end last.
    helpers: JoinSet<()>,
    /// Stops claiming.
    stop: CancellationToken,
    /// Releases the deliveries in flight.
    hurry: CancellationToken,
}

impl Deliverer {
    /// Starts one consumer a partition, and the heartbeats for all.
    pub(crate) fn start(broker: &Broker, webhooks: &Arc<Webhooks>) -> Self {
        let mut deliverer = Self {
            broker: broker.clone(),
            worker: WorkerId::generate(),
            consumers: JoinSet::new(),
            helpers: JoinSet::new(),
            stop: CancellationToken::new(),
            hurry: CancellationToken::new(),
        };
        let handler = Arc::new(DeliveryHandler {
            broker: broker.clone(),
            webhooks: webhooks.clone(),
            post: Post::trusting(&webhooks.authorities),
            shares: Arc::new(Shares::default()),
            hurry: deliverer.hurry.clone(),
        });
        let partitions = broker.partitions().count();
        let slots = SLOTS.div_ceil(partitions);
        let held = Arc::new(Held::default());
        let beat = Beat::new(broker, deliverer.worker, held.clone(), slots * partitions);
        deliverer.helpers.spawn(beat.run());
        for partition in broker.partitions() {
            let (looks, requested) = mpsc::channel(1);
            let exchanges = broker.with_own_connection();
            let slots = Arc::new(Semaphore::new(slots));
            let listener = Listener {
                broker: broker.with_own_connection(),
                exchanges: exchanges.clone(),
                partition,
                slots: slots.clone(),
                looks,
            };
            deliverer.helpers.spawn(listener.run(deliverer.stop.clone()));
            let pool = Pool { slots, handler: handler.clone(), held: held.clone() };
            let consumer = Consumer::new(exchanges, partition, deliverer.worker, pool);
            deliverer.consumers.spawn(consumer.run(requested, deliverer.stop.clone()));
        }
        tracing::info!(worker.id = %deliverer.worker, slots = SLOTS, "delivering webhooks");
        deliverer
    }

    /// Stops claiming deliveries; those in flight continue.
    pub(crate) fn quiet(&self) {
        self.stop.cancel();
    }

    /// Waits for deliveries in flight, releases those that do not end in time, and unregisters the worker.
    pub(crate) async fn end(mut self) {
        self.quiet();
        if tokio::time::timeout(LAST_DELIVERIES, ended(&mut self.consumers)).await.is_err() {
            self.hurry.cancel();
            if tokio::time::timeout(LAST_EXCHANGE, ended(&mut self.consumers)).await.is_err() {
                tracing::warn!(
                    "could not release all deliveries in flight; their leases will expire"
                );
            }
        }
        // No heartbeat may follow: it would register the worker again.
        self.helpers.shutdown().await;
        if let Ok(Err(error)) =
            tokio::time::timeout(LAST_EXCHANGE, self.broker.leave(self.worker)).await
        {
            tracing::debug!(%error, "cannot unregister the worker of deliveries");
        }
    }
}

async fn ended(set: &mut JoinSet<()>) {
    while set.join_next().await.is_some() {}
}

/// The queue of deliveries.
fn queue() -> QueueName {
    TaskName::webhooks().default_queue()
}
