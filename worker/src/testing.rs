//! Runs a task in a test: one attempt, exactly as a worker would run it, without Redis.
//!
//! ```
//! use crunch_worker::testing::{Attempt, Outcome};
//! use crunch_worker::{JobContext, Task, TaskError};
//!
//! fn count_primes(job: JobContext, limit: u32) -> Result<usize, TaskError> {
//!     if limit > 10_000_000 {
//!         return Err(TaskError::permanent("the limit is too large"));
//!     }
//!     job.progress(0.0, "counting");
//!     let is_prime = |n: &u32| (2..=n.isqrt()).all(|d| !n.is_multiple_of(d));
//!     Ok((2..limit).filter(is_prime).count())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let task = Task::blocking("primes.count", count_primes);
//!
//! let report = Attempt::of(task.clone()).payload(1000).run().await;
//! assert_eq!(report.outcome, Outcome::Succeeded);
//! assert_eq!(report.json::<usize>(), 168);
//! assert_eq!(report.progress[0].message, "counting");
//!
//! let report = Attempt::of(task).payload(4_000_000_000_u32).run().await;
//! assert!(matches!(report.outcome, Outcome::Failed(error) if !error.retryable));
//! # }
//! ```
//!
//! The payload is checked as the API checks it on submission. Time limit, panics, the check of the result and the
//! decision between retry and failure are the worker's own code, not a copy of it.
//!
//! Never retries, and never waits for a retry: it returns what would happen next.

mod claim;
mod recorder;
mod report;
mod submission;

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crunch_common::Shutdown;
use crunch_common::job::{GroupName, JobId, Metadata, Partition, Payload};
use serde::Serialize;
use tracing::Instrument;

use crate::attempt::{Ending, TimeLimit, attempt, decide, span_of};
use crate::config::DEFAULT_MAX_RESULT;
use crate::context::Observer;
use crate::stop::{Stop, StopReason};
use crate::{JobContext, Task};
use recorder::Recorder;
pub use report::{Outcome, Report};

/// An attempt to run a task's job.
///
/// It stands for one job: each [`Attempt::run`] runs it with the same id and a higher epoch, as after the death of a
/// worker. So a test can run it twice to check that the handler tolerates that.
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// use crunch_worker::testing::Attempt;
/// use crunch_worker::{JobContext, Task, TaskError};
///
/// static INVOICES: AtomicU32 = AtomicU32::new(0);
///
/// /// The first run writes the invoice; another one finds it.
/// async fn invoice(_job: JobContext, number: u32) -> Result<u32, TaskError> {
///     INVOICES.fetch_max(number, Ordering::Relaxed);
///     Ok(number)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let attempt = Attempt::of(Task::new("invoice", invoice)).payload(17);
/// attempt.run().await;
/// attempt.run().await;
/// assert_eq!(INVOICES.load(Ordering::Relaxed), 17);
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Attempt {
    task: Task,
    id: JobId,
    payload: Payload,
    metadata: Metadata,
    group: Option<GroupName>,
    number: u32,
    cancel_after: Option<Duration>,
    shut_down_after: Option<Duration>,
    canceled: Shutdown,
    observer: Option<Arc<dyn Observer>>,
}

impl Attempt {
    /// Creates the first attempt of a job of this task, with the payload `null`. Results are limited as declared, or
    /// else to 1 MiB.
    ///
    /// ```
    /// # use crunch_worker::testing::{Attempt, Outcome};
    /// # use crunch_worker::{JobContext, Task, TaskError};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// async fn answer(_job: JobContext, (): ()) -> Result<u32, TaskError> {
    ///     Ok(42)
    /// }
    ///
    /// assert_eq!(Attempt::of(Task::new("answer", answer)).run().await.json::<u32>(), 42);
    /// # }
    /// ```
    #[must_use]
    pub fn of(mut task: Task) -> Self {
        task.descriptor.max_result.get_or_insert(DEFAULT_MAX_RESULT as u64);
        Self {
            task,
            id: JobId::generate(Partition::default()),
            payload: Payload::json("null"),
            metadata: Metadata::default(),
            group: None,
            number: 1,
            cancel_after: None,
            shut_down_after: None,
            canceled: Shutdown::default(),
            observer: None,
        }
    }

    /// Sets the payload: a value, as JSON.
    ///
    /// ```
    /// # use crunch_worker::testing::{Attempt, Outcome};
    /// # use crunch_worker::{JobContext, Task, TaskError};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// async fn sum(_job: JobContext, numbers: Vec<u32>) -> Result<u32, TaskError> {
    ///     Ok(numbers.iter().sum())
    /// }
    ///
    /// let attempt = Attempt::of(Task::new("sum", sum));
    /// assert_eq!(attempt.clone().payload([1, 2, 3]).run().await.json::<u32>(), 6);
    ///
    /// let report = attempt.payload("three").run().await;
    /// assert_eq!(report.error().unwrap().code.as_str(), "payload_invalid");
    /// # }
    /// ```
    ///
    /// # Panics
    /// If the value cannot be written as JSON.
    #[must_use]
    pub fn payload(self, value: impl Serialize) -> Self {
        let json = serde_json::to_vec(&value).expect("a payload in a test is valid JSON");
        Self { payload: Payload::json(json), ..self }
    }

    /// Sets the payload: bytes of this content type, such as `image/png`.
    ///
    /// ```
    /// # use crunch_worker::testing::{Attempt, Outcome};
    /// # use crunch_worker::{JobContext, Payload, Task, TaskError};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// async fn measure(_job: JobContext, image: Payload) -> Result<Payload, TaskError> {
    ///     Ok(Payload::json(image.bytes.len().to_string()))
    /// }
    ///
    /// let attempt = Attempt::of(Task::raw("measure", measure).accepts(&["image/png"]));
    /// let report = attempt.clone().raw_payload(&b"\x89PNG"[..], "image/png").run().await;
    /// assert_eq!(report.json::<usize>(), 4);
    ///
    /// let report = attempt.raw_payload("GIF89a", "image/gif").run().await;
    /// assert!(matches!(report.outcome, Outcome::Rejected(_)));
    /// # }
    /// ```
    ///
    /// # Panics
    /// If the content type is not a media type.
    #[must_use]
    pub fn raw_payload(self, bytes: impl Into<Bytes>, content_type: &str) -> Self {
        let content_type = content_type.parse().expect("a media type in a test is valid");
        self.payload_of(Payload { bytes: bytes.into(), content_type })
    }

    /// Adds a label of the job.
    ///
    /// ```
    /// # use crunch_worker::testing::{Attempt, Outcome};
    /// # use crunch_worker::{JobContext, Task, TaskError};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// async fn owner(job: JobContext, (): ()) -> Result<Option<String>, TaskError> {
    ///     Ok(job.metadata().get("owner").map(str::to_owned))
    /// }
    ///
    /// let report = Attempt::of(Task::new("owner", owner)).metadata("owner", "ada").run().await;
    /// assert_eq!(report.json::<String>(), "ada");
    /// # }
    /// ```
    ///
    /// # Panics
    /// If the API would reject it.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into()).expect("a label in a test is valid");
        self
    }

    /// Sets the group of the job.
    ///
    /// ```
    /// # use crunch_worker::testing::{Attempt, Outcome};
    /// # use crunch_worker::{JobContext, Task, TaskError};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// async fn customer(job: JobContext, (): ()) -> Result<Option<String>, TaskError> {
    ///     Ok(job.group().map(ToString::to_string))
    /// }
    ///
    /// let report = Attempt::of(Task::new("customer", customer)).group("acme").run().await;
    /// assert_eq!(report.json::<String>(), "acme");
    /// # }
    /// ```
    ///
    /// # Panics
    /// If the API would reject it.
    #[must_use]
    pub fn group(self, group: &str) -> Self {
        let group = group.parse().expect("the name of a group in a test is valid");
        Self { group: Some(group), ..self }
    }

    /// Sets which attempt this is, from 1. A failure of the task's last one is not retried.
    ///
    /// ```
    /// # use crunch_worker::testing::{Attempt, Outcome};
    /// # use crunch_worker::{JobContext, Task, TaskError};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// async fn fail(_job: JobContext, (): ()) -> Result<(), TaskError> {
    ///     Err(TaskError::retryable("no response"))
    /// }
    ///
    /// let attempt = Attempt::of(Task::new("fail", fail).max_attempts(3));
    /// assert!(matches!(attempt.clone().run().await.outcome, Outcome::Retried { .. }));
    /// assert!(matches!(attempt.attempt(3).run().await.outcome, Outcome::Failed(_)));
    /// # }
    /// ```
    #[must_use]
    pub fn attempt(self, number: u32) -> Self {
        Self { number: number.max(1), ..self }
    }

    /// Cancels the job after this time, unless it has ended.
    ///
    /// ```
    /// use std::time::Duration;
    /// # use crunch_worker::testing::{Attempt, Outcome};
    /// # use crunch_worker::{JobContext, Task, TaskError};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    ///
    /// async fn wait(job: JobContext, (): ()) -> Result<(), TaskError> {
    ///     job.cancellation().cancelled().await;
    ///     Err(TaskError::retryable("stopped"))
    /// }
    ///
    /// let attempt = Attempt::of(Task::new("wait", wait)).cancel_after(Duration::from_millis(10));
    /// assert_eq!(attempt.run().await.outcome, Outcome::Canceled);
    /// # }
    /// ```
    #[must_use]
    pub fn cancel_after(self, time: Duration) -> Self {
        Self { cancel_after: Some(time), ..self }
    }

    /// Stops the attempt after this time because its worker shuts down, unless it has ended: what a handler returns
    /// then is still used, and otherwise the job is released.
    ///
    /// ```
    /// use std::time::Duration;
    /// # use crunch_worker::testing::{Attempt, Outcome};
    /// # use crunch_worker::{JobContext, Task, TaskError};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    ///
    /// /// Returns what it has when it must stop.
    /// async fn wait(job: JobContext, (): ()) -> Result<&'static str, TaskError> {
    ///     job.cancellation().cancelled().await;
    ///     Ok("as far as I got")
    /// }
    ///
    /// let attempt = Attempt::of(Task::new("wait", wait)).shut_down_after(Duration::from_millis(10));
    /// assert_eq!(attempt.run().await.json::<String>(), "as far as I got");
    /// # }
    /// ```
    #[must_use]
    pub fn shut_down_after(self, time: Duration) -> Self {
        Self { shut_down_after: Some(time), ..self }
    }

    pub(crate) fn payload_of(self, payload: Payload) -> Self {
        Self { payload, ..self }
    }

    pub(crate) fn labels(self, metadata: Metadata) -> Self {
        Self { metadata, ..self }
    }

    /// Cancels the job when a shutdown is requested.
    pub(crate) fn canceled_by(self, canceled: Shutdown) -> Self {
        Self { canceled, ..self }
    }

    /// Passes on everything that the handler reports.
    pub(crate) fn observed_by(self, observer: Arc<dyn Observer>) -> Self {
        Self { observer: Some(observer), ..self }
    }

    /// Runs it to its end. Must be called inside a Tokio runtime.
    ///
    /// A handler that does not return within 6 s after it was asked to stop is abandoned, as by a worker.
    ///
    /// ```
    /// # use crunch_worker::testing::{Attempt, Outcome};
    /// # use crunch_worker::{JobContext, Task, TaskError};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// async fn id(job: JobContext, (): ()) -> Result<(String, u64), TaskError> {
    ///     Ok((job.id().to_string(), job.epoch().number()))
    /// }
    ///
    /// let attempt = Attempt::of(Task::new("id", id));
    /// let (first, epoch) = attempt.run().await.json::<(String, u64)>();
    /// let (second, later) = attempt.run().await.json::<(String, u64)>();
    /// assert_eq!(first, second);
    /// assert!(epoch < later);
    /// # }
    /// ```
    pub async fn run(&self) -> Report {
        if let Err(reason) = submission::check(&self.task.descriptor, &self.payload) {
            return Report::rejected(reason);
        }
        let (job, stop) = (self.claim(), Stop::default());
        let limit = TimeLimit::of(&job, Instant::now()).expect("the job has no deadline");
        let recorder = Arc::new(Recorder::forwarding_to(self.observer.clone()));
        let context = JobContext::new(&job, limit.deadline(), stop.token().clone())
            .stopped_by(stop.clone())
            .observed_by(recorder.clone());
        let span = span_of(&job, context.trace());
        let payload = self.payload.clone();
        let ending = attempt(&self.task, payload, &context, (&stop, &limit), async |_: &Ending| ());
        let ending = tokio::select! {
            ending = ending.instrument(span.clone()) => ending,
            never = self.request_stop(&stop) => match never {},
        };
        let outcome = span.in_scope(|| decide(&job, ending));
        Report::new(outcome.expect("there is no lease that could be lost"), &recorder)
    }

    /// Requests what the test wants to happen while the handler runs; never ends.
    async fn request_stop(&self, stop: &Stop) -> Infallible {
        let after = async |time: Option<Duration>| match time {
            Some(time) => tokio::time::sleep(time).await,
            None => pending().await,
        };
        tokio::select! {
            () = after(self.cancel_after) => stop.fire(StopReason::Canceled),
            () = after(self.shut_down_after) => stop.fire(StopReason::Shutdown),
            () = self.canceled.requested(1) => stop.fire(StopReason::Canceled),
        }
        pending().await
    }
}

#[cfg(test)]
mod tests;
