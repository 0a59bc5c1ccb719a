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
use crate::broker::submit::{self, Enqueued, NewJob};
use crate::time::whole_ms;

/// Redis is to say that it is not proven before the submission's own deadline cuts it off; it looks for waits that ended
/// only ten times a second.
const MARGIN: Duration = Duration::from_millis(250);

/// A connection that carries one batch at a time.
pub(super) struct BatchConnection {
    link: Link,
    settings: Arc<Settings>,
    wanted: DurabilityConfig,
    /// How the Redis at the other end proves it; asked again after anything went wrong, for it may be another by then.
    proof: Option<Proof>,
    /// When it carried its last batch; `None` if it has no connection.
    used: Option<Instant>,
}

impl BatchConnection {
    pub(super) fn new(submitter: &Submitter) -> Self {
        let settings = submitter.settings.clone();
        let link = Link::new(settings.clone(), submitter.client.clone());
        Self { link, settings, wanted: submitter.wanted, proof: None, used: None }
    }

    /// Takes a batch to Redis and hands out the answers; gives back the right to connect as soon as it has.
    pub(super) async fn send(
        mut self,
        batch: Vec<Waiting>,
        connecting: OwnedSemaphorePermit,
    ) -> Self {
        // Those of one batch came shortly after each other, so the eldest speaks for all; and whoever hears of it a little
        // early may repeat.
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
            // Whoever gave up meanwhile does not listen.
            let _ = caller.answer.send(outcome);
        }
        self.used = Some(Instant::now());
        self
    }

    /// When it carried its last batch, if it may have a connection.
    pub(super) fn used(&self) -> Option<Instant> {
        self.used
    }

    /// Closes its connection; the next batch makes a new one.
    pub(super) fn close(&mut self) {
        self.link.forget();
        (self.proof, self.used) = (None, None);
    }

    async fn commit(&self, jobs: &[NewJob], proof: Proof, deadline: Instant) -> Vec<Outcome> {
        let jobs: Vec<_> = jobs.iter().collect();
        let calls = submit::batches(&jobs);
        let left = deadline.saturating_duration_since(Instant::now());
        let pipeline = self.pipeline(&jobs, &calls, proof, left.saturating_sub(MARGIN));
        match self.link.send_all(&pipeline, left).await {
            Ok(replies) => {
                let mut replies = replies.into_iter();
                let mut outcomes = submit::read_all(&jobs, &calls, &mut replies);
                prove(&mut outcomes, proof.read(replies));
                outcomes
            }
            // Some of it may have been taken before the proof was refused.
            Err(Error::Refused { reason }) if !self.wanted.durability.is_memory() => {
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

    /// Connects, before Redis is told how long it may wait, and finds out how it proves what is asked for.
    ///
    /// # Errors
    /// [`Error::NotDurable`] if it cannot. Nothing was sent.
    async fn ready(&mut self) -> Result<Proof, Error> {
        self.link.open().await?;
        if let Some(proof) = self.proof {
            return Ok(proof);
        }
        let found = Proof::of(&self.link, self.wanted).await;
        let proof = found.map_err(|error| match error {
            Error::Refused { reason } => Error::NotDurable { reason, taken: false },
            other => other,
        })?;
        self.proof = Some(proof);
        Ok(proof)
    }
}

/// What was taken counts only if it is proven. A refusal stays one.
fn prove(outcomes: &mut [Outcome], proven: Result<(), Error>) {
    let Err(error) = proven else { return };
    for outcome in outcomes {
        if !matches!(outcome, Err(_) | Ok(Enqueued::Conflict)) {
            *outcome = Err(error.clone());
        }
    }
}
