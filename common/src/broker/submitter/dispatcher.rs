//! Who waits, who is under way, and when the next batch departs: one task a submitter.

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
use crate::broker::submit;

/// A batch under way this long gets company.
const HEADWAY: Duration = Duration::from_millis(100);
/// With the headway: a batch at every tenth of a second, for the 1.2 s that a flush once a second takes at most.
const MAX_CONNECTIONS: usize = 12;
/// A connection that carried nothing for this long is closed: each thread of an API has connections of its own, and Redis' connections are few.
const KEPT: Duration = Duration::from_secs(10);
/// What one request may submit at most goes in one batch.
const BATCH_JOBS: usize = 1000;
/// Passes a slow network well within the deadline; a single larger job goes alone.
const BATCH_BYTES: usize = 1024 * 1024;

pub(super) struct Dispatcher {
    waiting: VecDeque<Waiting>,
    under_way: FuturesUnordered<BoxFuture<'static, BatchConnection>>,
    /// The last one back goes first, so that usually there is one.
    connections: Vec<BatchConnection>,
    next: Instant,
    /// One connection connects at a time: an outage is not answered with a storm.
    connecting: Arc<Semaphore>,
}

impl Dispatcher {
    pub(super) fn new(submitter: &Submitter) -> Self {
        Self {
            waiting: VecDeque::new(),
            under_way: FuturesUnordered::new(),
            connections: (0..MAX_CONNECTIONS).map(|_| BatchConnection::new(submitter)).collect(),
            next: Instant::now(),
            connecting: Arc::new(Semaphore::new(1)),
        }
    }

    /// Until the last broker that could submit is gone, and everybody has an answer.
    pub(super) async fn run(mut self, mut arrivals: mpsc::UnboundedReceiver<Waiting>) {
        let mut open = true;
        while open || !self.waiting.is_empty() || !self.under_way.is_empty() {
            let another = !self.waiting.is_empty() && !self.connections.is_empty();
            let unused = self.unused_from();
            tokio::select! {
                arrived = arrivals.recv(), if open => match arrived {
                    Some(waiting) => self.waiting.push_back(waiting),
                    None => open = false,
                },
                Some(connection) = self.under_way.next() => self.connections.push(connection),
                () = sleep_until(self.next), if another => {}
                () = sleep_until(unused.unwrap_or(self.next)), if unused.is_some() => self.close_unused(),
            }
            // Everybody who is here goes along.
            while let Ok(waiting) = arrivals.try_recv() {
                self.waiting.push_back(waiting);
            }
            self.send_next();
        }
    }

    /// When the next connection has been unused for long enough to be closed. The one that goes first stays open: usually it is the
    /// only one in use.
    fn unused_from(&self) -> Option<Instant> {
        let (_first, others) = self.connections.split_last()?;
        others.iter().filter_map(BatchConnection::used).min().map(|used| used + KEPT)
    }

    fn close_unused(&mut self) {
        let Some((_first, others)) = self.connections.split_last_mut() else { return };
        for connection in others {
            if connection.used().is_some_and(|used| used.elapsed() >= KEPT) {
                connection.close();
            }
        }
    }

    /// Sends the next batch, if there is one and it is its time.
    fn send_next(&mut self) {
        let early = !self.under_way.is_empty() && Instant::now() < self.next;
        if early || self.waiting.is_empty() || self.connections.is_empty() {
            return;
        }
        self.next = Instant::now() + HEADWAY;
        let Ok(connecting) = self.connecting.clone().try_acquire_owned() else { return };
        let batch = self.collect_batch();
        if let Some(connection) = self.connections.pop_if(|_| !batch.is_empty()) {
            self.under_way.push(Box::pin(connection.send(batch, connecting)));
        }
    }

    /// Takes from those who wait, the oldest first, as many as fit. What is large does not go along with what is not, which has
    /// less time. Those who gave up stay behind: nothing was sent.
    fn collect_batch(&mut self) -> Vec<Waiting> {
        let (mut batch, mut bytes) = (Vec::<Waiting>::new(), 0);
        while let Some(first) = self.waiting.pop_front() {
            if first.caller.answer.is_closed() {
                continue;
            }
            bytes += submit::size(&first.job);
            let unlike =
                |other: &Waiting| submit::is_large(&other.job) != submit::is_large(&first.job);
            let is_full = batch.len() == BATCH_JOBS || bytes > BATCH_BYTES;
            if batch.first().is_some_and(|other| is_full || unlike(other)) {
                self.waiting.push_front(first);
                break;
            }
            batch.push(first);
        }
        batch
    }
}
