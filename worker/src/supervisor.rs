//! A parent for workers: starts some, buries those that die, and starts others in their place.
//!
//! ```text
//! supervisor ──socket──► worker 1 ──► its commands' launchers
//!     │      ──socket──► worker 2
//!     └── only when one has died: Redis
//! ```
//!
//! A worker that dies says nothing, so its jobs wait until their leases end, for nobody can tell from afar whether it is dead
//! or only silent. Its parent can: it sees the process end. So it has Redis take back at once what the worker held
//! ([`Broker::reclaim`](crunch_common::broker::Broker::reclaim)). For that it must know the worker's id, and gives it one.
//!
//! The supervisor is the worker's own program, and its workers are the same program once more, with the same arguments. It
//! takes over while the `Worker` is made, before any task is: it has none of the program's weight, and nothing that a job
//! does can hurt it. It never runs a job and never decides that a worker which lives is dead.
//!
//! The socket is each worker's lifeline (`lifeline.rs`): its end is the supervisor's end, after which the worker drains as on
//! SIGTERM, for nobody would reclaim it or hand it the wish to stop any more.

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
pub(crate) use board::Board;
use child_slot::{ChildSlot, End};
pub(crate) use lifeline::Lifeline;
use reclaimer::Reclaimer;

/// So many dead may wait for Redis to come back. Leases of more than these have ended by then.
const MAX_PENDING: usize = 1024;
/// How long the last reclaims may take when all workers have ended: longer than any call's deadline.
const LAST_RECLAIMS: Duration = Duration::from_secs(3);

/// A process that is to supervise does so here and never returns. For one that is supervised: its lifeline.
///
/// Called by every way to make a [`crate::Worker`], so that a program that uses the library can be supervised without
/// knowing.
pub(crate) fn become_supervisor_if_configured(config: &WorkerConfig) -> Option<Lifeline> {
    if lifeline::is_supervised() {
        return Lifeline::take();
    }
    let workers = usize::from(config.supervise?);
    // On a thread of its own: whoever makes the worker may stand in a runtime, and none can wait in another.
    let code = thread::scope(|scope| {
        let supervisor = thread::Builder::new().name("crunch-supervisor".to_owned());
        let supervisor = supervisor.spawn_scoped(scope, || supervise(config, workers))?;
        supervisor.join().unwrap_or_else(|_| Err(io::Error::other("it panicked").into()))
    });
    exit(code.unwrap_or_else(|error| {
        error.tell();
        error.exit_code().into()
    }));
}

/// Supervises until all is ended; returns the exit code.
fn supervise(config: &WorkerConfig, workers: usize) -> Result<i32, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Ok(Supervisor::start(config, workers)?.run().await) })
}

struct Supervisor {
    terminate: Signal,
    interrupt: Signal,
    /// How often it was wished that all stop.
    requests: watch::Sender<u32>,
    child_slots: JoinSet<End>,
    reclaimer: JoinHandle<()>,
    board: Arc<Board>,
}

impl Supervisor {
    fn start(config: &WorkerConfig, workers: usize) -> Result<Self, Error> {
        // First of all: as the first process of a container we would not hear a signal that nobody waits for.
        let (terminate, interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let board = Arc::new(Board::new(workers));
        if let Some(addr) = config.addr {
            let asked = board.clone();
            let server = health::Server::bind(addr, move || asked.report(), None)
                .map_err(|source| Error::Listen { addr, source })?;
            tokio::spawn(server.run());
        }
        let (dead, deaths) = mpsc::channel(MAX_PENDING);
        let reclaimer = Reclaimer { broker: Broker::new(&config.broker)?, deaths };
        let reclaimer = tokio::spawn(reclaimer.run());
        let (requests, shutdown) = watch::channel(0);
        tracing::info!(workers, "supervisor starts");
        let configured = watch::Sender::new(false);
        let first = ChildSlot { number: 1, shutdown, configured, board: board.clone(), dead };
        let mut child_slots = JoinSet::new();
        for number in 2..=workers {
            child_slots.spawn(ChildSlot { number, ..first.clone() }.run());
        }
        child_slots.spawn(first.run());
        Ok(Self { terminate, interrupt, requests, child_slots, reclaimer, board })
    }

    /// Hands on the wish to stop, until nobody is left.
    async fn run(mut self) -> i32 {
        let mut code = 0;
        loop {
            tokio::select! {
                _ = self.terminate.recv() => self.stop(),
                _ = self.interrupt.recv() => self.stop(),
                ended = self.child_slots.join_next() => match ended {
                    Some(Ok(End::Well)) => {}
                    Some(Ok(End::WrongConfiguration)) => return 2,
                    Some(Ok(End::Badly) | Err(_)) => code = 1,
                    None => break,
                },
            }
        }
        if tokio::time::timeout(LAST_RECLAIMS, self.reclaimer).await.is_err() {
            tracing::warn!("not all who died could be reclaimed; their leases will end");
        }
        tracing::info!("supervisor ends");
        code
    }

    fn stop(&self) {
        self.board.drains();
        self.requests.send_modify(|requests| *requests += 1);
        match *self.requests.borrow() {
            1 => tracing::info!("shutting down: the workers may end their jobs"),
            _ => tracing::info!("asked again: the workers hurry"),
        }
    }
}
