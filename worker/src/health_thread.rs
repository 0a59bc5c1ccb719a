//! Checks Redis for the worker's health, and publishes the health.
//!
//! Runs on a separate OS thread with its own runtime and connection: the health of a worker whose async runtime is
//! blocked by a handler stays correct, and shows it neither as dead nor as healthy.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crunch_common::broker::Broker;
use crunch_common::telemetry::metrics::Metrics;
use crunch_consumer::Pulse;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::config::WorkerConfig;
use crate::health::{Health, Server};
use crate::metrics;
use crate::supervisor::Lifeline;

/// A failure shows within [`ANSWERS_WITHIN`], and its end within the longest pause between two connections (2 s) and
/// this.
const INTERVAL: Duration = Duration::from_millis(500);
/// Longer than any call may take (1.8 s), shorter than the 3 s in which a failure must show.
const ANSWERS_WITHIN: Duration = Duration::from_millis(2000);
/// Measurements accumulate until they are aggregated, this often.
const UPKEEP: Duration = Duration::from_secs(5);
/// A new connection checks what may have been changed in Redis meanwhile (eviction policy, layout) this often.
const RECHECK: Duration = Duration::from_secs(60);

/// Where a worker's health is published.
enum Destination {
    /// On the health port, with the metrics.
    Port(Server, Option<Metrics>),
    /// To the supervisor, which serves the health port.
    Supervisor(Lifeline),
}

/// The thread. Ends with [`HealthThread::end`], or when it is dropped.
pub(crate) struct HealthThread {
    shutdown: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl HealthThread {
    /// Starts the thread if a health port is configured. The supervisor has the health port of a supervised worker.
    pub(crate) fn start(
        config: &WorkerConfig,
        lifeline: Option<Lifeline>,
        health: &Health,
        broker: &Broker,
    ) -> Result<Option<Self>, Error> {
        let Some(addr) = config.addr else { return Ok(None) };
        let destination = match lifeline {
            Some(lifeline) => Destination::Supervisor(lifeline),
            None => {
                let (reported, metrics) =
                    (health.clone(), Metrics::start(env!("CARGO_PKG_VERSION")));
                metrics::start_at_zero();
                let server = Server::bind(addr, move || reported.report(), metrics.clone());
                let server = server.map_err(|source| Error::Listen { addr, source })?;
                Destination::Port(server, metrics)
            }
        };
        Ok(Some(Self::spawn(health, broker, destination)?))
    }

    fn spawn(health: &Health, broker: &Broker, destination: Destination) -> std::io::Result<Self> {
        let shutdown = CancellationToken::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let probe =
            Probe { broker: broker.with_own_connection(), pulse: health.pulses().add("redis") };
        let (health, stop) = (health.clone(), shutdown.clone());
        let work = async move {
            tokio::join!(probe.run(), publish(health, destination));
        };
        let thread = std::thread::Builder::new()
            .name("crunch-health".to_owned())
            .spawn(move || _ = runtime.block_on(stop.run_until_cancelled(work)))?;
        Ok(Self { shutdown, thread: Some(thread) })
    }

    /// Ends the thread and closes its port.
    pub(crate) async fn end(mut self) {
        self.shutdown.cancel();
        if let Some(thread) = self.thread.take() {
            let _ended = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Drop for HealthThread {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn publish(health: Health, destination: Destination) {
    match destination {
        Destination::Port(server, metrics) => {
            let serve = async {
                if let Err(error) = server.run().await {
                    tracing::error!(%error, "cannot serve the health port");
                }
            };
            tokio::join!(serve, maintain_metrics(metrics));
        }
        Destination::Supervisor(supervisor) => loop {
            supervisor.report_health(health.report());
            tokio::time::sleep(INTERVAL).await;
        },
    }
}

/// Aggregates measurements, whether or not they are collected.
async fn maintain_metrics(metrics: Option<Metrics>) {
    while let Some(metrics) = &metrics {
        metrics.upkeep();
        tokio::time::sleep(UPKEEP).await;
    }
}

/// Asks Redis only whether it can be used: a worker whose slots are all busy would otherwise not know for long.
struct Probe {
    broker: Broker,
    pulse: Pulse,
}

impl Probe {
    async fn run(mut self) {
        let mut opened = None::<Instant>;
        loop {
            if opened.is_some_and(|opened| opened.elapsed() >= RECHECK) {
                self.broker = self.broker.with_own_connection();
                opened = None;
            }
            let answer = self.pulse.expects(ANSWERS_WITHIN);
            match self.broker.open().await {
                Ok(()) => {
                    opened.get_or_insert_with(Instant::now);
                    self.pulse.answered();
                }
                // The services that use Redis log it.
                Err(error) => {
                    opened = None;
                    self.pulse.failed(error);
                }
            }
            // An answer that took long is one: the pause is not part of it.
            drop(answer);
            tokio::time::sleep(INTERVAL).await;
        }
    }
}
