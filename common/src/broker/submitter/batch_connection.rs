//! One batch and its proof, in one round trip, on a connection that carries nothing else.

use std::sync::Arc;
use std::time::Duration;

use redis::Pipeline;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::{Outcome, Submitter, Waiting};
use crate::broker::Settings;
use crate::broker::connection::Link;
use crate::broker::durability::{DurabilityConfig, Proof};
use crate::broker::error::Error;
use crate::broker::new_job::NewJob;
use crate::broker::submit::{self, Enqueued};
use crate::time::whole_ms;

/// Redis should report a missing proof before the submission's own deadline; it checks for expired waits only ten times
/// a second.
const MARGIN: Duration = Duration::from_millis(250);

/// A connection that carries one batch at a time.
pub(super) struct BatchConnection {
    link: Link,
    settings: Arc<Settings>,
    required: DurabilityConfig,
    /// How the connected Redis proves it; determined again after any error, because it may be another Redis by then.
    proof: Option<Proof>,
    /// When it carried its last batch; `None` if it is closed.
    last_used: Option<Instant>,
}

impl BatchConnection {
    pub(super) fn new(submitter: &Submitter) -> Self {
        let settings = submitter.settings.clone();
        let link = Link::new(settings.clone(), submitter.endpoint.clone());
        Self { link, settings, required: submitter.required, proof: None, last_used: None }
    }

    /// Sends a batch to Redis and the answers to the callers; releases the permit to connect as soon as it is
    /// connected.
    pub(super) async fn send(
        mut self,
        batch: Vec<Waiting>,
        connecting: OwnedSemaphorePermit,
    ) -> Self {
        // The jobs of one batch arrived shortly after each other, so the earliest deadline applies to all; a caller
        // whose submission times out a little early may repeat it.
        let deadline = batch.iter().map(|waiting| waiting.deadline).min();
        let (jobs, callers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.job, waiting.caller)).unzip();
        let deadline = deadline.unwrap_or_else(Instant::now);
        let ready = self.ready().await;
        drop(connecting);
        let outcomes = match ready {
            Ok(proof) => self.commit(&jobs, proof, deadline).await,
            Err(error) => vec![Err(error); jobs.len()],
        };
        if outcomes.iter().any(Result::is_err) {
            self.proof = None;
        }
        for (caller, outcome) in callers.into_iter().zip(outcomes) {
            // A caller that gave up meanwhile has dropped its receiver.
            let _ = caller.answer.send(outcome);
        }
        self.last_used = Some(Instant::now());
        self
    }

    /// When it carried its last batch; `None` if it is closed.
    pub(super) fn last_used(&self) -> Option<Instant> {
        self.last_used
    }

    /// Closes the connection; the next batch opens a new one.
    pub(super) fn close(&mut self) {
        self.link.forget();
        (self.proof, self.last_used) = (None, None);
    }

    async fn commit(&self, jobs: &[NewJob], proof: Proof, deadline: Instant) -> Vec<Outcome> {
        let jobs: Vec<_> = jobs.iter().collect();
        let calls = submit::batches(&jobs);
        let remaining = deadline.saturating_duration_since(Instant::now());
        let pipeline = self.pipeline(&jobs, &calls, proof, remaining.saturating_sub(MARGIN));
        match self.link.send_all(&pipeline, remaining).await {
            Ok(replies) => {
                let mut replies = replies.into_iter();
                let mut outcomes = submit::read_all(&jobs, &calls, &mut replies);
                apply_proof(&mut outcomes, proof.read(replies));
                outcomes
            }
            // Some jobs may have been accepted before the proof was refused.
            Err(Error::Refused { reason }) if !self.required.durability.is_memory() => {
                vec![Err(Error::NotDurable { reason, taken: true }); jobs.len()]
            }
            Err(error) => vec![Err(error); jobs.len()],
        }
    }

    fn pipeline(
        &self,
        jobs: &[&NewJob],
        calls: &[Vec<usize>],
        proof: Proof,
        time_limit: Duration,
    ) -> Pipeline {
        let mut pipeline = redis::pipe();
        for call in calls {
            submit::write_call(&mut pipeline, &self.settings, &submit::select(jobs, call));
        }
        let mark = self.settings.keys(jobs[0].id.partition()).mark();
        proof.write(&mut pipeline, &mark, whole_ms(time_limit));
        pipeline
    }

    /// Connects, before the time limit for Redis is computed, and determines how Redis proves the required durability.
    ///
    /// # Errors
    /// [`Error::NotDurable`] if Redis cannot prove it. No job was sent.
    async fn ready(&mut self) -> Result<Proof, Error> {
        self.link.open().await?;
        if let Some(proof) = self.proof {
            return Ok(proof);
        }
        let found = Proof::of(&self.link, self.required).await;
        let proof = found.map_err(|error| match error {
            Error::Refused { reason } => Error::NotDurable { reason, taken: false },
            other => other,
        })?;
        self.proof = Some(proof);
        Ok(proof)
    }
}

/// An accepted job counts only if its durability is proven. A rejected one stays rejected.
fn apply_proof(outcomes: &mut [Outcome], proof: Result<(), Error>) {
    let Err(error) = proof else { return };
    for outcome in outcomes {
        if !matches!(outcome, Err(_) | Ok(Enqueued::Conflict)) {
            *outcome = Err(error.clone());
        }
    }
}
