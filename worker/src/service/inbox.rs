//! What a processor waits for, and what it has at hand.

use std::time::{Duration, Instant};

use crunch_common::broker::{Claim, Exchange, Settlement};
use crunch_common::queue::QueueName;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Look;
use crate::executor::Ended;
use crate::health::Pulse;
use crate::slots::Slot;

pub(crate) struct Inbox {
    /// Ended attempts that no exchange has carried yet, the oldest first.
    pub(crate) waiting: Vec<Settlement>,
    /// Those that are too large to be carried by an exchange.
    pub(crate) large: Vec<Ended>,
    /// Those of them that are on their way.
    pub(crate) uploads: JoinSet<()>,
    /// Jobs that were claimed and have not started yet, each with its slot.
    pub(crate) claimed: Vec<(Claim, Slot)>,
    /// Where handlers run.
    pub(crate) handlers: Handle,
    /// So many of them are sent one by one: something among them made an exchange fail.
    pub(crate) suspects: usize,
    /// When to look without being asked.
    pub(crate) due: Option<Instant>,
    /// Number of the last exchange.
    pub(crate) number: u64,
    looks: mpsc::Receiver<Look>,
    /// Whoever asked to look and was not answered yet.
    asked: Vec<Look>,
    settlements: mpsc::UnboundedReceiver<Ended>,
    /// Kept for the executors to clone; gone when draining, so that the last of them closes the channel.
    settled: Option<mpsc::UnboundedSender<Ended>>,
    draining: CancellationToken,
}

impl Inbox {
    pub(crate) fn new(
        looks: mpsc::Receiver<Look>,
        handlers: Handle,
        draining: CancellationToken,
    ) -> Self {
        // Bounded by the slots: each sends one settlement.
        let (settled, settlements) = mpsc::unbounded_channel();
        Self {
            waiting: Vec::new(),
            large: Vec::new(),
            uploads: JoinSet::new(),
            claimed: Vec::new(),
            handlers,
            suspects: 0,
            due: None,
            number: 0,
            looks,
            asked: Vec::new(),
            settlements,
            settled: Some(settled),
            draining,
        }
    }

    /// Waits until there is something to do; `false` when draining is done.
    pub(crate) async fn wait(&mut self) -> bool {
        loop {
            let takes_work = self.takes_work();
            let due = self.due.filter(|_| takes_work);
            let at_due = tokio::time::sleep_until(due.unwrap_or_else(Instant::now).into());
            tokio::select! {
                ended = self.settlements.recv() => {
                    let more = ended.is_some();
                    ended.into_iter().for_each(|ended| self.take_in(ended));
                    self.take_waiting();
                    return more;
                }
                // A slot is idle, and nobody who settles has looked for another job.
                Some(_) = self.uploads.join_next(), if takes_work => return true,
                Some(look) = self.looks.recv() => {
                    self.asked.push(look);
                    return true;
                }
                () = at_due, if due.is_some() => {
                    self.due = None;
                    return true;
                }
                () = self.draining.cancelled(), if takes_work => {}
            }
        }
    }

    /// Waits before the next try; not any longer once draining begins, which may make it needless.
    pub(crate) async fn pause(&mut self, pause: Duration) {
        let asleep = tokio::time::sleep(pause);
        match self.takes_work() {
            true => drop(self.draining.run_until_cancelled(asleep).await),
            false => asleep.await,
        }
    }

    /// Whether new work may be taken: until draining.
    pub(crate) fn takes_work(&mut self) -> bool {
        if self.draining.is_cancelled() && self.settled.take().is_some() {
            self.asked.clear();
            self.looks.close();
        }
        self.settled.is_some()
    }

    /// Where an executor sends its settlement; `None` while draining.
    pub(crate) fn settled(&mut self) -> Option<mpsc::UnboundedSender<Ended>> {
        self.takes_work();
        self.settled.clone()
    }

    /// The queue whose token was taken last.
    pub(crate) fn woken(&self) -> Option<&QueueName> {
        self.asked.last()?.woken.as_ref()
    }

    /// Tells whoever asked to look that it is done.
    pub(crate) fn answer_looks(&mut self, pulse: &Pulse) {
        self.asked.drain(..).for_each(|look| look.answer(pulse));
    }

    /// Takes in whatever has ended meanwhile.
    pub(crate) fn take_waiting(&mut self) {
        while let Ok(ended) = self.settlements.try_recv() {
            self.take_in(ended);
        }
    }

    fn take_in(&mut self, ended: Ended) {
        match ended.settlement.is_large() {
            true => self.large.push(ended),
            false => self.waiting.push(ended.settlement),
        }
    }

    /// As many settlements as one exchange may carry; a single larger one passes alone.
    pub(crate) fn batch(&mut self) -> Vec<Settlement> {
        let most = if self.suspects > 0 { 1 } else { Exchange::MAX_SETTLEMENTS };
        self.suspects = self.suspects.saturating_sub(1);
        let mut bytes = 0;
        let fits = self.waiting.iter().take(most).take_while(|settlement| {
            bytes += settlement.size();
            bytes <= Exchange::MAX_BYTES
        });
        let count = fits.count().max(1).min(self.waiting.len());
        self.waiting.drain(..count).collect()
    }
}
