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

use crunch_common::Shutdown;
use crunch_common::broker::{Broker, WorkerId, WorkerInfo};
use crunch_common::queue::QueueName;
use crunch_common::task::TaskName;
use crunch_consumer::{
    Consumer, Leases, PoolSettings, Pulses, Rotation, Settings, SlotGauges, Tallies, Threads,
};
use crunch_otel::Otel;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::metrics;
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
    /// Reports the health of the consumer.
    health: JoinSet<()>,
}

impl Deliverer {
    /// Starts to claim deliveries.
    pub(crate) fn start(
        broker: &Broker,
        webhooks: &Arc<Webhooks>,
        otel: &Otel,
    ) -> io::Result<Self> {
        let (leases, pulses) = (Arc::new(Leases::default()), Pulses::default());
        let tallies = Arc::<Tallies>::default();
        let hurry = CancellationToken::new();
        let handler = DeliveryHandler {
            broker: broker.clone(),
            webhooks: webhooks.clone(),
            client: PostClient::trusting(&webhooks.authorities),
            shares: Arc::new(Shares::default()),
            leases: leases.clone(),
            tallies: tallies.clone(),
            hurry: hurry.clone(),
            otel: otel.clone(),
        };
        // Its task is listed with it, and not declared: no client submits deliveries.
        let tasks = vec![TaskName::webhooks()];
        let settings = Settings {
            broker: broker.clone(),
            worker: WorkerId::generate(),
            info: WorkerInfo { tasks, ..WorkerInfo::of_this_process() },
            lease: LEASE,
            slots: SlotGauges::noop(),
            leases,
            tallies,
            pulses: pulses.clone(),
            threads: Threads::Shared,
        };
        let pool = PoolSettings {
            name: None,
            slots: SLOTS,
            tasks: Vec::new(),
            queues: Rotation::by_preference(vec![queue()]),
        };
        tracing::info!(worker.id = %settings.worker, slots = SLOTS, "delivering webhooks");
        metrics::start_deliveries();
        let handler = Arc::new(handler);
        let mut consumer = Consumer::start(settings, &handler)?;
        consumer.add_pool(&pool, &handler)?;
        let mut health = JoinSet::new();
        health.spawn(watch::run(pulses));
        Ok(Self { consumer, hurry, health })
    }

    /// Claims no more deliveries, waits for those in flight as long as requests are served and answered, releases the
    /// others, and deregisters the worker. A second request to shut down ends the wait.
    pub(crate) async fn end(mut self, drain: Duration, shutdown: &Shutdown) {
        self.health.abort_all();
        let grace = async {
            tokio::select! {
                () = tokio::time::sleep(drain + LAST_DELIVERIES) => {}
                () = shutdown.requested(2) => {}
            }
        };
        self.consumer.drain(grace, async { self.hurry.cancel() }).await;
        self.consumer.leave().await;
    }
}

/// The queue of deliveries.
fn queue() -> QueueName {
    TaskName::webhooks().default_queue()
}
