//! Puts the limits of a `tasks.toml` into Redis: once after the start, and again when Redis lost its data.
//!
//! Of two files the one of the worker that started last counts. What operators change afterwards stays so until then. Never
//! removes a limit. A limit that cannot apply yet, because jobs of its queue are in other partitions, is tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crunch_common::broker::{Broker, Error, Limit, LimitChange, QueueLimit, SharedChange};
use crunch_common::queue::{LimitName, QueueName};
use crunch_common::telemetry::LogLimit;
use crunch_consumer::{Announced, Reachability};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Enough to notice; the jobs must end first.
static ELSEWHERE: LogLimit = LogLimit::new(Duration::from_secs(60));
/// How soon a limit that cannot apply yet is tried again.
const WHILE_ELSEWHERE: Duration = Duration::from_secs(10);
/// Long enough: what is waited for wakes up the loop.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// The limits as the file has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FileLimits {
    /// Those that queues share.
    pub(crate) shared: BTreeMap<LimitName, Limit>,
    /// What the file says of queues.
    pub(crate) queues: BTreeMap<QueueName, FileQueue>,
}

/// What a file says of the limit of a queue. What it does not say stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FileQueue {
    pub(crate) own: Option<Limit>,
    pub(crate) shared: Vec<LimitName>,
}

/// Puts limits into Redis.
pub(crate) struct Publisher {
    broker: Broker,
    limits: FileLimits,
    announced: watch::Receiver<Announced>,
    /// The queues whose limits are still to be put.
    due: BTreeSet<QueueName>,
}

impl Publisher {
    pub(crate) fn new(
        broker: &Broker,
        limits: FileLimits,
        announced: watch::Receiver<Announced>,
    ) -> Self {
        Self { broker: broker.with_own_connection(), limits, announced, due: BTreeSet::new() }
    }

    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        if self.limits != FileLimits::default() {
            shutdown.run_until_cancelled(Box::pin(self.publish())).await;
        }
    }

    async fn publish(&mut self) {
        let mut reachability = Reachability::of("limits");
        let (mut anew, mut shared_due) = (0, false);
        loop {
            let announced = *self.announced.borrow_and_update();
            if announced.anew > anew {
                anew = announced.anew;
                shared_due = true;
                self.due = self.limits.queues.keys().cloned().collect();
            }
            let pause = match self.put_due(shared_due).await {
                Ok(()) => {
                    reachability.succeeded();
                    shared_due = false;
                    if self.due.is_empty() { NEVER } else { WHILE_ELSEWHERE }
                }
                Err(error) => reachability.failed(&error),
            };
            let goes_on = tokio::select! {
                () = tokio::time::sleep(pause) => Ok(()),
                changed = self.announced.changed() => changed,
            };
            // The worker ends.
            if goes_on.is_err() {
                return;
            }
        }
    }

    /// Puts what is due. A queue that must be tried again stays so.
    async fn put_due(&mut self, shared_due: bool) -> Result<(), Error> {
        for (name, limit) in self.limits.shared.iter().filter(|_| shared_due) {
            match self.broker.set_shared_limit(name, Some(*limit)).await? {
                SharedChange::TooMany => {
                    tracing::error!(limit = %name, "there are too many limits for one of the tasks file");
                }
                _ => tracing::debug!(limit = %name, "a limit of the tasks file is set"),
            }
        }
        for queue in self.due.clone() {
            if self.put(&queue).await? {
                self.due.remove(&queue);
            }
        }
        Ok(())
    }

    /// Puts what the file says of a queue; returns whether that is done.
    async fn put(&self, queue: &QueueName) -> Result<bool, Error> {
        let FileQueue { own, shared } = &self.limits.queues[queue];
        let now = self.broker.queue_limit(queue).await?.map(|status| status.limit);
        let before = now.clone().unwrap_or_default();
        let limit = QueueLimit {
            own: own.unwrap_or(before.own),
            shared: if shared.is_empty() { before.shared } else { shared.clone() },
        };
        if now.as_ref() == Some(&limit) {
            return Ok(true);
        }
        let changed = self.broker.set_queue_limit(queue, true, Some(limit)).await?;
        match changed {
            LimitChange::Done => {
                tracing::info!(%queue, "the limit of the queue is as in the tasks file of this worker");
            }
            LimitChange::JobsElsewhere(jobs) => {
                if let Some(left_out) = ELSEWHERE.admit() {
                    tracing::warn!(%queue, jobs, left_out, "the limit of the tasks file cannot apply yet: jobs of the queue wait or run in other partitions");
                }
                return Ok(false);
            }
            LimitChange::Contended => return Ok(false),
            LimitChange::OtherHome(limit) => {
                tracing::error!(%queue, %limit, "the queue and the limit that it is to share are in different partitions: the part of their names before the first dot must be the same");
            }
            LimitChange::UnknownQueue
            | LimitChange::UnknownLimit
            | LimitChange::SharedByTooMany => {
                tracing::error!(%queue, ?changed, "the queue cannot have the limit of the tasks file");
            }
        }
        Ok(true)
    }
}
