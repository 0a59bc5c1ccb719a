//! Batches: one call of a handler for many jobs of its task.
//!
//! Only the call is shared. Each job of a batch is claimed by itself, has a slot and a lease, ends with an outcome of its own,
//! and can be canceled by itself. So Redis knows nothing of batches, and a worker that dies loses no more than the jobs it ran.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crunch_common::broker::LeaseKey;
use crunch_common::job::{ErrorCode, GroupName, Payload};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinError;

use crate::JobContext;
use crate::attempt::panic_message;
use crate::handler::TaskError;
use crate::stop::StopReason;

/// How jobs of a task are collected: its handler is called once there are as many as wanted, or once the first of them
/// has waited long enough.
///
/// A collected job occupies a slot, and the time in which it waits counts for its timeout. So a batch has no more jobs
/// than the worker has slots (`CRUNCH_WORKER_CONCURRENCY`), and not all of them if other tasks use some.
///
/// ```
/// use std::time::Duration;
///
/// use crunch_worker::Batch;
///
/// let batch = Batch::of(64).linger(Duration::from_millis(20));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    max: NonZeroUsize,
    linger: Duration,
    is_by_group: bool,
}

impl Batch {
    /// The largest number of jobs in a batch.
    pub const MAX_JOBS: usize = 1000;
    /// The longest time for which a job may wait for others.
    pub const MAX_LINGER: Duration = Duration::from_secs(60);
    /// How long a job waits for others if nothing else is set.
    pub const DEFAULT_LINGER: Duration = Duration::from_millis(50);

    /// Creates batches of up to `max` jobs, 1 to 1000.
    ///
    /// ```
    /// # use crunch_worker::Batch;
    /// let batch = Batch::of(64);
    /// ```
    ///
    /// # Panics
    /// If `max` is 0 or more than 1000.
    #[must_use]
    pub const fn of(max: usize) -> Self {
        assert!(max <= Self::MAX_JOBS, "a batch has at most 1000 jobs");
        let max = NonZeroUsize::new(max).expect("a batch has a job");
        Self { max, linger: Self::DEFAULT_LINGER, is_by_group: false }
    }

    /// Sets how long a job waits for others: at most a minute, 50 ms by default. With zero, only jobs that are claimed in
    /// the same moment are in one batch.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use crunch_worker::Batch;
    /// let batch = Batch::of(64).linger(Duration::from_millis(5));
    /// ```
    ///
    /// # Panics
    /// If it is longer than a minute.
    #[must_use]
    pub const fn linger(mut self, linger: Duration) -> Self {
        assert!(linger.as_nanos() <= Self::MAX_LINGER.as_nanos(), "a job waits at most a minute");
        self.linger = linger;
        self
    }

    /// Collects the jobs of each group apart, so that those of two tenants are never in one call.
    ///
    /// ```
    /// # use crunch_worker::Batch;
    /// let batch = Batch::of(64).by_group();
    /// ```
    #[must_use]
    pub const fn by_group(mut self) -> Self {
        self.is_by_group = true;
        self
    }
}

/// The outcome of one job of a batch.
pub(crate) type Outcome = Result<Payload, TaskError>;
/// The outcomes of a batch, in the order of its jobs; or what all of them failed by.
pub(crate) type Outcomes = Result<Vec<Outcome>, TaskError>;

/// A function that is called with many jobs.
type Function<I> = dyn Fn(Vec<(JobContext, I)>) -> Call + Send + Sync;

/// The future of a call.
pub(crate) type Call = Pin<Box<dyn Future<Output = Outcomes> + Send>>;

/// Collects the jobs of a task, and calls its function with them.
pub(crate) struct Collector<I> {
    batch: Batch,
    /// The largest number of jobs that can be collected: at most as many as there are slots.
    most: Arc<AtomicUsize>,
    call: Box<Function<I>>,
    open: Mutex<Vec<Open<I>>>,
}

/// A batch that collects.
struct Open<I> {
    group: Option<GroupName>,
    /// Its first job, which started its time.
    first: LeaseKey,
    jobs: Vec<Collected<I>>,
}

struct Collected<I> {
    job: JobContext,
    input: I,
    outcome: oneshot::Sender<Outcome>,
}

impl<I: Send + 'static> Collector<I> {
    pub(crate) fn new(
        batch: Batch,
        call: impl Fn(Vec<(JobContext, I)>) -> Call + Send + Sync + 'static,
    ) -> Self {
        let most = Arc::new(AtomicUsize::new(batch.max.get()));
        Self { batch, most, call: Box::new(call), open: Mutex::default() }
    }

    /// The number of jobs at which a batch is full, to be lowered to the number of slots.
    pub(crate) fn most(&self) -> Arc<AtomicUsize> {
        self.most.clone()
    }

    /// Runs a job in a batch, and returns its outcome.
    pub(crate) async fn run(self: Arc<Self>, job: JobContext, input: I) -> Outcome {
        let (key, stopped, stop) = (job.lease_key(), job.cancellation().clone(), job.clone());
        let mut outcome = self.clone().add(job, input);
        tokio::select! {
            biased;
            () = stopped.cancelled() => {}
            outcome = &mut outcome => return outcome?,
        }
        // Work that finishes while the worker shuts down need not be done again. Otherwise the outcome would be dropped.
        if !self.leave(key) && stop.stop_reason() == Some(StopReason::Shutdown) {
            return outcome.await?;
        }
        Err(TaskError::retryable("stopped"))
    }

    /// Adds a job to the batch of its group, and calls the function if that is full. The first job starts the time after which
    /// the function is called in any case.
    fn add(self: Arc<Self>, job: JobContext, input: I) -> oneshot::Receiver<Outcome> {
        let (outcome, receiver) = oneshot::channel();
        let group = job.group().filter(|_| self.batch.is_by_group).cloned();
        let key = job.lease_key();
        let collected = Collected { job, input, outcome };
        let mut open = self.open.lock();
        let at = match open.iter().position(|it| it.group == group) {
            Some(at) => {
                open[at].jobs.push(collected);
                at
            }
            None => {
                open.push(Open { group, first: key, jobs: vec![collected] });
                let collector = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(collector.batch.linger).await;
                    let mut open = collector.open.lock();
                    let over = open.iter().position(|it| it.first == key);
                    let batch = over.map(|at| open.swap_remove(at));
                    drop(open);
                    batch.into_iter().for_each(|it| collector.start(it.jobs));
                });
                open.len() - 1
            }
        };
        let is_full = open[at].jobs.len() >= self.most.load(Ordering::Relaxed);
        let full = is_full.then(|| open.swap_remove(at));
        drop(open);
        full.into_iter().for_each(|it| self.start(it.jobs));
        receiver
    }

    /// Takes a job out of a batch that collects. Returns whether it was in one.
    fn leave(&self, key: LeaseKey) -> bool {
        let mut open = self.open.lock();
        open.iter_mut().any(|batch| {
            let before = batch.jobs.len();
            batch.jobs.retain(|it| it.job.lease_key() != key);
            batch.jobs.len() < before
        })
    }

    fn start(&self, mut jobs: Vec<Collected<I>>) {
        // What nobody waits for any more is not begun.
        jobs.retain(|it| !it.outcome.is_closed());
        if jobs.is_empty() {
            return;
        }
        let (mut inputs, mut waiting) = (Vec::new(), Vec::new());
        for Collected { job, input, outcome } in jobs {
            inputs.push((job, input));
            waiting.push(outcome);
        }
        let size = inputs.len();
        let call = tokio::spawn((self.call)(inputs));
        tokio::spawn(async move {
            let outcomes = match call.await {
                Ok(Ok(outcomes)) if outcomes.len() == size => outcomes,
                Ok(Ok(outcomes)) => {
                    let message = format!(
                        "the handler returned {} outcomes for a batch of {size} jobs",
                        outcomes.len()
                    );
                    vec![Err(TaskError::permanent(message)); size]
                }
                Ok(Err(error)) => vec![Err(error); size],
                Err(error) => vec![Err(panicked(error)); size],
            };
            for (waiting, outcome) in waiting.into_iter().zip(outcomes) {
                // Nobody waits for a job that was stopped.
                let _ = waiting.send(outcome);
            }
        });
    }
}

/// What all jobs of a batch fail by whose handler panicked.
fn panicked(error: JoinError) -> TaskError {
    match error.try_into_panic() {
        Ok(panic) => TaskError::retryable(panic_message(panic.as_ref()))
            .with_code(ErrorCode::handler_panicked()),
        // Only a runtime that shuts down drops a call.
        Err(error) => error.into(),
    }
}

#[cfg(test)]
mod tests;
