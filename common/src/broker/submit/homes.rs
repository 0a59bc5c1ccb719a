//! The homes of queues with a limit: where their jobs are submitted.
//!
//! A process learns a home when another partition refuses a job of the queue, and then submits such jobs there for a
//! while. So a limit need not be announced, and a process that does not know it yet cannot evade it.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::NewJob;
use crate::job::Partition;
use crate::queue::QueueName;

/// How long a home is remembered. Once the limit is removed, the jobs may be in any partition again.
const REMEMBERED: Duration = Duration::from_secs(60);

/// The homes that are known.
#[derive(Debug, Default)]
pub(in crate::broker) struct Homes(RwLock<HashMap<QueueName, (Partition, Instant)>>);

impl Homes {
    /// Remembers the home of a queue.
    pub(super) fn learn(&self, queue: &QueueName, home: Partition) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (_, since)| since.elapsed() < REMEMBERED);
        known.insert(queue.clone(), (home, Instant::now()));
    }

    fn of(&self, queue: &QueueName) -> Option<Partition> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(queue).filter(|(_, since)| since.elapsed() < REMEMBERED).map(|(home, _)| *home)
    }

    /// Returns the jobs, each in the home of its queue if that is known; `None` if all of them are where they should be.
    pub(super) fn moved(&self, jobs: &[NewJob]) -> Option<Vec<NewJob>> {
        let is_empty = self.0.read().unwrap_or_else(PoisonError::into_inner).is_empty();
        if is_empty {
            return None;
        }
        let homes: Vec<_> = jobs.iter().map(|job| self.of(&job.queue)).collect();
        let is_elsewhere = |(job, home): (&NewJob, &Option<Partition>)| {
            home.is_some_and(|home| home != job.id.partition())
        };
        jobs.iter().zip(&homes).any(is_elsewhere).then(|| {
            let moved = |(job, home): (&NewJob, Option<Partition>)| match home {
                Some(home) => job.moved_to(home),
                None => job.clone(),
            };
            jobs.iter().zip(homes).map(moved).collect()
        })
    }
}

impl NewJob {
    /// Returns the job with the id that this one has in another partition: always the same, so that a repeated submission
    /// is recognized.
    pub(super) fn moved_to(&self, home: Partition) -> Self {
        let webhook = self.webhook.clone().map(|webhook| webhook.moved_to(home));
        Self { id: self.id.moved_to(home), webhook, ..self.clone() }
    }
}
