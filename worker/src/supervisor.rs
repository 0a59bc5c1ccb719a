//! A parent process of workers: starts them, reclaims the jobs of those that die, and starts others in their place.
//!
//! ```text
//! supervisor ──socket──► worker 1 ──► its commands' launchers
//!     │      ──socket──► worker 2
//!     └── only when one has died: Redis
//! ```
//!
//! A worker that dies reports nothing, so its jobs wait until their leases expire: no other process can decide whether
//! it is dead or only silent. Its parent can: it sees the process end. So it has Redis reclaim immediately what the
//! worker held ([`Broker::reclaim`](crunch_common::broker::Broker::reclaim)). For that it must know the worker's id,
//! and assigns it.
//!
//! The supervisor is the worker's own program, and its workers are the same program once more, with the same arguments.
//! It takes over while the `Worker` is created, before any task is: it needs few resources, and no job can harm it. It
//! never runs a job and never declares a worker dead that lives.
//!
//! The socket is each worker's lifeline (`lifeline.rs`): it closes when the supervisor ends. The worker then drains as
//! on SIGTERM, because no process would reclaim it or forward a shutdown request to it any more.

mod board;
mod child_slot;
mod lifeline;
mod reclaimer;

use std::process::exit;
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use crunch_common::broker::Broker;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::Error;
use crate::config::WorkerConfig;
use crate::health;
pub(crate) use board::HealthSummary;
use child_slot::{ChildSlot, End};
pub(crate) use lifeline::Lifeline;
use reclaimer::Reclaimer;

/// This many dead workers may wait for Redis. If there are more, their leases have expired by the time it can be
/// reached.
const MAX_PENDING: usize = 1024;
/// How long the last calls of `reclaim` may take when all workers have ended: longer than any call's deadline.
const LAST_RECLAIMS: Duration = Duration::from_secs(3);

/// Becomes the supervisor if configured, and then never returns. In a supervised worker: returns its lifeline.
///
/// Called by every constructor of [`crate::Worker`], so that a program that uses the library can be supervised without
/// knowing.
pub(crate) fn become_supervisor_if_configured(config: &WorkerConfig) -> Option<Lifeline> {
    if lifeline::is_supervised() {
        return Lifeline::take();
    }
    let workers = usize::from(config.supervise?);
    // On a separate thread: the caller may be inside a runtime, and no runtime can wait in another.
    let code = thread::scope(|scope| {
        let supervisor = thread::Builder::new().name("crunch-supervisor".to_owned());
        let supervisor = supervisor.spawn_scoped(scope, || supervise(config, workers))?;
        supervisor
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the supervisor thread panicked").into()))
    });
    exit(code.unwrap_or_else(|error| {
        error.print();
        error.exit_code().into()
    }));
}

/// Supervises until all workers have ended; returns the exit code.
fn supervise(config: &WorkerConfig, workers: usize) -> Result<i32, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Ok(Supervisor::start(config, workers)?.run().await) })
}

struct Supervisor {
    terminate: Signal,
    interrupt: Signal,
    /// How often a shutdown was requested.
    requests: watch::Sender<u32>,
    child_slots: JoinSet<End>,
    reclaimer: JoinHandle<()>,
    summary: Arc<HealthSummary>,
}

impl Supervisor {
    fn start(config: &WorkerConfig, workers: usize) -> Result<Self, Error> {
        // First of all: the first process of a container does not receive a signal that it does not wait for.
        let (terminate, interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let summary = Arc::new(HealthSummary::new(workers));
        if let Some(addr) = config.addr {
            let reported = summary.clone();
            let server = health::Server::bind(addr, move || reported.report(), None)
                .map_err(|source| Error::Listen { addr, source })?;
            tokio::spawn(server.run());
        }
        let (dead, deaths) = mpsc::channel(MAX_PENDING);
        let reclaimer = Reclaimer { broker: Broker::new(&config.broker)?, deaths };
        let reclaimer = tokio::spawn(reclaimer.run());
        let (requests, shutdown) = watch::channel(0);
        tracing::info!(workers, "supervisor started");
        let configured = watch::Sender::new(false);
        let first = ChildSlot { number: 1, shutdown, configured, summary: summary.clone(), dead };
        let mut child_slots = JoinSet::new();
        for number in 2..=workers {
            child_slots.spawn(ChildSlot { number, ..first.clone() }.run());
        }
        child_slots.spawn(first.run());
        Ok(Self { terminate, interrupt, requests, child_slots, reclaimer, summary })
    }

    /// Forwards shutdown requests until no worker is left.
    async fn run(mut self) -> i32 {
        let mut code = 0;
        loop {
            tokio::select! {
                _ = self.terminate.recv() => self.stop(),
                _ = self.interrupt.recv() => self.stop(),
                ended = self.child_slots.join_next() => match ended {
                    Some(Ok(End::Succeeded)) => {}
                    Some(Ok(End::WrongConfiguration)) => return 2,
                    Some(Ok(End::Failed) | Err(_)) => code = 1,
                    None => break,
                },
            }
        }
        if tokio::time::timeout(LAST_RECLAIMS, self.reclaimer).await.is_err() {
            tracing::warn!(
                "could not reclaim the jobs of every dead worker; they run again when their leases expire"
            );
        }
        tracing::info!("supervisor stopped");
        code
    }

    fn stop(&self) {
        self.summary.set_draining();
        self.requests.send_modify(|requests| *requests += 1);
        match *self.requests.borrow() {
            1 => tracing::info!("shutting down: the workers finish their running jobs"),
            _ => {
                tracing::info!("shutdown requested again: the workers do not wait for running jobs")
            }
        }
    }
}
