//! Delivers webhooks: towards Redis a worker of its own, which takes deliveries as any worker takes jobs.
//!
//! The API does it and not the workers, because it has the job document and the secrets, and because whoever is closed in
//! with the jobs need not reach the internet. Every API with a secret delivers; what one held when it died is taken back and
//! delivered by another.

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

/// How many deliveries one API makes at once. They wait for others' machines far more than they work.
const SLOTS: usize = 32;
/// How long a delivery is held without a beat; as workers hold jobs.
const LEASE: Duration = Duration::from_secs(10);
/// Deliveries under way at the end get as long as the last requests do.
const LAST_DELIVERIES: Duration = Duration::from_secs(5);
/// Then what is left is given back, if Redis can be reached in that time.
const LAST_EXCHANGE: Duration = Duration::from_secs(2);

/// Everything that delivers; ends with [`Deliverer::end`], or at once with this value.
#[derive(Debug)]
pub(crate) struct Deliverer {
    broker: Broker,
    worker: WorkerId,
    /// Take deliveries and bring back what became of them.
    consumers: JoinSet<()>,
    /// Serve them; end last.
    helpers: JoinSet<()>,
    /// Nothing new.
    stop: CancellationToken,
    /// What is under way is given back.
    hurry: CancellationToken,
}

impl Deliverer {
    /// Starts one consumer a partition, and the beats for all.
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
            let (looks, asked) = mpsc::channel(1);
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
            deliverer.consumers.spawn(consumer.run(asked, deliverer.stop.clone()));
        }
        tracing::info!(worker.id = %deliverer.worker, slots = SLOTS, "delivering webhooks");
        deliverer
    }

    /// Takes no more deliveries; those under way go on.
    pub(crate) fn quiet(&self) {
        self.stop.cancel();
    }

    /// Lets deliveries under way end, gives back those that do not, and says goodbye.
    pub(crate) async fn end(mut self) {
        self.quiet();
        if tokio::time::timeout(LAST_DELIVERIES, ended(&mut self.consumers)).await.is_err() {
            self.hurry.cancel();
            if tokio::time::timeout(LAST_EXCHANGE, ended(&mut self.consumers)).await.is_err() {
                tracing::warn!("not every delivery could be given back; their leases will end");
            }
        }
        // No beat may come after the goodbye: it would make the worker known again.
        self.helpers.shutdown().await;
        if let Ok(Err(error)) =
            tokio::time::timeout(LAST_EXCHANGE, self.broker.leave(self.worker)).await
        {
            tracing::debug!(%error, "could not say goodbye");
        }
    }
}

async fn ended(set: &mut JoinSet<()>) {
    while set.join_next().await.is_some() {}
}

/// The one queue of deliveries.
fn queue() -> QueueName {
    TaskName::webhooks().default_queue()
}
