//! Looks after a worker's health: asks Redis, and tells whoever wants to know.
//!
//! Runs on an OS thread of its own with its own runtime and connection: a handler that blocks the async runtime makes its
//! worker look as it is, and neither dead nor well.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crunch_common::broker::Broker;
use crunch_common::telemetry::metrics::Metrics;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::config::WorkerConfig;
use crate::health::{Health, Pulse, Server};
use crate::supervisor::Lifeline;

/// Trouble shows within [`ANSWERS_WITHIN`], and its end within the longest pause between two connections (2 s) and this.
const INTERVAL: Duration = Duration::from_millis(500);
/// Longer than any call may take (1.8 s), shorter than the 3 s in which trouble must show.
const ANSWERS_WITHIN: Duration = Duration::from_millis(2000);
/// Measurements pile up until they are put away.
const UPKEEP: Duration = Duration::from_secs(5);
/// A new connection checks what may have been changed under us (eviction policy, layout) this often.
const RECHECK: Duration = Duration::from_secs(60);

/// Where a worker's health is audience.
enum Audience {
    /// To whoever asks, with what is counted meanwhile.
    OnPort(Server, Option<Metrics>),
    /// To the supervisor, who is asked.
    To(Lifeline),
}

/// The thread. Ends with [`HealthThread::end`], or when it is dropped.
pub(crate) struct HealthThread {
    shutdown: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl HealthThread {
    /// Starts it, if there is to be a health port. A supervised worker's is its supervisor's.
    pub(crate) fn start(
        config: &WorkerConfig,
        lifeline: Option<Lifeline>,
        health: &Health,
        broker: &Broker,
    ) -> Result<Option<Self>, Error> {
        let Some(addr) = config.addr else { return Ok(None) };
        let audience = match lifeline {
            Some(lifeline) => Audience::To(lifeline),
            None => {
                let (asked, metrics) = (health.clone(), Metrics::start(env!("CARGO_PKG_VERSION")));
                let server = Server::bind(addr, move || asked.report(), metrics.clone());
                let server = server.map_err(|source| Error::Listen { addr, source })?;
                Audience::OnPort(server, metrics)
            }
        };
        Ok(Some(Self::spawn(health, broker, audience)?))
    }

    fn spawn(health: &Health, broker: &Broker, audience: Audience) -> std::io::Result<Self> {
        let shutdown = CancellationToken::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let probe = Probe { broker: broker.with_own_connection(), pulse: health.pulse("redis") };
        let (health, over) = (health.clone(), shutdown.clone());
        let attend = async move {
            tokio::join!(probe.run(), tell(health, audience));
        };
        let thread = std::thread::Builder::new()
            .name("crunch-health".to_owned())
            .spawn(move || _ = runtime.block_on(over.run_until_cancelled(attend)))?;
        Ok(Self { shutdown, thread: Some(thread) })
    }

    /// Ends it, and gives its port back.
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

async fn tell(health: Health, audience: Audience) {
    match audience {
        Audience::OnPort(server, metrics) => {
            let serve = async {
                if let Err(error) = server.run().await {
                    tracing::error!(%error, "the health port cannot be served");
                }
            };
            tokio::join!(serve, keep_up(metrics));
        }
        Audience::To(supervisor) => loop {
            supervisor.tell_health(health.report());
            tokio::time::sleep(INTERVAL).await;
        },
    }
}

/// Puts measurements away, whether or not somebody collects them.
async fn keep_up(metrics: Option<Metrics>) {
    while let Some(metrics) = &metrics {
        metrics.upkeep();
        tokio::time::sleep(UPKEEP).await;
    }
}

/// Asks Redis whether it serves us, and nothing more: a worker whose slots are all busy would not know for long.
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
            let _answer = self.pulse.expects(ANSWERS_WITHIN);
            match self.broker.open().await {
                Ok(()) => {
                    opened.get_or_insert_with(Instant::now);
                    self.pulse.answered();
                }
                // Those who work with Redis log it.
                Err(error) => {
                    opened = None;
                    self.pulse.failed(error);
                }
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}
