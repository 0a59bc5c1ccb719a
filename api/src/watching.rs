//! Waits for jobs: one subscription of this process serves all waiters, so they cost memory and no load on Redis.
//!
//! A request creates a waiter, makes sure that the subscription is active, and only then reads its job: the waiter
//! receives changes after the read. When the subscription was lost, all waiters read again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crunch_common::backoff::Backoff;
use crunch_common::broker::{Broker, Change, Error, JobRecord, Lookup};
use crunch_common::job::JobId;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::etag::IfNoneMatch;
use crate::metrics;

/// A waiter gets an error if Redis is unavailable for this long; a reconnection takes less.
const SUBSCRIPTION_TIME_LIMIT: Duration = Duration::from_millis(1800);

/// All waiters.
#[derive(Debug)]
pub(crate) struct Watchers {
    broker: Broker,
    waiters: Mutex<HashMap<JobId, watch::Sender<Option<Change>>>>,
    /// Increases with each new subscription; `None` while there is none.
    subscription: watch::Sender<Option<u64>>,
    closing: watch::Sender<bool>,
}

/// What a request waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Until {
    /// The job has ended.
    Ended,
    /// The job has another version than those that are known.
    Other(IfNoneMatch),
}

impl Until {
    fn met_by(&self, change: &Change) -> bool {
        match self {
            Self::Ended => change.status.is_terminal(),
            Self::Other(known) => !known.contains(change.version),
        }
    }

    fn met(&self, job: &JobRecord) -> bool {
        self.met_by(&Change { id: job.id, version: job.version, status: job.status })
    }
}

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wakeup {
    /// The job may have changed: read it.
    Look,
    /// Nothing happened until the deadline.
    Nothing,
    /// This process is about to end.
    Closing,
}

impl Watchers {
    pub(crate) fn new(broker: Broker) -> Self {
        let (subscription, closing) = (watch::Sender::new(None), watch::Sender::new(false));
        Self { broker, waiters: Mutex::default(), subscription, closing }
    }

    /// Reads a job once `until` is met, or after `time_limit`, or when this process is about to end, as it is then.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis becomes unavailable meanwhile.
    pub(crate) async fn wait(
        self: &Arc<Self>,
        id: JobId,
        until: Until,
        time_limit: Duration,
    ) -> Result<Lookup<JobRecord>, Error> {
        let deadline = Instant::now() + time_limit;
        let mut waiter = self.waiter(id);
        loop {
            waiter.ready().await?;
            let job = match self.broker.watch(id).await? {
                Lookup::Found(job) => job,
                nothing => return Ok(nothing),
            };
            let over = Instant::now() >= deadline || *self.closing.borrow();
            if over || until.met(&job) {
                return Ok(Lookup::Found(job));
            }
            waiter.next(|change| until.met_by(change), deadline).await;
        }
    }

    /// Creates a waiter for one job.
    pub(crate) fn waiter(self: &Arc<Self>, id: JobId) -> Waiter {
        let mut waiters = self.waiters.lock();
        let sender = waiters.entry(id).or_insert_with(|| watch::Sender::new(None));
        metrics::waiting(1.0);
        let subscription = self.subscription.subscribe();
        let closing = self.closing.subscribe();
        Waiter { id, changes: sender.subscribe(), subscription, closing, watchers: self.clone() }
    }

    /// Ends all waits at once: the process is about to end.
    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Waits until the process is about to end.
    pub(crate) async fn closing(&self) {
        // The sender lives as long as this value.
        let _ = self.closing.subscribe().wait_for(|&closing| closing).await;
    }

    /// Receives changes for all waiters until `shutdown` turns true.
    pub(crate) async fn run(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        tokio::select! {
            () = self.listen() => {}
            _ = shutdown.wait_for(|&stop| stop) => {}
        }
    }

    async fn listen(&self) {
        let mut failures = 0;
        for generation in 0_u64.. {
            match self.broker.changes().await {
                Ok(mut changes) => {
                    failures = 0;
                    self.subscription.send_replace(Some(generation));
                    let any_waits = || !self.waiters.lock().is_empty();
                    while let Some(change) = changes.next(any_waits).await {
                        self.publish(change);
                    }
                    tracing::info!("lost the subscription to changes, subscribing again");
                    self.subscription.send_replace(None);
                }
                Err(error) => {
                    failures += 1;
                    tracing::debug!(%error, failures, "cannot subscribe to changes");
                }
            }
            sleep(Backoff::FOR_CONNECTIONS.draw(failures.max(1))).await;
        }
    }

    fn publish(&self, change: Change) {
        if let Some(waiter) = self.waiters.lock().get(&change.id) {
            waiter.send_replace(Some(change));
        }
    }
}

/// Receives the changes of one job; unregistered when dropped.
#[derive(Debug)]
pub(crate) struct Waiter {
    id: JobId,
    changes: watch::Receiver<Option<Change>>,
    subscription: watch::Receiver<Option<u64>>,
    closing: watch::Receiver<bool>,
    watchers: Arc<Watchers>,
}

impl Waiter {
    /// Makes sure that changes are received: a read after this misses no later change.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub(crate) async fn ready(&mut self) -> Result<(), Error> {
        let subscribed = self.subscription.wait_for(Option::is_some);
        let subscribed = timeout(SUBSCRIPTION_TIME_LIMIT, subscribed).await.is_ok();
        self.subscription.mark_unchanged();
        self.changes.mark_unchanged();
        let unavailable = || Error::Unavailable { reason: "no subscription to changes".to_owned() };
        subscribed.then_some(()).ok_or_else(unavailable)
    }

    /// Waits for a change that matches, at most until `deadline`.
    pub(crate) async fn next(
        &mut self,
        matches: impl Fn(&Change) -> bool,
        deadline: Instant,
    ) -> Wakeup {
        tokio::select! {
            () = changed(&mut self.changes, matches) => Wakeup::Look,
            _ = self.subscription.changed() => Wakeup::Look,
            _ = self.closing.wait_for(|&closing| closing) => Wakeup::Closing,
            () = sleep_until(deadline) => Wakeup::Nothing,
        }
    }
}

/// Waits for a matching change that was received since [`Waiter::ready`]; the job was read after earlier ones.
async fn changed(changes: &mut watch::Receiver<Option<Change>>, matches: impl Fn(&Change) -> bool) {
    // The sender lives as long as there is a waiter.
    while changes.changed().await.is_ok() {
        if changes.borrow_and_update().as_ref().is_some_and(&matches) {
            return;
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        metrics::waiting(-1.0);
        let mut waiters = self.watchers.waiters.lock();
        // Dropped under the lock: of two waiters that end together, the second sees that it is the last.
        self.changes = watch::Sender::new(None).subscribe();
        if waiters.get(&self.id).is_some_and(|waiter| waiter.receiver_count() == 0) {
            waiters.remove(&self.id);
        }
    }
}
