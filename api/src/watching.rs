//! Waiting for jobs: one subscription of this process serves all who wait, so they cost memory and no load on Redis.
//!
//! A waiter takes a seat, makes sure that the subscription stands, and only then looks at its job: what happens after the
//! look is told. When the subscription was lost everybody looks again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crunch_common::backoff::Backoff;
use crunch_common::broker::{Broker, Change, Error, JobRecord, Lookup};
use crunch_common::job::JobId;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::etag::Known;
use crate::metrics;

/// Who waits while Redis is away is told so after this long; a reconnection takes less.
const SUBSCRIPTION_PATIENCE: Duration = Duration::from_millis(1800);

/// All who wait for jobs.
#[derive(Debug)]
pub(crate) struct Watchers {
    broker: Broker,
    seats: Mutex<HashMap<JobId, watch::Sender<Option<Change>>>>,
    /// Grows with each subscription that was made; `None` while there is none.
    subscription: watch::Sender<Option<u64>>,
    closing: watch::Sender<bool>,
}

/// What somebody waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Until {
    /// The job has ended.
    Ended,
    /// The job has another version than those that are known.
    Other(Known),
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

/// Why a wait went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// The job may have changed: look.
    Look,
    /// Nothing happened for as long as one was ready to wait.
    Nothing,
    /// This process is about to end.
    Closing,
}

impl Watchers {
    pub(crate) fn new(broker: Broker) -> Self {
        let (subscription, closing) = (watch::Sender::new(None), watch::Sender::new(false));
        Self { broker, seats: Mutex::default(), subscription, closing }
    }

    /// Reads a job once it is as wished, or after `patience`, or when this process is about to end, as it is then.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis goes away meanwhile.
    pub(crate) async fn wait(
        self: &Arc<Self>,
        id: JobId,
        until: Until,
        patience: Duration,
    ) -> Result<Lookup<JobRecord>, Error> {
        let deadline = Instant::now() + patience;
        let mut seat = self.seat(id);
        loop {
            seat.ready().await?;
            let job = match self.broker.watch(id).await? {
                Lookup::Found(job) => job,
                nothing => return Ok(nothing),
            };
            let over = Instant::now() >= deadline || *self.closing.borrow();
            if over || until.met(&job) {
                return Ok(Lookup::Found(job));
            }
            seat.news(|change| until.met_by(change), deadline).await;
        }
    }

    /// A seat from which one job is watched.
    pub(crate) fn seat(self: &Arc<Self>, id: JobId) -> Seat {
        let mut seats = self.lock();
        let sender = seats.entry(id).or_insert_with(|| watch::Sender::new(None));
        metrics::waiting(1.0);
        let subscription = self.subscription.subscribe();
        let closing = self.closing.subscribe();
        Seat { id, told: sender.subscribe(), subscription, closing, watchers: self.clone() }
    }

    /// Lets everybody who waits go on at once: the process is about to end.
    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Waits until the process is about to end.
    pub(crate) async fn closing(&self) {
        // The sender lives as long as this value.
        let _ = self.closing.subscribe().wait_for(|&closing| closing).await;
    }

    /// Listens for all of them until `shutdown` turns true.
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
                    while let Some(change) = changes.next().await {
                        self.tell(change);
                    }
                    tracing::info!("the subscription to changes was lost; making a new one");
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

    fn tell(&self, change: Change) {
        if let Some(seat) = self.lock().get(&change.id) {
            seat.send_replace(Some(change));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, watch::Sender<Option<Change>>>> {
        // Each change of the map is whole: a panic elsewhere leaves nothing half done.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place from which one job is watched; given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    id: JobId,
    told: watch::Receiver<Option<Change>>,
    subscription: watch::Receiver<Option<u64>>,
    closing: watch::Receiver<bool>,
    watchers: Arc<Watchers>,
}

impl Seat {
    /// Makes sure that changes are told: whoever looks now misses nothing that comes later.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub(crate) async fn ready(&mut self) -> Result<(), Error> {
        let subscribed = self.subscription.wait_for(Option::is_some);
        let subscribed = timeout(SUBSCRIPTION_PATIENCE, subscribed).await.is_ok();
        self.subscription.mark_unchanged();
        self.told.mark_unchanged();
        let away = || Error::Unavailable { reason: "no subscription to changes".to_owned() };
        subscribed.then_some(()).ok_or_else(away)
    }

    /// Waits for a change as wished, at most until `deadline`.
    pub(crate) async fn news(&mut self, wish: impl Fn(&Change) -> bool, deadline: Instant) -> News {
        tokio::select! {
            () = wished(&mut self.told, wish) => News::Look,
            _ = self.subscription.changed() => News::Look,
            _ = self.closing.wait_for(|&closing| closing) => News::Closing,
            () = sleep_until(deadline) => News::Nothing,
        }
    }
}

/// Waits for a change as wished that was told since [`Seat::ready`]; one that was told before it has been looked at.
async fn wished(told: &mut watch::Receiver<Option<Change>>, wish: impl Fn(&Change) -> bool) {
    // The sender lives as long as there is a seat.
    while told.changed().await.is_ok() {
        if told.borrow_and_update().as_ref().is_some_and(&wish) {
            return;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        metrics::waiting(-1.0);
        let mut seats = self.watchers.lock();
        // Given up under the lock: of two who leave together the second sees that it is the last.
        self.told = watch::Sender::new(None).subscribe();
        if seats.get(&self.id).is_some_and(|seat| seat.receiver_count() == 0) {
            seats.remove(&self.id);
        }
    }
}
