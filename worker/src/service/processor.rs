//! Exchanges with one partition: brings what ended, takes what fits the idle slots, and hands it to the executor.
//!
//! One exchange is in flight at a time, each with its number. One whose reply got lost is repeated as it is, until it is
//! answered: its claims are ours already, and nobody else will run them before their leases end. While there is more than one
//! exchange carries, a secondary works beside it on the other strand, and settles what it claims itself. Results that are large
//! travel beside the exchanges (`upload.rs`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use crunch_common::backoff::Backoff;
use crunch_common::broker::{
    Broker, Claim, Error, Exchange, Exchanged, ReleaseCause, Sequence, Settled, Settlement,
    TaskNames, WorkerId,
};
use crunch_common::job::Partition;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::inbox::Inbox;
use super::rotation::Rotation;
use super::upload::{self, Upload};
use super::{Look, Reachability};
use crate::executor::{Ended, Executor};
use crate::health::Pulse;
use crate::slots::{Slot, Slots};

pub(crate) struct Processor {
    /// With a connection of its own.
    pub(crate) broker: Broker,
    pub(crate) partition: Partition,
    pub(crate) strand: Sequence,
    /// Asked to look as well when one exchange does not carry all there is to claim.
    pub(crate) secondary: Option<mpsc::Sender<Look>>,
    pub(crate) worker: WorkerId,
    pub(crate) lease: Duration,
    pub(crate) queues: Rotation,
    /// The tasks it has code for.
    pub(crate) tasks: TaskNames,
    pub(crate) slots: Arc<Slots>,
    pub(crate) executor: Arc<Executor>,
    pub(crate) pulse: Pulse,
}

/// No answer that carries little takes longer.
const ANSWERS_WITHIN: Duration = Duration::from_millis(2500);
/// What any network carries, in bytes a second: large results get time for their way.
const SLOWEST_NETWORK: usize = 512 * 1024;

impl Processor {
    /// Works until `draining` fires and everything claimed was settled, or `give_up` fires.
    pub(crate) async fn run(
        mut self,
        looks: mpsc::Receiver<Look>,
        handlers: Handle,
        draining: CancellationToken,
        give_up: CancellationToken,
    ) {
        let mut inbox = Inbox::new(looks, handlers, draining);
        while inbox.wait().await {
            let Some(()) = give_up.run_until_cancelled(self.work(&mut inbox)).await else { return };
        }
        give_up.run_until_cancelled(inbox.uploads.join_all()).await;
    }

    /// Exchanges until nothing is left to bring and nothing more is to be had. What one exchange has claimed is started
    /// while the next is under way, so that Redis need not wait for it.
    async fn work(&mut self, inbox: &mut Inbox) {
        loop {
            self.upload(inbox);
            let slots = self.idle_slots(inbox);
            let mut exchange = self.next_exchange(inbox, &slots);
            let start = self.start(inbox);
            let (outcome, ()) = tokio::join!(self.send(inbox, &mut exchange), async {
                start.into_iter().for_each(Start::now)
            });
            inbox.number = exchange.number;
            let more = match outcome {
                Ok(exchanged) => self.take_in(inbox, &exchange, exchanged, slots),
                Err(error) => self.suspect(inbox, exchange, &error),
            };
            inbox.take_waiting();
            if inbox.waiting.is_empty() && !more {
                self.start(inbox).into_iter().for_each(Start::now);
                self.upload(inbox);
                if inbox.waiting.is_empty() {
                    return;
                }
            }
        }
    }

    /// Sends what is large on its way, beside the exchanges.
    fn upload(&self, inbox: &mut Inbox) {
        for Ended { settlement, context } in inbox.large.drain(..) {
            let upload = Upload {
                broker: self.broker.clone(),
                partition: self.partition,
                executor: self.executor.clone(),
                key: settlement.key(),
                exchange: Exchange::only(self.worker, self.lease, vec![settlement]),
                _context: context,
            };
            inbox.uploads.spawn(upload.run());
        }
    }

    /// As many slots as are idle and the next exchange can fill; none while draining, while settlements are suspect, and while the
    /// machine can run no task.
    fn idle_slots(&self, inbox: &mut Inbox) -> Vec<Slot> {
        let cannot_run = || self.executor.suspensions.all_until().is_some();
        if !inbox.takes_work() || inbox.suspects > 0 || cannot_run() {
            return Vec::new();
        }
        self.slots.take(self.partition, Exchange::claims_from(self.queues.width()))
    }

    fn next_exchange(&mut self, inbox: &mut Inbox, slots: &[Slot]) -> Exchange {
        let queues = match inbox.takes_work() {
            true => self.queues.next(inbox.woken()),
            false => Vec::new(),
        };
        Exchange {
            worker: self.worker,
            number: inbox.number + 1,
            lease: self.lease,
            tasks: self.runnable(),
            queues,
            settlements: inbox.batch(),
            want: slots.len(),
            busy: self.slots.busy_beside(slots.len()),
        }
    }

    /// The tasks it can run now. Without those that are suspended: it would get the jobs it has just given back.
    fn runnable(&self) -> TaskNames {
        let Executor { registry, suspensions, .. } = &*self.executor;
        match suspensions.any() {
            true => registry.names_but(|task| suspensions.is_suspended(task)),
            false => self.tasks.clone(),
        }
    }

    /// Sends an exchange until it is answered. An answer that twice cannot be read is an error; while draining so is any
    /// that could not bring back anything.
    async fn send(&self, inbox: &mut Inbox, exchange: &mut Exchange) -> Result<Exchanged, Error> {
        let mut redis = Reachability::of("processor").felt_in(&self.pulse);
        let (mut unreadable, mut stale) = (0, 0);
        loop {
            let _answer = self.pulse.expects(answers_within(exchange));
            match self.broker.exchange_on(self.strand, self.partition, exchange).await {
                Ok(exchanged) => {
                    redis.back();
                    return Ok(exchanged);
                }
                Err(error @ Error::StaleExchange) => {
                    // Two processes would have to share a random id. What is brought must arrive all the same.
                    tracing::error!(%error, number = exchange.number, "exchange refused");
                    exchange.number += 1;
                    // The first is asked again at once. Refused on and on is a worker that was reclaimed while it lives.
                    stale += 1;
                    if stale > 1 {
                        inbox.pause(Backoff::FOR_CONNECTIONS.draw(stale)).await;
                    }
                }
                Err(error @ Error::Unreadable { .. }) if unreadable == 1 => return Err(error),
                Err(error) if exchange.settlements.is_empty() && !inbox.takes_work() => {
                    return Err(error);
                }
                Err(error) => {
                    unreadable += usize::from(matches!(error, Error::Unreadable { .. }));
                    inbox.pause(redis.failed(&error)).await;
                }
            }
        }
    }

    /// Notes what was settled and what was claimed. Returns whether to ask again at once.
    fn take_in(
        &self,
        inbox: &mut Inbox,
        exchange: &Exchange,
        exchanged: Exchanged,
        slots: Vec<Slot>,
    ) -> bool {
        self.note(exchange, &exchanged.settled);
        self.slots.drain(self.partition, exchanged.drain);
        inbox.due = self.next_look(&exchanged);
        let got = exchanged.claims.len();
        for lease in exchanged.unreadable {
            inbox.waiting.push(lease.release(ReleaseCause::Unreadable));
        }
        inbox.claimed.extend(exchanged.claims.into_iter().zip(slots));
        if !exchanged.drain {
            inbox.answer_looks(&self.pulse);
        }
        let may_have_more = got > 0 && got == exchange.want && self.slots.any_idle();
        if let Some(secondary) = self.secondary.as_ref().filter(|_| may_have_more) {
            // One that looks already, or is about to, need not be asked.
            let _ = secondary.try_send(Look::for_all());
        }
        exchanged.more || may_have_more
    }

    fn note(&self, exchange: &Exchange, settled: &[Settled]) {
        for (settlement, settled) in exchange.settlements.iter().zip(settled) {
            upload::note(&self.executor, settlement.key(), *settled);
        }
    }

    /// When to look without being asked: at the next delayed job's time, which is enough for one of two; while running empty,
    /// before the reservation ends.
    fn next_look(&self, exchanged: &Exchanged) -> Option<Instant> {
        let renewal = exchanged.drain.then_some(self.lease / 2);
        let next_due = exchanged.next_due.filter(|_| self.strand == Sequence::Primary);
        renewal.or(next_due).map(|wait| Instant::now() + wait)
    }

    /// Whatever is claimed and not started yet, ready to be; while draining it is given back instead.
    fn start(&self, inbox: &mut Inbox) -> Vec<Start> {
        let claimed = std::mem::take(&mut inbox.claimed);
        let Some(settled) = inbox.settled() else {
            let release = |(claim, _): (Claim, Slot)| claim.lease.release(ReleaseCause::Shutdown);
            inbox.waiting.extend(claimed.into_iter().map(release));
            return Vec::new();
        };
        let start = |(claim, slot)| Start {
            executor: self.executor.clone(),
            claim,
            slot,
            handlers: inbox.handlers.clone(),
            settled: settled.clone(),
        };
        claimed.into_iter().map(start).collect()
    }

    /// Something in this exchange makes Redis stumble, again and again. Its settlements are sent one by one, and the one
    /// that is to blame is given up, so that it does not hold up all others. Returns whether to ask again at once.
    fn suspect(&self, inbox: &mut Inbox, exchange: Exchange, error: &Error) -> bool {
        inbox.answer_looks(&self.pulse);
        if error.is_transient() {
            return false;
        }
        tracing::error!(%error, settlements = exchange.settlements.len(), "an exchange cannot be answered");
        if let [to_blame] = &exchange.settlements[..] {
            let key = to_blame.key();
            tracing::error!(job.id = %key.id, "the outcome of this job cannot be settled: its lease will end");
            self.executor.running.forget(key);
        } else {
            inbox.suspects = exchange.settlements.len();
            inbox.waiting.splice(0..0, exchange.settlements);
        }
        false
    }
}

/// A job about to start.
struct Start {
    executor: Arc<Executor>,
    claim: Claim,
    slot: Slot,
    handlers: Handle,
    settled: mpsc::UnboundedSender<Ended>,
}

impl Start {
    fn now(self) {
        let Self { executor, claim, slot, handlers, settled } = self;
        // Only a worker that gave up waiting has closed the channel; the lease then ends by itself.
        let settle = move |ended| drop(settled.send(ended));
        match executor.admit(claim, slot) {
            Ok(job) => {
                handlers.spawn(async move { executor.run(job).await.map(settle) });
            }
            Err(settlement) => settle(Ended { settlement, context: None }),
        }
    }
}

fn answers_within(exchange: &Exchange) -> Duration {
    let bytes: usize = exchange.settlements.iter().map(Settlement::size).sum();
    ANSWERS_WITHIN + Duration::from_secs((bytes / SLOWEST_NETWORK) as u64)
}
