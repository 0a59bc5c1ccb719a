//! One worker under the supervisor, and after its death the next.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crunch_common::backoff::Backoff;
use crunch_common::broker::WorkerId;
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::board::Board;
use super::lifeline::{self, ChildMessage};
use crate::process::each_line;

/// Workers that die young are started again more and more slowly: at once after the first death, half a minute apart in the
/// end.
const RESTARTS: Backoff =
    Backoff { base: Duration::from_millis(100), max: Duration::from_secs(30) };
/// Whoever lived so long did not die of how it was started.
const YOUNG: Duration = Duration::from_secs(10);
/// What a worker said before its end is read at once; only another process that keeps its socket open could delay that.
const LAST_MESSAGES: Duration = Duration::from_millis(500);
/// The largest report has eight reasons of a line each.
const MAX_MESSAGE: usize = 16 * 1024;

/// Where a worker sits. Clones but for their number are those of one supervisor.
#[derive(Debug, Clone)]
pub(super) struct ChildSlot {
    /// From 1.
    pub(super) number: usize,
    /// How often it was wished that all stop.
    pub(super) shutdown: watch::Receiver<u32>,
    /// Whether any worker ever found its configuration right.
    pub(super) configured: watch::Sender<bool>,
    pub(super) board: Arc<Board>,
    pub(super) dead: mpsc::Sender<WorkerId>,
}

/// Why nobody sits there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// As asked.
    Well,
    /// By something else, when it had been asked.
    Badly,
    /// It was never set up rightly, and has said why.
    WrongConfiguration,
}

/// A worker that runs.
struct Worker {
    id: WorkerId,
    process: Child,
    pid: u32,
    news: AbortOnDropHandle<()>,
}

impl ChildSlot {
    pub(super) async fn run(mut self) -> End {
        if !self.may_start().await {
            return End::Well;
        }
        let mut young_deaths = 0;
        loop {
            let began = Instant::now();
            let ended = match self.start() {
                Ok(worker) => self.watch(worker).await,
                Err(error) => {
                    tracing::error!(child_slot = self.number, %error, "cannot start a worker");
                    None
                }
            };
            if let Some(end) = ended {
                return end;
            }
            young_deaths = if began.elapsed() < YOUNG { young_deaths + 1 } else { 1 };
            if !self.pause(RESTARTS.draw(young_deaths)).await {
                return End::Well;
            }
        }
    }

    /// The first worker tries whether the configuration is right; what is wrong with it is then said once.
    async fn may_start(&mut self) -> bool {
        if self.number == 1 {
            return true;
        }
        let mut configured = self.configured.subscribe();
        tokio::select! {
            biased;
            () = requested(&mut self.shutdown, 1) => false,
            _ = configured.wait_for(|&configured| configured) => true,
        }
    }

    fn start(&self) -> std::io::Result<Worker> {
        let id = WorkerId::generate();
        let (mut command, socket) = lifeline::command_line(id)?;
        socket.set_nonblocking(true)?;
        let socket = UnixStream::from_std(socket)?;
        let process = command.spawn()?;
        let pid = process.id().unwrap_or_default();
        tracing::info!(child_slot = self.number, pid, worker.id = %id, "worker started");
        let (child_slot, configured, board) =
            (self.number, self.configured.clone(), self.board.clone());
        let news = tokio::spawn(each_line(socket, MAX_MESSAGE, move |line| {
            match serde_json::from_str(line) {
                Ok(ChildMessage::Configured) => drop(configured.send_replace(true)),
                Ok(ChildMessage::Health(report)) => board.heard(child_slot, pid, report),
                Err(error) => tracing::debug!(child_slot, %error, "a worker said something else"),
            }
        }));
        Ok(Worker { id, process, pid, news: AbortOnDropHandle::new(news) })
    }

    /// Hands on every shutdown to stop, and waits for the worker's end. `None` if another is to take its place.
    async fn watch(&mut self, mut worker: Worker) -> Option<End> {
        let mut heard = 0;
        let status = loop {
            tokio::select! {
                status = worker.process.wait() => break status,
                () = requested(&mut self.shutdown, heard + 1) => {
                    heard += 1;
                    worker.terminate();
                }
            }
        };
        let _all_read = tokio::time::timeout(LAST_MESSAGES, &mut worker.news).await;
        self.board.empty(self.number);
        match status {
            Ok(status) => self.judge(&worker, status, heard > 0),
            Err(error) => {
                tracing::error!(child_slot = self.number, pid = worker.pid, %error, "lost sight of a worker");
                (heard > 0).then_some(End::Badly)
            }
        }
    }

    /// What a worker's end means for the child_slot. Whoever ended otherwise than well may have held jobs, and is reclaimed.
    fn judge(&self, worker: &Worker, status: ExitStatus, was_requested: bool) -> Option<End> {
        let Worker { id, pid, .. } = worker;
        let child_slot = self.number;
        if status.success() {
            tracing::info!(child_slot, pid, worker.id = %id, "worker ended");
            return was_requested.then_some(End::Well);
        }
        if status.code() == Some(2) && !*self.configured.borrow() {
            return Some(End::WrongConfiguration);
        }
        tracing::warn!(child_slot, pid, worker.id = %id, %status, "worker died");
        if self.dead.try_send(*id).is_err() {
            tracing::error!(worker.id = %id, "too many dead wait for redis: the leases of this one must end");
        }
        // One that was asked so early that it could not listen yet has done as it was told.
        let exited_as_requested = status.signal() == Some(Signal::TERM.as_raw());
        was_requested.then_some(if exited_as_requested { End::Well } else { End::Badly })
    }

    /// Waits; `false` if the shutdown to stop came first.
    async fn pause(&mut self, pause: Duration) -> bool {
        tokio::time::timeout(pause, requested(&mut self.shutdown, 1)).await.is_err()
    }
}

/// Waits until it was wished so often that all stop.
async fn requested(shutdown: &mut watch::Receiver<u32>, times: u32) {
    if shutdown.wait_for(|&requests| requests >= times).await.is_err() {
        // Whoever could shutdown is gone, and so are we in a moment.
        std::future::pending::<()>().await;
    }
}

impl Worker {
    fn terminate(&self) {
        // Only one that was not waited for has its number for sure.
        let number = self.process.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        if let Some(pid) = number {
            let _already_gone = kill_process(pid, Signal::TERM);
        }
    }
}
