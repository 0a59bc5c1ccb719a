//! Waits for work without polling: blocks on the wake-up tokens of the consumer's queues, in all partitions, while
//! slots are idle that no partition with jobs will take.
//!
//! Takes tokens, never jobs. A draining consumer takes none, nor does one whose runner can run nothing for now, so that
//! they wake one that can use them. One that needs its idle slots for known jobs does not wait, but looks for the tokens
//! of other partitions in between, so that these get their turn: the exchange that each token causes leaves a new one if
//! it leaves jobs. In a large cluster a worker listens to some partitions only (`share.rs`), and looks for the tokens of
//! the others now and then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crunch_common::broker::{Broker, Error};
use crunch_common::job::Partition;
use crunch_common::queue::QueueName;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::connection::Connection;
use crate::share::{Share, VISIT_EVERY};
use crate::slots::Idle;
use crate::{Expected, PoolSlots, Pulse, Reachability, Runner};

/// Requests an exchange from a processor.
#[derive(Debug)]
pub(crate) struct WorkRequest {
    /// The queue whose token was taken, if there was one.
    pub(crate) woken: Option<QueueName>,
    answer: oneshot::Sender<Expected>,
}

impl WorkRequest {
    /// Reports that the exchange is done. From now on the listener must report: when its runtime is hogged, it does not
    /// even begin to wait.
    pub(crate) fn answer(self, pulse: &Pulse) {
        // The listener may have ended.
        drop(self.answer.send(pulse.expects(ANSWERS_WITHIN)));
    }
}

pub(crate) struct Listener<R> {
    /// Has its own connection: it blocks.
    pub(crate) broker: Broker,
    /// For what does not block; all listeners share its connections.
    pub(crate) looks: Broker,
    /// If the listener's connection broke, theirs may have broken unnoticed.
    pub(crate) connections: [Arc<Connection>; 2],
    pub(crate) queues: Vec<QueueName>,
    pub(crate) slots: PoolSlots,
    pub(crate) runner: Arc<R>,
    /// The partitions whose tokens it waits for: of several listeners each has its own.
    pub(crate) group: Vec<Partition>,
    /// To which partitions the pool listens at present.
    pub(crate) share: watch::Receiver<Share>,
    /// The processors of all partitions.
    pub(crate) requests: Vec<(Partition, mpsc::Sender<WorkRequest>)>,
    /// The exchanges without a token, which the listeners request together.
    pub(crate) visits: Arc<Mutex<Visits>>,
    /// Also the processors'.
    pub(crate) pulse: Pulse,
}

/// A partition that may have jobs, and the queue that had the token.
type Token = (Partition, Option<QueueName>);

/// When the last exchanges without a token were, and the partitions, the one whose turn is next first.
pub(crate) struct Visits {
    last: Instant,
    /// Whether a token was taken since: other partitions may have jobs, too.
    had_work: bool,
    turns: Vec<Partition>,
}

impl Visits {
    pub(crate) fn of(partitions: impl Iterator<Item = Partition>) -> Self {
        Self { last: Instant::now(), had_work: true, turns: partitions.collect() }
    }

    /// Returns all partitions, the one whose turn it is first, if it is time.
    fn take(&mut self, every: Duration) -> Option<Vec<Partition>> {
        let every = if self.had_work { VISIT_EVERY } else { every };
        if self.last.elapsed() < every {
            return None;
        }
        (self.last, self.had_work) = (Instant::now(), false);
        self.turns.rotate_left(1);
        Some(self.turns.clone())
    }
}

/// How long to wait until requested exchanges are done: a partition that cannot be reached must not hold up the others.
const EXCHANGES_WITHIN: Duration = Duration::from_secs(2);
/// A wait takes two seconds, and one that hangs must show within three.
const ANSWERS_WITHIN: Duration = Duration::from_millis(2800);

impl<R: Runner> Listener<R> {
    pub(crate) async fn run(mut self, draining: CancellationToken) {
        draining.run_until_cancelled(self.listen()).await;
    }

    async fn listen(&mut self) {
        let mut reachability = Reachability::of_partition("listener", &self.broker, &self.pulse);
        loop {
            if self.wait_until_runnable().await {
                // No exchange took place meanwhile, and work that came then may have no token.
                self.slots.wake_all();
            }
            self.wait_until_it_listens().await;
            let idle = self.slots.idle().await;
            let answer = self.pulse.expects(ANSWERS_WITHIN);
            match self.take_tokens(idle).await {
                Ok(tokens) => {
                    reachability.succeeded();
                    drop(answer);
                    if tokens.iter().any(|(_, queue)| queue.is_some()) {
                        self.visits.lock().had_work = true;
                    }
                    let Some(returned) = self.request_work(tokens).await else { return };
                    drop(returned);
                }
                Err(error) => {
                    drop(answer);
                    for &partition in &self.group {
                        // A token may have been taken with the answer that is lost.
                        self.slots.wake(partition);
                        // Only a broken connection says something about others.
                        if matches!(error, Error::Unavailable { .. }) {
                            self.connections.iter().for_each(|connection| {
                                connection.broker.reset_connection(partition);
                            });
                        }
                    }
                    tokio::time::sleep(reachability.failed(&error)).await;
                }
            }
        }
    }

    /// Waits while the runner can run nothing. Returns whether it waited.
    async fn wait_until_runnable(&self) -> bool {
        let mut waited = false;
        while let Some(until) = self.runner.suspended_until() {
            tokio::time::sleep_until(until.into()).await;
            waited = true;
        }
        waited
    }

    /// Waits, without a connection, while it is not to listen to its partitions.
    async fn wait_until_it_listens(&mut self) {
        let listens = |share: &Share| self.group.iter().any(|it| share.partitions.contains(it));
        if !listens(&self.share.borrow()) {
            self.group.iter().for_each(|&partition| self.broker.reset_connection(partition));
            // The sender has ended if the consumer drains: this listener is about to.
            if self.share.wait_for(listens).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Takes tokens: each is of a partition, with the queue that had it. After a wait it adds the partitions whose
    /// visit is due, without a queue.
    async fn take_tokens(&mut self, idle: Idle) -> Result<Vec<Token>, Error> {
        match idle {
            Idle::Look(partitions) => {
                let looked = self.looks.take_tokens(&partitions, &self.queues).await;
                let (tokens, unknown) = match looked {
                    Ok(found) => found,
                    // In a cluster, that says nothing about the partitions that this listener waits for.
                    Err(_) if self.looks.is_cluster() => (Vec::new(), partitions),
                    Err(error) => {
                        partitions.into_iter().for_each(|partition| self.slots.wake(partition));
                        return Err(error);
                    }
                };
                unknown.into_iter().for_each(|partition| self.slots.wake(partition));
                Ok(tokens.into_iter().map(|(partition, queue)| (partition, Some(queue))).collect())
            }
            Idle::Some => {
                let group = self.group.iter().copied();
                let token = self.broker.wait_for_work(group, &self.queues).await?;
                let mut tokens = Vec::new();
                if let Some((partition, queue)) = token {
                    tokens.push((partition, Some(queue)));
                    // The tokens of those behind it are taken first next time.
                    let at = self.group.iter().position(|&other| other == partition);
                    self.group.rotate_left(at.map_or(0, |at| at + 1));
                }
                let visits = match self.visits().await {
                    // In a cluster, that says nothing about the partitions that this listener waits for.
                    Err(_) if self.looks.is_cluster() => Vec::new(),
                    visits => visits?,
                };
                for visit in visits {
                    if !tokens.iter().any(|&(other, _)| other == visit.0) {
                        tokens.push(visit);
                    }
                }
                Ok(tokens)
            }
        }
    }

    /// Returns the partitions to exchange with although no listener has taken their token, if it is time: those with a
    /// token that no listener waits for; those with jobs that tokens may not report to this worker, because they are
    /// delayed or parked; and another one in turn.
    async fn visits(&mut self) -> Result<Vec<Token>, Error> {
        let visit_every = self.share.borrow().visit_every;
        let Some(turns) = self.visits.lock().take(visit_every) else { return Ok(Vec::new()) };
        let reachable = || turns.iter().copied().filter(|&it| !self.looks.is_away(it));
        let mut visits = match turns.len() {
            1 => Vec::new(),
            _ => self.looks.with_side_queues(reachable()).await?,
        };
        visits.extend(reachable().next());
        let others: Vec<_> = {
            let share = self.share.borrow();
            reachable().filter(|it| !share.partitions.contains(it)).collect()
        };
        // Last: tokens that are taken must not be lost.
        let (tokens, unknown) = match self.looks.take_tokens(&others, &self.queues).await {
            Ok(found) => found,
            Err(_) => (Vec::new(), others),
        };
        visits.extend(unknown);
        let with_tokens = tokens.into_iter().map(|(partition, queue)| (partition, Some(queue)));
        Ok(with_tokens.chain(visits.into_iter().map(|partition| (partition, None))).collect())
    }

    /// Requests exchanges and waits until they are done, but not for long: what they leave gets new tokens. `None` if
    /// the processors do no more.
    async fn request_work(&self, tokens: Vec<Token>) -> Option<Vec<Expected>> {
        let request = async |(partition, woken): Token| {
            let (answer, answered) = oneshot::channel();
            let request = WorkRequest { woken, answer };
            let (_, requests) = self.requests.iter().find(|&&(other, _)| other == partition)?;
            requests.send(request).await.ok()?;
            answered.await.ok()
        };
        let all = join_all(tokens.into_iter().map(request));
        match tokio::time::timeout(EXCHANGES_WITHIN, all).await {
            Ok(answers) => answers.into_iter().collect(),
            Err(_elapsed) => Some(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pulses;

    #[test]
    fn a_listener_that_does_not_come_back_for_its_answer_is_missed() {
        let pulse = Pulses::default().add("consumer");
        pulse.answered();
        let (answer, answered) = oneshot::channel();
        WorkRequest { woken: None, answer }.answer(&pulse);
        let later = Instant::now() + 2 * ANSWERS_WITHIN;
        assert!(pulse.problem(later).is_some());
        drop(answered);
        assert_eq!(pulse.problem(later), None);
    }
}
