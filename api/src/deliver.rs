//! Delivers webhooks: to Redis this is a separate worker, which claims deliveries as any worker claims jobs.
//!
//! The API delivers and not the workers, because it has the job document and the secrets, and because a network that
//! runs jobs needs no access to the internet. Every API with a secret delivers; the deliveries of one that died are
//! reclaimed and delivered by another.

mod handler;
mod judge;
mod message;
mod post;
mod share;
mod watch;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crunch_common::broker::{Broker, WorkerId, WorkerInfo};
use crunch_common::queue::QueueName;
use crunch_common::task::TaskName;
use crunch_consumer::{Consumer, Leases, Pulses, Rotation, Settings, Threads};
use metrics::Gauge;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::webhook::Webhooks;
use handler::DeliveryHandler;
use post::PostClient;
use share::Shares;

/// How many deliveries one API makes at once. They spend most of their time waiting for receivers.
const SLOTS: usize = 32;
/// The lease of a delivery without a heartbeat; the same as for jobs of workers.
const LEASE: Duration = Duration::from_secs(10);
/// Deliveries in flight at shutdown get as long as the last requests.
const LAST_DELIVERIES: Duration = Duration::from_secs(5);

/// Claims deliveries and makes them, until [`Deliverer::end`], or until this value is dropped.
#[derive(Debug)]
pub(crate) struct Deliverer {
    consumer: Consumer,
    /// Releases the deliveries in flight.
    hurry: CancellationToken,
    health: JoinHandle<()>,
}

impl Deliverer {
    /// Starts to claim deliveries.
    pub(crate) fn start(broker: &Broker, webhooks: &Arc<Webhooks>) -> io::Result<Self> {
        let (leases, pulses) = (Arc::new(Leases::default()), Pulses::default());
        let hurry = CancellationToken::new();
        let handler = DeliveryHandler {
            broker: broker.clone(),
            webhooks: webhooks.clone(),
            client: PostClient::trusting(&webhooks.authorities),
            shares: Arc::new(Shares::default()),
            leases: leases.clone(),
            hurry: hurry.clone(),
        };
        let settings = Settings {
            broker: broker.clone(),
            worker: WorkerId::generate(),
            info: WorkerInfo::of_this_process(vec![TaskName::webhooks()], vec![queue()], SLOTS),
            tasks: Vec::new(),
            lease: LEASE,
            queues: Rotation::by_preference(vec![queue()]),
            busy: Gauge::noop(),
            leases,
            pulses: pulses.clone(),
            threads: Threads::Shared,
        };
        tracing::info!(worker.id = %settings.worker, slots = SLOTS, "delivering webhooks");
        let consumer = Consumer::start(&settings, &Arc::new(handler))?;
        Ok(Self { consumer, hurry, health: tokio::spawn(watch::run(pulses)) })
    }

    /// Stops claiming deliveries; those in flight continue.
    pub(crate) fn quiet(&self) {
        self.consumer.quiet();
    }

    /// Waits for deliveries in flight, releases those that do not end in time, and deregisters the worker.
    pub(crate) async fn end(mut self) {
        self.health.abort();
        let grace = tokio::time::sleep(LAST_DELIVERIES);
        self.consumer.drain(grace, async { self.hurry.cancel() }).await;
        self.consumer.leave().await;
    }
}

/// The queue of deliveries.
fn queue() -> QueueName {
    TaskName::webhooks().default_queue()
}
