//! One batch and its proof, in one round trip, on a connection that carries nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::Pipeline;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::{Outcome, Submitter, Waiting};
use crate::broker::Settings;
use crate::broker::connection::{Link, Repeat};
use crate::broker::durability::{DurabilityConfig, Proof};
use crate::broker::error::Error;
use crate::broker::new_job::NewJob;
use crate::broker::submit::{self, Enqueued};
use crate::job::Partition;
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
        let jobs: Vec<_> = jobs.iter().collect();
        let ready = self.ready(jobs[0].id.partition()).await;
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

    /// Sends a batch, whose partitions were all on one node when it was collected.
    async fn commit(&self, jobs: &[&NewJob], proof: Proof, deadline: Instant) -> Vec<Outcome> {
        let first = jobs[0].id.partition();
        let is_one = jobs.iter().all(|job| job.id.partition() == first);
        let repeat = if is_one { Repeat::UnlessMoving } else { Repeat::UnlessMoved };
        match self.send_calls(jobs, proof, repeat, deadline).await {
            Ok(outcomes) => outcomes,
            Err(Error::Rejected { .. }) if !is_one => self.commit_apart(jobs, deadline).await,
            Err(error) => vec![Err(error); jobs.len()],
        }
    }

    /// Sends the jobs of each partition separately, because one of them is being moved, or was, to another node.
    async fn commit_apart(&self, jobs: &[&NewJob], deadline: Instant) -> Vec<Outcome> {
        let partitions: BTreeSet<_> = jobs.iter().map(|job| job.id.partition()).collect();
        let sent = join_all(partitions.into_iter().map(async |partition| {
            let (places, jobs): (Vec<_>, Vec<_>) =
                jobs.iter().enumerate().filter(|(_, job)| job.id.partition() == partition).unzip();
            let sent = match self.prove(partition).await {
                Ok(proof) => self.send_calls(&jobs, proof, Repeat::UnlessMoving, deadline).await,
                Err(error) => Err(error),
            };
            let sent = sent.unwrap_or_else(|error| vec![Err(error); jobs.len()]);
            places.into_iter().zip(sent)
        }));
        let mut outcomes = vec![Err(Error::timed_out()); jobs.len()];
        sent.await.into_iter().flatten().for_each(|(place, outcome)| outcomes[place] = outcome);
        outcomes
    }

    async fn send_calls(
        &self,
        jobs: &[&NewJob],
        proof: Proof,
        repeat: Repeat,
        deadline: Instant,
    ) -> Result<Vec<Outcome>, Error> {
        let calls = submit::batches(jobs);
        let remaining = deadline.saturating_duration_since(Instant::now());
        let pipeline = self.pipeline(jobs, &calls, proof, remaining.saturating_sub(MARGIN));
        let partition = jobs[0].id.partition();
        match self.link.send_all(partition, &pipeline, repeat, remaining).await {
            Ok(replies) => {
                let mut replies = replies.into_iter();
                let mut outcomes = submit::read_all(jobs, &calls, &mut replies);
                apply_proof(&mut outcomes, proof.read(replies));
                Ok(outcomes)
            }
            // Some jobs may have been accepted before the proof was refused.
            Err(Error::Refused { reason }) if !self.required.durability.is_memory() => {
                Err(Error::NotDurable { reason, taken: true })
            }
            Err(error) => Err(error),
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
    async fn ready(&mut self, partition: Partition) -> Result<Proof, Error> {
        self.link.open(partition).await?;
        if let Some(proof) = self.proof {
            return Ok(proof);
        }
        let proof = self.prove(partition).await?;
        self.proof = Some(proof);
        Ok(proof)
    }

    async fn prove(&self, partition: Partition) -> Result<Proof, Error> {
        let found = Proof::of(&self.link, partition, self.required).await;
        found.map_err(|error| match error {
            Error::Refused { reason } => Error::NotDurable { reason, taken: false },
            other => other,
        })
    }
}

/// An accepted job counts only if its durability is proven. A rejected one stays rejected.
fn apply_proof(outcomes: &mut [Outcome], proof: Result<(), Error>) {
    let Err(error) = proof else { return };
    for outcome in outcomes {
        if !matches!(outcome, Err(_) | Ok(Enqueued::Conflict | Enqueued::Locked(_))) {
            *outcome = Err(error.clone());
        }
    }
}
