//! One worker of the supervisor, and after its death the next.

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

use super::board::HealthSummary;
use super::lifeline::{self, ChildMessage};
use crate::process::each_line;

/// Workers that die early are restarted more and more slowly: immediately after the first death, half a minute apart in
/// the end.
const RESTARTS: Backoff =
    Backoff { base: Duration::from_millis(100), max: Duration::from_secs(30) };
/// A worker that lived this long did not die of how it was started.
const EARLY: Duration = Duration::from_secs(10);
/// What a worker sent before its end is read immediately; only another process that keeps its socket open could delay
/// that.
const LAST_MESSAGES: Duration = Duration::from_millis(500);
/// The largest report has eight reasons of a line each.
const MAX_MESSAGE: usize = 16 * 1024;

/// The place of one worker. Clones with other numbers belong to the same supervisor.
#[derive(Debug, Clone)]
pub(super) struct ChildSlot {
    /// From 1.
    pub(super) number: usize,
    /// How often a shutdown was requested.
    pub(super) shutdown: watch::Receiver<u32>,
    /// Whether any worker ever found its configuration valid.
    pub(super) configured: watch::Sender<bool>,
    pub(super) summary: Arc<HealthSummary>,
    pub(super) dead: mpsc::Sender<WorkerId>,
}

/// Why the slot no longer has a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The worker ended as requested.
    Succeeded,
    /// The worker ended otherwise, after a shutdown was requested.
    Failed,
    /// The worker found its configuration invalid, and has reported why.
    WrongConfiguration,
}

/// A running worker.
struct Worker {
    id: WorkerId,
    process: Child,
    pid: u32,
    messages: AbortOnDropHandle<()>,
}

impl ChildSlot {
    pub(super) async fn run(mut self) -> End {
        if !self.may_start().await {
            return End::Succeeded;
        }
        let mut early_deaths = 0;
        loop {
            let began = Instant::now();
            let ended = match self.start() {
                Ok(worker) => self.watch(worker).await,
                Err(error) => {
                    tracing::error!(child_slot = self.number, %error, "cannot start a worker process");
                    None
                }
            };
            if let Some(end) = ended {
                return end;
            }
            early_deaths = if began.elapsed() < EARLY { early_deaths + 1 } else { 1 };
            if !self.pause(RESTARTS.draw(early_deaths)).await {
                return End::Succeeded;
            }
        }
    }

    /// The first worker checks whether the configuration is valid; problems are then reported once.
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
        tracing::info!(child_slot = self.number, pid, worker.id = %id, "worker process started");
        let (child_slot, configured, summary) =
            (self.number, self.configured.clone(), self.summary.clone());
        let messages = tokio::spawn(each_line(socket, MAX_MESSAGE, move |line| {
            match serde_json::from_str(line) {
                Ok(ChildMessage::Configured) => drop(configured.send_replace(true)),
                Ok(ChildMessage::Health(report)) => summary.record(child_slot, pid, report),
                Err(error) => {
                    tracing::debug!(child_slot, %error, "received an invalid message from a worker")
                }
            }
        }));
        Ok(Worker { id, process, pid, messages: AbortOnDropHandle::new(messages) })
    }

    /// Forwards every shutdown request, and waits for the worker's end. `None` if another must take its place.
    async fn watch(&mut self, mut worker: Worker) -> Option<End> {
        let mut forwarded = 0;
        let status = loop {
            tokio::select! {
                status = worker.process.wait() => break status,
                () = requested(&mut self.shutdown, forwarded + 1) => {
                    forwarded += 1;
                    worker.terminate();
                }
            }
        };
        let _all_read = tokio::time::timeout(LAST_MESSAGES, &mut worker.messages).await;
        self.summary.empty(self.number);
        match status {
            Ok(status) => self.classify_end(&worker, status, forwarded > 0),
            Err(error) => {
                tracing::error!(child_slot = self.number, pid = worker.pid, %error, "cannot wait for worker process");
                (forwarded > 0).then_some(End::Failed)
            }
        }
    }

    /// Decides what a worker's end means for the child slot. A worker that failed may have held jobs, and is reclaimed.
    fn classify_end(
        &self,
        worker: &Worker,
        status: ExitStatus,
        was_requested: bool,
    ) -> Option<End> {
        let Worker { id, pid, .. } = worker;
        let child_slot = self.number;
        if status.success() {
            tracing::info!(child_slot, pid, worker.id = %id, "worker process ended");
            return was_requested.then_some(End::Succeeded);
        }
        if status.code() == Some(2) && !*self.configured.borrow() {
            return Some(End::WrongConfiguration);
        }
        tracing::warn!(child_slot, pid, worker.id = %id, %status, "worker process died");
        if self.dead.try_send(*id).is_err() {
            tracing::error!(worker.id = %id, "too many dead workers wait to be reclaimed; the jobs of this one run again when their leases expire");
        }
        // A worker that was terminated before it could handle the signal has ended as requested.
        let exited_as_requested = status.signal() == Some(Signal::TERM.as_raw());
        was_requested.then_some(if exited_as_requested { End::Succeeded } else { End::Failed })
    }

    /// Waits; `false` if a shutdown was requested first.
    async fn pause(&mut self, pause: Duration) -> bool {
        tokio::time::timeout(pause, requested(&mut self.shutdown, 1)).await.is_err()
    }
}

/// Waits until a shutdown was requested that often.
async fn requested(shutdown: &mut watch::Receiver<u32>, times: u32) {
    if shutdown.wait_for(|&requests| requests >= times).await.is_err() {
        // The sender is dropped only when this process is about to end.
        std::future::pending::<()>().await;
    }
}

impl Worker {
    fn terminate(&self) {
        // Only a process that was not waited for certainly has its number.
        let number = self.process.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        if let Some(pid) = number {
            let _already_gone = kill_process(pid, Signal::TERM);
        }
    }
}
