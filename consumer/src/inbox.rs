//! The events a processor waits for, and the work it holds.

use std::future::Future;
use std::time::{Duration, Instant};

use crunch_common::broker::{Claim, Exchange, Settlement};
use crunch_common::queue::QueueName;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::listener::WorkRequest;
use crate::{Ended, Pulse, Slot};

pub(crate) struct Inbox {
    /// Ended attempts that no exchange has carried yet, the oldest first.
    pub(crate) waiting: Vec<Settlement>,
    /// Ended attempts that are too large for an exchange.
    pub(crate) large: Vec<Ended>,
    /// Uploads of large ones that are in progress.
    pub(crate) uploads: JoinSet<()>,
    /// Jobs that were claimed and have not started yet, each with its slot.
    pub(crate) claimed: Vec<(Claim, Slot)>,
    /// The runtime of the attempts.
    pub(crate) runtime: Handle,
    /// This many of them are sent one by one: one of them made an exchange fail.
    pub(crate) suspects: usize,
    /// When to exchange without a request.
    pub(crate) due: Option<Instant>,
    /// The number of the last exchange.
    pub(crate) number: u64,
    requests: mpsc::Receiver<WorkRequest>,
    /// Whether an exchange was requested, or is due.
    requested: bool,
    /// Requests that were not answered yet.
    unanswered: Vec<WorkRequest>,
    settlements: mpsc::UnboundedReceiver<Ended>,
    /// Kept for the attempts to clone; dropped when draining, so that the last of them closes the channel.
    settled: Option<mpsc::UnboundedSender<Ended>>,
    draining: CancellationToken,
}

impl Inbox {
    pub(crate) fn new(
        requests: mpsc::Receiver<WorkRequest>,
        runtime: Handle,
        draining: CancellationToken,
    ) -> Self {
        // Bounded by the slots: each sends one settlement.
        let (settled, settlements) = mpsc::unbounded_channel();
        Self {
            waiting: Vec::new(),
            large: Vec::new(),
            uploads: JoinSet::new(),
            claimed: Vec::new(),
            runtime,
            suspects: 0,
            due: None,
            number: 0,
            requests,
            requested: false,
            unanswered: Vec::new(),
            settlements,
            settled: Some(settled),
            draining,
        }
    }

    /// Waits until there is something to do, such as jobs to claim in its `turn`; `false` when draining is done.
    pub(crate) async fn wait<F: Future<Output = ()>>(&mut self, turn: impl Fn() -> F) -> bool {
        loop {
            let takes_work = self.takes_work();
            let due = self.due.filter(|_| takes_work);
            let at_due = tokio::time::sleep_until(due.unwrap_or_else(Instant::now).into());
            tokio::select! {
                ended = self.settlements.recv() => {
                    let more = ended.is_some();
                    ended.into_iter().for_each(|ended| self.add_ended(ended));
                    self.collect();
                    return more;
                }
                // A slot is idle, and no processor that settles has claimed another job for it.
                Some(_) = self.uploads.join_next(), if takes_work => return true,
                Some(request) = self.requests.recv() => {
                    self.add_request(request);
                    return true;
                }
                () = turn(), if takes_work => return true,
                () = at_due, if due.is_some() => {
                    self.due = None;
                    self.requested = true;
                    return true;
                }
                () = self.draining.cancelled(), if takes_work => {}
            }
        }
    }

    /// Waits before a retry; not any longer once draining begins, which may make it needless.
    pub(crate) async fn pause(&mut self, pause: Duration) {
        let asleep = tokio::time::sleep(pause);
        match self.takes_work() {
            true => drop(self.draining.run_until_cancelled(asleep).await),
            false => asleep.await,
        }
    }

    /// Returns whether new work may be claimed: until draining.
    pub(crate) fn takes_work(&mut self) -> bool {
        if self.draining.is_cancelled() && self.settled.take().is_some() {
            self.unanswered.clear();
            self.requests.close();
        }
        self.settled.is_some()
    }

    /// Returns where an attempt sends its settlement; `None` while draining.
    pub(crate) fn settled(&mut self) -> Option<mpsc::UnboundedSender<Ended>> {
        self.takes_work();
        self.settled.clone()
    }

    /// Returns the queue whose token was taken last.
    pub(crate) fn woken(&self) -> Option<&QueueName> {
        self.unanswered.iter().rev().find_map(|request| request.woken.as_ref())
    }

    /// Returns whether the next exchange has something to do: to settle, or to look for jobs because of a request.
    pub(crate) fn has_work(&self) -> bool {
        !self.waiting.is_empty() || self.requested
    }

    /// Returns whether jobs may wait that no exchange has looked for since: one was requested, or is due.
    pub(crate) fn takes_request(&mut self) -> bool {
        std::mem::take(&mut self.requested)
    }

    /// Answers all requests: the exchange is done.
    pub(crate) fn answer_requests(&mut self, pulse: &Pulse) {
        self.unanswered.drain(..).for_each(|request| request.answer(pulse));
    }

    /// Collects all attempts that have ended meanwhile, and all requests: under load it may take long until there is
    /// nothing to settle, and the listener waits for its answer.
    pub(crate) fn collect(&mut self) {
        while let Ok(ended) = self.settlements.try_recv() {
            self.add_ended(ended);
        }
        while let Ok(request) = self.requests.try_recv() {
            self.add_request(request);
        }
    }

    fn add_request(&mut self, request: WorkRequest) {
        self.unanswered.push(request);
        self.requested = true;
    }

    fn add_ended(&mut self, ended: Ended) {
        match ended.settlement.is_large() {
            true => self.large.push(ended),
            false => self.waiting.push(ended.settlement),
        }
    }

    /// Returns as many settlements as one exchange may carry; a single larger one is sent alone.
    pub(crate) fn batch(&mut self) -> Vec<Settlement> {
        let max = if self.suspects > 0 { 1 } else { Exchange::MAX_SETTLEMENTS };
        self.suspects = self.suspects.saturating_sub(1);
        let mut bytes = 0;
        let fits = self.waiting.iter().take(max).take_while(|settlement| {
            bytes += settlement.size();
            bytes <= Exchange::MAX_BYTES
        });
        let count = fits.count().max(1).min(self.waiting.len());
        self.waiting.drain(..count).collect()
    }
}
