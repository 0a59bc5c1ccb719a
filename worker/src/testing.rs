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
use crunch_common::job::{JobId, Metadata, Partition, Payload};
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
#[derive(Debug, Clone)]
pub struct Attempt {
    task: Task,
    id: JobId,
    payload: Payload,
    metadata: Metadata,
    number: u32,
    cancel_after: Option<Duration>,
    shut_down_after: Option<Duration>,
    canceled: Shutdown,
    observer: Option<Arc<dyn Observer>>,
}

impl Attempt {
    /// Creates the first attempt of a job of this task, with the payload `null`. Results are limited as declared, or
    /// else to 1 MiB.
    #[must_use]
    pub fn of(mut task: Task) -> Self {
        task.descriptor.max_result.get_or_insert(DEFAULT_MAX_RESULT as u64);
        Self {
            task,
            id: JobId::generate(Partition::default()),
            payload: Payload::json("null"),
            metadata: Metadata::default(),
            number: 1,
            cancel_after: None,
            shut_down_after: None,
            canceled: Shutdown::default(),
            observer: None,
        }
    }

    /// Sets the payload: a value, as JSON.
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
    /// # Panics
    /// If the content type is not a media type.
    #[must_use]
    pub fn raw_payload(self, bytes: impl Into<Bytes>, content_type: &str) -> Self {
        let content_type = content_type.parse().expect("a media type in a test is valid");
        self.payload_of(Payload { bytes: bytes.into(), content_type })
    }

    /// Adds a label of the job.
    ///
    /// # Panics
    /// If the API would reject it.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into()).expect("a label in a test is valid");
        self
    }

    /// Sets which attempt this is, from 1. A failure of the task's last one is not retried.
    #[must_use]
    pub fn attempt(self, number: u32) -> Self {
        Self { number: number.max(1), ..self }
    }

    /// Cancels the job after this time, unless it has ended.
    #[must_use]
    pub fn cancel_after(self, time: Duration) -> Self {
        Self { cancel_after: Some(time), ..self }
    }

    /// Stops the attempt after this time because its worker shuts down, unless it has ended: what a handler returns
    /// then is still used, and otherwise the job is released.
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
