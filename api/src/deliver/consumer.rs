//! Exchanges with one partition: settles deliveries, and claims as many as there are idle slots.
//!
//! One exchange is in flight at a time, each with its number; one whose reply was lost is repeated unchanged.

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

/// What a consumer needs to make deliveries.
pub(super) struct Pool {
    pub(super) slots: Arc<Semaphore>,
    pub(super) handler: Arc<DeliveryHandler>,
    pub(super) held: Arc<Held>,
}

pub(super) struct Consumer {
    /// With its own connection.
    broker: Broker,
    partition: Partition,
    worker: WorkerId,
    pool: Pool,
    /// The number of the last exchange.
    number: u64,
    /// Settlements that no exchange has carried yet.
    waiting: Vec<Settlement>,
    in_flight: JoinSet<Settlement>,
    leases: HashMap<Id, LeaseKey>,
    /// When to exchange without a request.
    due: Option<Instant>,
    /// Requests to look that are not answered yet.
    requests: Vec<Look>,
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
            in_flight: JoinSet::new(),
            leases: HashMap::new(),
            due: None,
            requests: Vec::new(),
        }
    }

    /// Runs until `stop` is cancelled and everything claimed is settled.
    pub(super) async fn run(mut self, mut looks: mpsc::Receiver<Look>, stop: CancellationToken) {
        loop {
            self.wait(&mut looks, &stop).await;
            if stop.is_cancelled() {
                self.requests.clear();
                looks.close();
            }
            while self.exchange(&stop).await {}
            if stop.is_cancelled() && self.in_flight.is_empty() && self.waiting.is_empty() {
                return;
            }
        }
    }

    /// Waits until there is something to do.
    async fn wait(&mut self, looks: &mut mpsc::Receiver<Look>, stop: &CancellationToken) {
        let stopping = stop.is_cancelled();
        let due = self.due.filter(|_| !stopping);
        tokio::select! {
            Some(ended) = self.in_flight.join_next_with_id() => self.ended(ended),
            Some(look) = looks.recv(), if !stopping => self.requests.push(look),
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                self.due = None;
            }
            () = stop.cancelled(), if !stopping => {}
        }
        while let Some(ended) = self.in_flight.try_join_next_with_id() {
            self.ended(ended);
        }
    }

    fn ended(&mut self, ended: Result<(Id, Settlement), JoinError>) {
        match ended {
            Ok((id, settlement)) => {
                self.leases.remove(&id);
                self.waiting.push(settlement);
            }
            // Its lease expires, and the delivery is made again: this counts as a loss, and the fifth loss fails it.
            Err(error) => {
                if let Some(left_out) = PANICKED.admit() {
                    tracing::error!(%error, left_out, "a delivery panicked");
                }
                self.leases.remove(&error.id()).iter().for_each(|&key| self.pool.held.forget(key));
            }
        }
    }

    /// Exchanges once; returns whether to exchange again at once.
    async fn exchange(&mut self, stop: &CancellationToken) -> bool {
        let claims = !stop.is_cancelled();
        let most = self.waiting.len().min(Exchange::MAX_SETTLEMENTS);
        let mut exchange = Exchange {
            worker: self.worker,
            number: self.number + 1,
            lease: LEASE,
            tasks: TaskNames::default(),
            queues: if claims { vec![queue()] } else { Vec::new() },
            settlements: self.waiting.drain(..most).collect(),
            want: if claims {
                self.pool.slots.available_permits().min(Exchange::MAX_CLAIMS)
            } else {
                0
            },
            busy: self.in_flight.len(),
        };
        if !claims && exchange.settlements.is_empty() {
            return false;
        }
        let answer = self.send(&mut exchange).await;
        self.number = exchange.number;
        exchange.settlements.iter().for_each(|it| self.pool.held.forget(it.key()));
        let Some(exchanged) = answer else { return !self.waiting.is_empty() };
        log_dropped(&exchange, &exchanged.settled);
        let may_have_more = exchanged.more
            || (!exchanged.claims.is_empty() && exchanged.claims.len() == exchange.want);
        self.start(exchanged);
        !self.waiting.is_empty() || (may_have_more && self.pool.slots.available_permits() > 0)
    }

    /// Sends an exchange until it is answered; `None` if its answer cannot be read: then the leases of what it carried
    /// expire.
    async fn send(&self, exchange: &mut Exchange) -> Option<Exchanged> {
        let (mut failures, mut unreadable, mut stale) = (0, 0, 0);
        loop {
            match self.broker.exchange(self.partition, exchange).await {
                Ok(exchanged) => return Some(exchanged),
                Err(Error::StaleExchange) => {
                    exchange.number += 1;
                    // The first one is repeated at once.
                    stale += 1;
                    if stale > 1 {
                        tokio::time::sleep(Backoff::FOR_CONNECTIONS.draw(stale)).await;
                    }
                }
                Err(error) => {
                    failures += 1;
                    // A rejection is caused by the setup of Redis, and not by the content of the exchange.
                    unreadable += u32::from(matches!(error, Error::Unreadable { .. }));
                    if failures == 1
                        && let Some(left_out) = UNAVAILABLE.admit()
                    {
                        tracing::warn!(%error, left_out, "cannot reach Redis to deliver webhooks, retrying");
                    }
                    if unreadable > 1 {
                        if let Some(left_out) = UNREADABLE.admit() {
                            tracing::error!(%error, settlements = exchange.settlements.len(), left_out, "cannot read the answer to an exchange of the deliverer, giving up its settlements");
                        }
                        return None;
                    }
                    tokio::time::sleep(Backoff::FOR_CONNECTIONS.draw(failures)).await;
                }
            }
        }
    }

    fn start(&mut self, exchanged: Exchanged) {
        let renewal = exchanged.drain.then_some(LEASE / 2);
        self.due = renewal.or(exchanged.next_due).map(|wait: Duration| Instant::now() + wait);
        if !exchanged.drain {
            self.requests.clear();
        }
        for lease in exchanged.unreadable {
            self.waiting.push(lease.release(ReleaseCause::Unreadable));
        }
        for claim in exchanged.claims {
            let key = claim.lease.key();
            let Ok(slot) = self.pool.slots.clone().try_acquire_owned() else {
                // There are never more claims than requested.
                self.waiting.push(claim.lease.release(ReleaseCause::Shutdown));
                continue;
            };
            self.pool.held.add(key);
            let handler = self.pool.handler.clone();
            let task = self.in_flight.spawn(async move {
                let settlement = handler.deliver(claim).await;
                drop(slot);
                settlement
            });
            self.leases.insert(task.id(), key);
        }
    }
}

/// Each line may occur once per delivery, and clients determine how many deliveries there are.
static PANICKED: LogLimit = LogLimit::new(BURST);
static UNAVAILABLE: LogLimit = LogLimit::new(BURST);
static UNREADABLE: LogLimit = LogLimit::new(BURST);
static DROPPED: LogLimit = LogLimit::new(BURST);

fn log_dropped(exchange: &Exchange, settled: &[Settled]) {
    for (settlement, settled) in exchange.settlements.iter().zip(settled) {
        if *settled != Settled::Done
            && let Some(left_out) = DROPPED.admit()
        {
            tracing::warn!(job.id = %settlement.key().id, ?settled, left_out, "the outcome of this delivery is dropped: it was reclaimed or deleted");
        }
    }
}
