//! Exchanges with one partition: brings what became of deliveries, and takes as many as there are idle slots.
//!
//! One exchange is in flight at a time, each with its number; one whose reply got lost is repeated as it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crunch_common::backoff::Backoff;
use crunch_common::broker::{
    Broker, Error, Exchange, Exchanged, LeaseKey, ReleaseCause, Settled, Settlement, TaskNames,
    WorkerId,
};
use crunch_common::job::Partition;
use crunch_common::telemetry::LogLimit;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::handler::DeliveryHandler;
use super::held::Held;
use super::listener::Look;
use super::{LEASE, queue};
use crate::problem::BURST;

/// Who makes the deliveries.
pub(super) struct Pool {
    pub(super) slots: Arc<Semaphore>,
    pub(super) handler: Arc<DeliveryHandler>,
    pub(super) held: Arc<Held>,
}

pub(super) struct Consumer {
    /// With a connection of its own.
    broker: Broker,
    partition: Partition,
    worker: WorkerId,
    pool: Pool,
    /// Number of the last exchange.
    number: u64,
    /// Outcomes that no exchange has carried yet.
    waiting: Vec<Settlement>,
    under_way: JoinSet<Settlement>,
    leases: HashMap<Id, LeaseKey>,
    /// When to look without being asked.
    due: Option<Instant>,
    /// Whoever asked to look and was not answered yet.
    asked: Vec<Look>,
}

impl Consumer {
    pub(super) fn new(broker: Broker, partition: Partition, worker: WorkerId, pool: Pool) -> Self {
        Self {
            broker,
            partition,
            worker,
            pool,
            number: 0,
            waiting: Vec::new(),
            under_way: JoinSet::new(),
            leases: HashMap::new(),
            due: None,
            asked: Vec::new(),
        }
    }

    /// Works until `stop` fires and everything claimed was settled.
    pub(super) async fn run(mut self, mut looks: mpsc::Receiver<Look>, stop: CancellationToken) {
        loop {
            self.wait(&mut looks, &stop).await;
            if stop.is_cancelled() {
                self.asked.clear();
                looks.close();
            }
            while self.exchange(&stop).await {}
            if stop.is_cancelled() && self.under_way.is_empty() && self.waiting.is_empty() {
                return;
            }
        }
    }

    /// Waits until there is something to do.
    async fn wait(&mut self, looks: &mut mpsc::Receiver<Look>, stop: &CancellationToken) {
        let stopping = stop.is_cancelled();
        let due = self.due.filter(|_| !stopping);
        tokio::select! {
            Some(ended) = self.under_way.join_next_with_id() => self.ended(ended),
            Some(look) = looks.recv(), if !stopping => self.asked.push(look),
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                self.due = None;
            }
            () = stop.cancelled(), if !stopping => {}
        }
        while let Some(ended) = self.under_way.try_join_next_with_id() {
            self.ended(ended);
        }
    }

    fn ended(&mut self, ended: Result<(Id, Settlement), JoinError>) {
        match ended {
            Ok((id, settlement)) => {
                self.leases.remove(&id);
                self.waiting.push(settlement);
            }
            // Its lease ends, and the delivery is made again: a loss is counted, and with the fifth it fails.
            Err(error) => {
                if let Some(left_out) = PANICKED.admit() {
                    tracing::error!(%error, left_out, "a delivery panicked");
                }
                self.leases.remove(&error.id()).iter().for_each(|&key| self.pool.held.forget(key));
            }
        }
    }

    /// Brings and takes once; whether to do it again at once.
    async fn exchange(&mut self, stop: &CancellationToken) -> bool {
        let takes = !stop.is_cancelled();
        let most = self.waiting.len().min(Exchange::MAX_SETTLEMENTS);
        let mut exchange = Exchange {
            worker: self.worker,
            number: self.number + 1,
            lease: LEASE,
            tasks: TaskNames::default(),
            queues: if takes { vec![queue()] } else { Vec::new() },
            settlements: self.waiting.drain(..most).collect(),
            want: if takes {
                self.pool.slots.available_permits().min(Exchange::MAX_CLAIMS)
            } else {
                0
            },
            busy: self.under_way.len(),
        };
        if !takes && exchange.settlements.is_empty() {
            return false;
        }
        let answer = self.send(&mut exchange).await;
        self.number = exchange.number;
        exchange.settlements.iter().for_each(|it| self.pool.held.forget(it.key()));
        let Some(exchanged) = answer else { return !self.waiting.is_empty() };
        note(&exchange, &exchanged.settled);
        let may_have_more = exchanged.more
            || (!exchanged.claims.is_empty() && exchanged.claims.len() == exchange.want);
        self.take(exchanged);
        !self.waiting.is_empty() || (may_have_more && self.pool.slots.available_permits() > 0)
    }

    /// Sends an exchange until it is answered; `None` if its answer cannot be read: then the leases of what it carried end.
    async fn send(&self, exchange: &mut Exchange) -> Option<Exchanged> {
        let (mut failures, mut unreadable, mut stale) = (0, 0, 0);
        loop {
            match self.broker.exchange(self.partition, exchange).await {
                Ok(exchanged) => return Some(exchanged),
                Err(Error::StaleExchange) => {
                    exchange.number += 1;
                    // The first is asked again at once.
                    stale += 1;
                    if stale > 1 {
                        tokio::time::sleep(Backoff::FOR_CONNECTIONS.draw(stale)).await;
                    }
                }
                Err(error) => {
                    failures += 1;
                    // A refusal is about the setup of Redis, and nothing that the exchange carries is to blame.
                    unreadable += u32::from(matches!(error, Error::Unreadable { .. }));
                    if failures == 1
                        && let Some(left_out) = UNAVAILABLE.admit()
                    {
                        tracing::warn!(%error, left_out, "redis does not serve the deliverer, retrying");
                    }
                    if unreadable > 1 {
                        if let Some(left_out) = UNREADABLE.admit() {
                            tracing::error!(%error, settlements = exchange.settlements.len(), left_out, "the answer to an exchange of the deliverer cannot be read");
                        }
                        return None;
                    }
                    tokio::time::sleep(Backoff::FOR_CONNECTIONS.draw(failures)).await;
                }
            }
        }
    }

    fn take(&mut self, exchanged: Exchanged) {
        let renewal = exchanged.drain.then_some(LEASE / 2);
        self.due = renewal.or(exchanged.next_due).map(|wait: Duration| Instant::now() + wait);
        if !exchanged.drain {
            self.asked.clear();
        }
        for lease in exchanged.unreadable {
            self.waiting.push(lease.release(ReleaseCause::Unreadable));
        }
        for claim in exchanged.claims {
            let key = claim.lease.key();
            let Ok(slot) = self.pool.slots.clone().try_acquire_owned() else {
                // There are never more claims than were wanted.
                self.waiting.push(claim.lease.release(ReleaseCause::Shutdown));
                continue;
            };
            self.pool.held.add(key);
            let handler = self.pool.handler.clone();
            let task = self.under_way.spawn(async move {
                let settlement = handler.deliver(claim).await;
                drop(slot);
                settlement
            });
            self.leases.insert(task.id(), key);
        }
    }
}

/// Each may come once for each delivery, and those who submit decide how many there are.
static PANICKED: LogLimit = LogLimit::new(BURST);
static UNAVAILABLE: LogLimit = LogLimit::new(BURST);
static UNREADABLE: LogLimit = LogLimit::new(BURST);
static DROPPED: LogLimit = LogLimit::new(BURST);

fn note(exchange: &Exchange, settled: &[Settled]) {
    for (settlement, settled) in exchange.settlements.iter().zip(settled) {
        if *settled != Settled::Done
            && let Some(left_out) = DROPPED.admit()
        {
            tracing::warn!(job.id = %settlement.key().id, ?settled, left_out, "the outcome of this delivery is dropped: it was taken back, or is gone");
        }
    }
}
