//! Exchanges with one partition: brings what ended, takes what fits the idle slots, and hands it to the executor.
//!
//! One exchange is in flight at a time, each with its number. One whose reply got lost is repeated as it is, until it is
//! answered: its claims are ours already, and nobody else will run them before their leases end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crunch_common::broker::{
    Broker, Claim, Error, Exchange, Exchanged, Settled, Settlement, WorkerId,
};
use crunch_common::job::Partition;
use crunch_common::queue::QueueName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::{Look, Reachability};
use crate::executor::Executor;

pub(crate) struct Processor {
    /// With a connection of its own.
    pub(crate) broker: Broker,
    pub(crate) partition: Partition,
    pub(crate) worker: WorkerId,
    pub(crate) lease: Duration,
    pub(crate) queues: Vec<QueueName>,
    /// Whether the queues take turns at being first.
    pub(crate) rotate: bool,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) executor: Arc<Executor>,
}

/// What the processor waits for, and what it has at hand.
struct Inbox {
    looks: mpsc::Receiver<Look>,
    settlements: mpsc::UnboundedReceiver<Settlement>,
    /// Kept for the executors to clone; gone when draining, so that the last of them closes the channel.
    settled: Option<mpsc::UnboundedSender<Settlement>>,
    waiting: Vec<Settlement>,
    /// Whoever asked to look and was not answered yet.
    asked: Vec<Look>,
    /// When to look without being asked.
    due: Option<Instant>,
    number: u64,
}

impl Processor {
    /// Works until `draining` fires and everything claimed was settled, or `give_up` fires.
    pub(crate) async fn run(
        mut self,
        looks: mpsc::Receiver<Look>,
        draining: CancellationToken,
        give_up: CancellationToken,
    ) {
        // Bounded by the slots: each sends one settlement.
        let (settled, settlements) = mpsc::unbounded_channel();
        let mut inbox = Inbox {
            looks,
            settlements,
            settled: Some(settled),
            waiting: Vec::new(),
            asked: Vec::new(),
            due: None,
            number: 0,
        };
        while inbox.wait(&draining).await {
            let Some(()) = give_up.run_until_cancelled(self.work(&mut inbox)).await else { return };
        }
    }

    /// Exchanges until nothing is left to bring and nothing more is to be had.
    async fn work(&mut self, inbox: &mut Inbox) {
        loop {
            let slots = self.idle_slots(inbox);
            let exchange = self.next_exchange(inbox, slots.as_ref());
            let wanted = exchange.want;
            let exchanged = self.send(&exchange).await;
            inbox.number = exchange.number;
            self.note(&exchange, &exchanged.settled);
            inbox.due = self.next_look(&exchanged);
            let got = exchanged.claims.len();
            if let (Some(slots), Some(settled)) = (slots, &inbox.settled) {
                self.start(exchanged.claims, slots, settled);
            }
            if !exchanged.drain {
                inbox.asked.clear();
            }
            inbox.take_waiting();
            let may_have_more = got > 0 && got == wanted && self.slots.available_permits() > 0;
            if inbox.waiting.is_empty() && !exchanged.more && !may_have_more {
                return;
            }
        }
    }

    /// As many slots as are idle and one exchange can fill; none while draining.
    fn idle_slots(&self, inbox: &Inbox) -> Option<OwnedSemaphorePermit> {
        inbox.settled.as_ref()?;
        let idle = self.slots.available_permits().min(Exchange::MAX_CLAIMS);
        // Another partition's processor may have been quicker: then half as many, and so on.
        let fewer =
            std::iter::successors(Some(idle), |&count| Some(count / 2).filter(|&half| half > 0));
        fewer
            .filter_map(|count| u32::try_from(count).ok().filter(|&count| count > 0))
            .find_map(|count| self.slots.clone().try_acquire_many_owned(count).ok())
    }

    fn next_exchange(
        &mut self,
        inbox: &mut Inbox,
        slots: Option<&OwnedSemaphorePermit>,
    ) -> Exchange {
        let queues = match inbox.settled {
            Some(_) => self.queues.iter().take(Exchange::MAX_QUEUES).cloned().collect(),
            None => Vec::new(),
        };
        if self.rotate {
            self.queues.rotate_left(1);
        }
        Exchange {
            worker: self.worker,
            number: inbox.number + 1,
            lease: self.lease,
            queues,
            settlements: inbox.batch(),
            want: slots.map_or(0, OwnedSemaphorePermit::num_permits),
            busy: self.executor.running.count(),
        }
    }

    /// Sends an exchange until it is answered.
    async fn send(&self, exchange: &Exchange) -> Exchanged {
        let mut redis = Reachability::of("processor");
        loop {
            match self.broker.exchange(self.partition, exchange).await {
                Ok(exchanged) => {
                    redis.back();
                    return exchanged;
                }
                Err(error @ Error::StaleExchange) => {
                    // Two processes would have to share a random id. Nothing can be claimed under this number.
                    tracing::error!(%error, number = exchange.number, "exchange refused");
                    return Exchanged::nothing();
                }
                Err(error) => tokio::time::sleep(redis.failed(&error)).await,
            }
        }
    }

    fn note(&self, exchange: &Exchange, settled: &[Settled]) {
        for (settlement, settled) in exchange.settlements.iter().zip(settled) {
            let key = settlement.key();
            self.executor.running.forget(key);
            match settled {
                Settled::Done => {}
                Settled::Stale => {
                    tracing::warn!(job.id = %key.id, epoch = %key.epoch, "stale: another attempt holds the job, this outcome is dropped");
                }
                Settled::Unknown => {
                    tracing::warn!(job.id = %key.id, "the job is gone, its outcome is dropped")
                }
            }
        }
    }

    /// When to look without being asked: at the next delayed job's time; while chosen to drain, after a lease.
    fn next_look(&self, exchanged: &Exchanged) -> Option<Instant> {
        let drained = exchanged.drain.then_some(self.lease);
        drained.or(exchanged.next_due).map(|wait| Instant::now() + wait)
    }

    fn start(
        &self,
        claims: Vec<Claim>,
        mut slots: OwnedSemaphorePermit,
        settled: &mpsc::UnboundedSender<Settlement>,
    ) {
        for claim in claims {
            let Some(slot) = slots.split(1) else {
                tracing::error!("more jobs came than were asked for; the lease of one will end");
                return;
            };
            let (executor, settled) = (self.executor.clone(), settled.clone());
            // Only a worker that gave up waiting has closed the channel; the lease then ends by itself.
            let settle = move |settlement| drop(settled.send(settlement));
            match executor.admit(claim, slot) {
                Ok(job) => {
                    tokio::spawn(async move { executor.run(job).await.map(settle) });
                }
                Err(settlement) => settle(settlement),
            }
        }
    }
}

impl Inbox {
    /// Waits until there is something to do; `false` when draining is done.
    async fn wait(&mut self, draining: &CancellationToken) -> bool {
        loop {
            let due = self.due.filter(|_| self.settled.is_some());
            let at_due = tokio::time::sleep_until(due.unwrap_or_else(Instant::now).into());
            tokio::select! {
                settlement = self.settlements.recv() => match settlement {
                    Some(settlement) => {
                        self.waiting.push(settlement);
                        self.take_waiting();
                        return true;
                    }
                    None => return false,
                },
                Some(look) = self.looks.recv() => {
                    self.asked.push(look);
                    return true;
                }
                () = at_due, if due.is_some() => {
                    self.due = None;
                    return true;
                }
                () = draining.cancelled(), if self.settled.is_some() => {
                    self.settled = None;
                    self.asked.clear();
                    self.looks.close();
                }
            }
        }
    }

    fn take_waiting(&mut self) {
        while let Ok(settlement) = self.settlements.try_recv() {
            self.waiting.push(settlement);
        }
    }

    /// As many settlements as one exchange may carry; a single larger one passes alone.
    fn batch(&mut self) -> Vec<Settlement> {
        let mut bytes = 0;
        let fits = self.waiting.iter().take(Exchange::MAX_SETTLEMENTS).take_while(|settlement| {
            bytes += settlement.size();
            bytes <= Exchange::MAX_BYTES
        });
        let count = fits.count().max(1).min(self.waiting.len());
        self.waiting.drain(..count).collect()
    }
}
