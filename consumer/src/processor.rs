//! Exchanges with one partition: settles what ended, claims what fits the idle slots, and passes it to the runner.
//!
//! One exchange is in flight at a time, each with its number. One whose reply is lost is repeated unchanged until it is
//! answered: its claims already belong to this worker, and no other runs them before their leases expire. While there is
//! more than one exchange carries, a second processor works in parallel on the other sequence, and settles what it
//! claims itself. Large results are sent separately from the exchanges (`upload.rs`).

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crunch_common::backoff::Backoff;
use crunch_common::broker::{
    Claim, Error, Exchange, Exchanged, ReleaseCause, Sequence, Settled, Settlement, WorkerId,
};
use crunch_common::job::Partition;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::connection::{Connection, ConnectionTurn};
use crate::inbox::Inbox;
use crate::listener::WorkRequest;
use crate::slots::Failing;
use crate::start::Start;
use crate::upload::{Upload, record};
use crate::{Ended, Leases, PoolSlots, Pulse, Reachability, Rotation, Runner, Slot};

pub(crate) struct Processor<R> {
    pub(crate) connection: Arc<Connection>,
    pub(crate) partition: Partition,
    pub(crate) sequence: Sequence,
    /// Whether it is the second one: it claims only what the first leaves, and takes no requests.
    pub(crate) is_second: bool,
    pub(crate) worker: WorkerId,
    pub(crate) lease: Duration,
    pub(crate) queues: Rotation,
    pub(crate) slots: PoolSlots,
    pub(crate) leases: Arc<Leases>,
    pub(crate) runner: Arc<R>,
    pub(crate) pulse: Pulse,
}

/// How often a pool asks whether the slots are still reserved.
const RESERVATION_CHECK: Duration = Duration::from_secs(1);
/// In a cluster, partitions of other nodes do not wait longer for the answer to an exchange.
const HANGS_AFTER: Duration = Duration::from_secs(1);
/// No answer to a small exchange takes longer.
const ANSWERS_WITHIN: Duration = Duration::from_millis(2500);
/// The slowest supported network, in bytes a second: large results get time for their transfer.
const SLOWEST_NETWORK: usize = 512 * 1024;

impl<R: Runner> Processor<R> {
    /// Works until `draining` fires and everything claimed was settled, or `give_up` fires.
    pub(crate) async fn run(
        mut self,
        requests: mpsc::Receiver<WorkRequest>,
        runtime: Handle,
        draining: CancellationToken,
        give_up: CancellationToken,
    ) {
        let mut inbox = Inbox::new(requests, runtime, draining);
        while let Some(true) = give_up.run_until_cancelled(inbox.wait(|| self.turn())).await {
            let Some(()) = give_up.run_until_cancelled(self.work(&mut inbox)).await else { return };
        }
        give_up.run_until_cancelled(inbox.uploads.join_all()).await;
    }

    /// Waits until it may claim jobs that are known to wait, or may.
    async fn turn(&self) {
        loop {
            self.slots.turn(self.partition, self.is_second).await;
            match self.runner.suspended_until() {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => return,
            }
        }
    }

    /// Exchanges until nothing is left to settle and nothing more is to be claimed. What one exchange has claimed is
    /// started while the next is in flight, so that Redis need not wait for it.
    async fn work(&mut self, inbox: &mut Inbox) {
        let connection = self.connection.clone();
        loop {
            self.upload(inbox);
            let mut start = self.start(inbox);
            let turn = match connection.try_turn(self.partition) {
                Some(turn) => turn,
                None => {
                    start.drain(..).for_each(Start::now);
                    connection.turn(self.partition).await
                }
            };
            inbox.collect();
            let mut slots = self.idle_slots(inbox);
            let mut exchange = self.next_exchange(inbox, &slots);
            let sent = self.send(inbox, &mut exchange, &mut slots, turn);
            let (outcome, ()) =
                tokio::join!(sent, async { start.into_iter().for_each(Start::now) });
            inbox.number = exchange.number;
            let more = match outcome {
                Ok(exchanged) => self.apply(inbox, &exchange, exchanged, slots),
                Err(error) => self.isolate_failure(inbox, exchange, &error),
            };
            inbox.collect();
            if !inbox.has_work() && !more {
                self.start(inbox).into_iter().for_each(Start::now);
                self.upload(inbox);
                if !inbox.has_work() {
                    return;
                }
            }
        }
    }

    /// Starts the uploads of large settlements, separately from the exchanges.
    fn upload(&self, inbox: &mut Inbox) {
        for Ended { settlement, slot } in inbox.large.drain(..) {
            let upload = Upload {
                broker: self.connection.broker.clone(),
                partition: self.partition,
                leases: self.leases.clone(),
                runner: self.runner.clone(),
                lease: settlement.key(),
                exchange: Exchange::only(self.worker, self.lease, vec![settlement]),
                _slot: slot,
            };
            inbox.uploads.spawn(upload.run());
        }
    }

    /// Takes as many slots as are idle and the next exchange can fill; none while draining, while settlements are
    /// suspect, and while the runner can run nothing.
    fn idle_slots(&self, inbox: &mut Inbox) -> Vec<Slot> {
        if inbox.takes_request() {
            self.slots.wake(self.partition);
        }
        let cannot_run = || self.runner.suspended_until().is_some();
        if !inbox.takes_work() || inbox.suspects > 0 || cannot_run() {
            return Vec::new();
        }
        self.slots.take(self.partition, Exchange::claims_from(self.queues.width()))
    }

    fn next_exchange(&mut self, inbox: &mut Inbox, slots: &[Slot]) -> Exchange {
        // A consumer that is quiet names queues only to leave the token that it took to another one: it must not be chosen
        // for a job that waits to run alone.
        let is_open = inbox.takes_work() && (!self.slots.are_quiet() || inbox.woken().is_some());
        let queues = if is_open { self.queues.next(inbox.woken()) } else { Vec::new() };
        Exchange {
            worker: self.worker,
            number: inbox.number + 1,
            lease: self.lease,
            tasks: self.runner.tasks(),
            queues,
            settlements: inbox.batch(),
            want: slots.len(),
            busy: self.slots.busy_except(slots.len()),
        }
    }

    /// Sends an exchange until it is answered. An answer that cannot be read twice is an error; while draining, so is
    /// any failure of an exchange without settlements.
    async fn send(
        &self,
        inbox: &mut Inbox,
        exchange: &mut Exchange,
        slots: &mut Vec<Slot>,
        turn: ConnectionTurn<'_>,
    ) -> Result<Exchanged, Error> {
        let mut reachability =
            Reachability::of_partition("processor", &self.connection.broker, &self.pulse);
        let (mut unreadable, mut stale, mut turn, mut failing) = (0, 0, Some(turn), None);
        loop {
            // Other partitions do not wait for the pauses of this one.
            let turn = match turn.take() {
                Some(turn) => turn,
                None => self.connection.turn(self.partition).await,
            };
            let answer = self.pulse.expects(answers_within(exchange));
            let call = turn.broker.exchange_on(self.sequence, self.partition, exchange);
            let outcome = match self.connection.broker.is_cluster() && failing.is_none() {
                true => {
                    let mut call = pin!(call);
                    match tokio::time::timeout(HANGS_AFTER, &mut call).await {
                        Ok(outcome) => outcome,
                        Err(_) => {
                            failing = Some(self.fail(exchange, slots));
                            call.await
                        }
                    }
                }
                false => call.await,
            };
            drop((answer, turn));
            if failing.is_some() || outcome.is_err() {
                // In an answer that was lost, or is late.
                self.leases.may_be_held(self.partition);
            }
            if outcome.is_err() && failing.is_none() {
                failing = Some(self.fail(exchange, slots));
            }
            if slots.is_empty() && failing.is_some() && self.connection.broker.is_cluster() {
                exchange.want = 0;
            }
            match outcome {
                Ok(exchanged) => {
                    reachability.succeeded();
                    return Ok(exchanged);
                }
                Err(error @ Error::StaleExchange) => {
                    // This worker was reclaimed while it lives, or two processes share a random id. The settlements must
                    // arrive all the same.
                    tracing::error!(%error, number = exchange.number, "Redis rejected an exchange as stale");
                    exchange.number += 1;
                    // The first is retried immediately. A worker that was reclaimed while it lives is rejected again
                    // and again.
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
                    inbox.pause(reachability.failed(&error)).await;
                }
            }
        }
    }

    /// An exchange fails, or hangs, and is repeated until it is answered. In a cluster that may take long, and concerns
    /// all partitions of the node: the slots are for those of other nodes meanwhile. The same exchange claims nothing
    /// new then; what it has claimed, if its answer was lost, gets slots that are idle when that is known.
    fn fail(&self, exchange: &Exchange, slots: &mut Vec<Slot>) -> Failing {
        let broker = &self.connection.broker;
        if !broker.is_cluster() {
            return self.slots.failed(vec![self.partition]);
        }
        if exchange.want > 0 {
            self.slots.found(self.partition, exchange.want, 0);
            slots.clear();
        }
        if self.leases.of(self.partition).is_empty() {
            // Only an answer would end the reservation.
            self.slots.reserve(self.partition, false);
        }
        let node = broker.node(self.partition);
        self.slots.failed(broker.partitions().filter(|&it| broker.node(it) == node).collect())
    }

    /// Records what was settled and what was claimed. Returns whether to exchange again immediately.
    fn apply(
        &self,
        inbox: &mut Inbox,
        exchange: &Exchange,
        exchanged: Exchanged,
        mut slots: Vec<Slot>,
    ) -> bool {
        self.record(exchange, &exchanged.settled);
        self.slots.reserve(self.partition, exchanged.reserved);
        inbox.due = self.due_without_request(&exchanged);
        let claimed = exchanged.claims.len();
        if exchange.want > 0 {
            self.slots.found(self.partition, exchange.want, claimed);
        }
        for lease in exchanged.unreadable {
            inbox.waiting.push(lease.release(ReleaseCause::Unreadable));
        }
        if slots.len() < claimed {
            let taken = self.slots.take(self.partition, claimed - slots.len());
            if !taken.is_empty() {
                self.slots.found(self.partition, taken.len(), taken.len());
            }
            slots.extend(taken);
        }
        let mut claims = exchanged.claims;
        let surplus = claims.split_off(slots.len().min(claimed));
        let release = |claim: Claim| claim.lease.release(ReleaseCause::Worker);
        inbox.waiting.extend(surplus.into_iter().map(release));
        inbox.claimed.extend(claims.into_iter().zip(slots));
        if !exchanged.reserved {
            inbox.answer_requests(&self.pulse);
        }
        let may_claim_more = claimed > 0 && self.slots.is_turn_of(self.partition, self.is_second);
        exchanged.more || may_claim_more
    }

    fn record(&self, exchange: &Exchange, settled: &[Settled]) {
        for (settlement, settled) in exchange.settlements.iter().zip(settled) {
            record(&self.leases, &*self.runner, settlement.key(), *settled);
        }
    }

    /// Returns when to exchange without a request: when the next delayed job is due, which is enough for one of two;
    /// while slots run empty, soon: before the reservation ends, and because another pool may have the reservation.
    fn due_without_request(&self, exchanged: &Exchanged) -> Option<Instant> {
        let renewal = exchanged.reserved.then(|| RESERVATION_CHECK.min(self.lease / 2));
        let next_due = exchanged.next_due.filter(|_| !self.is_second);
        renewal.or(next_due).map(|wait| Instant::now() + wait)
    }

    /// Prepares the start of all jobs that are claimed and not started yet; while draining they are released instead.
    fn start(&self, inbox: &mut Inbox) -> Vec<Start<R>> {
        let claimed = std::mem::take(&mut inbox.claimed);
        let Some(settled) = inbox.settled() else {
            let release = |(claim, _): (Claim, Slot)| claim.lease.release(ReleaseCause::Worker);
            inbox.waiting.extend(claimed.into_iter().map(release));
            return Vec::new();
        };
        let start = |(claim, slot)| Start {
            runner: self.runner.clone(),
            leases: self.leases.clone(),
            claim,
            slot,
            runtime: inbox.runtime.clone(),
            settled: settled.clone(),
        };
        claimed.into_iter().map(start).collect()
    }

    /// Something in this exchange makes Redis fail, again and again. Its settlements are sent one by one, and the one
    /// that causes it is given up, so that it does not hold up all others. Returns whether to exchange again
    /// immediately.
    fn isolate_failure(&self, inbox: &mut Inbox, exchange: Exchange, error: &Error) -> bool {
        inbox.answer_requests(&self.pulse);
        if exchange.want > 0 {
            // Not at once again: a sweep leaves a new token for what waits.
            self.slots.found(self.partition, exchange.want, 0);
        }
        if error.is_transient() {
            return false;
        }
        // Nothing would renew the reservation, and no slot could be used.
        self.slots.reserve(self.partition, false);
        tracing::error!(%error, settlements = exchange.settlements.len(), "an exchange with Redis failed permanently");
        if let [failing] = &exchange.settlements[..] {
            let key = failing.key();
            tracing::error!(job.id = %key.id, "cannot settle the outcome of this job; it runs again when its lease expires");
            self.leases.forget(key);
        } else {
            inbox.suspects = exchange.settlements.len();
            inbox.waiting.splice(0..0, exchange.settlements);
        }
        false
    }
}

fn answers_within(exchange: &Exchange) -> Duration {
    let bytes: usize = exchange.settlements.iter().map(Settlement::size).sum();
    ANSWERS_WITHIN + Duration::from_secs((bytes / SLOWEST_NETWORK) as u64)
}
