//! Which submissions wait, which batches are in flight, and when the next batch is sent: one task per submitter.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};

use super::batch_connection::BatchConnection;
use super::{Submitter, Waiting};

/// When a batch is in flight for this long, the next one is sent on another connection.
const BATCH_INTERVAL: Duration = Duration::from_millis(100);
/// With the interval: a batch every tenth of a second, for the 1.2 s that a flush once a second takes at most.
const MAX_CONNECTIONS: usize = 12;
/// A connection that was idle for this long is closed: each thread of an API has its own connections, and Redis has a
/// limited number of them.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of jobs in a batch: as many as one request may submit.
const BATCH_JOBS: usize = 1000;
/// Maximum number of bytes in a batch: a slow network transfers them well within the deadline; a single larger job is
/// sent alone.
const BATCH_BYTES: usize = 1024 * 1024;

pub(super) struct Dispatcher {
    waiting: VecDeque<Waiting>,
    in_flight: FuturesUnordered<BoxFuture<'static, BatchConnection>>,
    /// The last one returned is used first, so that usually only one is in use.
    connections: Vec<BatchConnection>,
    next: Instant,
    /// Only one connection connects at a time, so that an outage does not cause a storm of connects.
    connecting: Arc<Semaphore>,
}

impl Dispatcher {
    pub(super) fn new(submitter: &Submitter) -> Self {
        Self {
            waiting: VecDeque::new(),
            in_flight: FuturesUnordered::new(),
            connections: (0..MAX_CONNECTIONS).map(|_| BatchConnection::new(submitter)).collect(),
            next: Instant::now(),
            connecting: Arc::new(Semaphore::new(1)),
        }
    }

    /// Runs until the last broker that could submit is dropped and every caller has an answer.
    pub(super) async fn run(mut self, mut receiver: mpsc::UnboundedReceiver<Waiting>) {
        let mut open = true;
        while open || !self.waiting.is_empty() || !self.in_flight.is_empty() {
            let can_send = !self.waiting.is_empty() && !self.connections.is_empty();
            let close_at = self.next_close();
            tokio::select! {
                received = receiver.recv(), if open => match received {
                    Some(waiting) => self.waiting.push_back(waiting),
                    None => open = false,
                },
                Some(connection) = self.in_flight.next() => self.connections.push(connection),
                () = sleep_until(self.next), if can_send => {}
                () = sleep_until(close_at.unwrap_or(self.next)), if close_at.is_some() => self.close_idle(),
            }
            // All submissions that have arrived are part of the batch.
            while let Ok(waiting) = receiver.try_recv() {
                self.waiting.push_back(waiting);
            }
            self.send_next();
        }
    }

    /// When the next connection will have been idle for long enough to be closed. The one that is used first stays
    /// open: usually it is the only one in use.
    fn next_close(&self) -> Option<Instant> {
        let (_first, others) = self.connections.split_last()?;
        others.iter().filter_map(BatchConnection::last_used).min().map(|used| used + IDLE_TIMEOUT)
    }

    fn close_idle(&mut self) {
        let Some((_first, others)) = self.connections.split_last_mut() else { return };
        for connection in others {
            if connection.last_used().is_some_and(|used| used.elapsed() >= IDLE_TIMEOUT) {
                connection.close();
            }
        }
    }

    /// Sends the next batch, if there is one and it is due.
    fn send_next(&mut self) {
        let too_early = !self.in_flight.is_empty() && Instant::now() < self.next;
        if too_early || self.waiting.is_empty() || self.connections.is_empty() {
            return;
        }
        self.next = Instant::now() + BATCH_INTERVAL;
        let Ok(connecting) = self.connecting.clone().try_acquire_owned() else { return };
        let batch = self.collect_batch();
        if let Some(connection) = self.connections.pop_if(|_| !batch.is_empty()) {
            self.in_flight.push(Box::pin(connection.send(batch, connecting)));
        }
    }

    /// Takes as many waiting jobs as fit, the oldest first. Large jobs are not batched with others, which have a
    /// shorter deadline. Jobs whose callers gave up are dropped: nothing was sent.
    fn collect_batch(&mut self) -> Vec<Waiting> {
        let (mut batch, mut bytes) = (Vec::<Waiting>::new(), 0);
        while let Some(first) = self.waiting.pop_front() {
            if first.caller.answer.is_closed() {
                continue;
            }
            bytes += first.job.size();
            let differs = |other: &Waiting| other.job.is_large() != first.job.is_large();
            let is_full = batch.len() == BATCH_JOBS || bytes > BATCH_BYTES;
            if batch.first().is_some_and(|other| is_full || differs(other)) {
                self.waiting.push_front(first);
                break;
            }
            batch.push(first);
        }
        batch
    }
}
