//! Waits for work without polling: blocks on the wake-up tokens of the consumer's queues while slots are idle.
//!
//! Takes tokens, never jobs. A full or draining consumer takes none, so that they wake one that can use them; nor does one
//! whose runner can run nothing for now.

use std::sync::Arc;
use std::time::Duration;

use crunch_common::broker::Broker;
use crunch_common::job::Partition;
use crunch_common::queue::QueueName;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{Expected, PoolSlots, Pulse, Reachability, Runner};

/// Requests an exchange from the processor.
#[derive(Debug)]
pub(crate) struct WorkRequest {
    /// The queue whose token was taken, if there was one.
    pub(crate) woken: Option<QueueName>,
    answer: oneshot::Sender<Expected>,
}

impl WorkRequest {
    /// Creates a request without a token, whose answer is not awaited.
    pub(crate) fn without_token() -> Self {
        Self { woken: None, answer: oneshot::channel().0 }
    }

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
    /// The processor's connection: if the listener's broke, this one may have broken unnoticed.
    pub(crate) exchanges: Broker,
    pub(crate) partition: Partition,
    pub(crate) queues: Vec<QueueName>,
    pub(crate) slots: PoolSlots,
    pub(crate) runner: Arc<R>,
    pub(crate) requests: mpsc::Sender<WorkRequest>,
    /// Also the processor's: together they claim work.
    pub(crate) pulse: Pulse,
}

/// A wait takes two seconds, and one that hangs must show within three.
const ANSWERS_WITHIN: Duration = Duration::from_millis(2800);

impl<R: Runner> Listener<R> {
    pub(crate) async fn run(self, draining: CancellationToken) {
        draining.run_until_cancelled(self.listen()).await;
    }

    async fn listen(&self) {
        let mut reachability = Reachability::of("listener").reporting_to(&self.pulse);
        let mut woken = None;
        // The processor exchanges before the first wait: there may be work without a token.
        while let Some(returned) = self.request_work(woken.take()).await {
            drop(returned);
            if self.wait_until_runnable().await {
                // No exchange took place meanwhile, and work that came then may have no token.
                continue;
            }
            self.slots.idle().await;
            let _answer = self.pulse.expects(ANSWERS_WITHIN);
            match self.broker.wait_for_work(self.partition, &self.queues).await {
                // Without a token it exchanges all the same: this bounds how long a lost token can matter.
                Ok(queue) => {
                    reachability.succeeded();
                    woken = queue;
                }
                Err(error) => {
                    self.exchanges.reset_connection();
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

    /// Requests one exchange and waits until it is done. `None` if the processor does no more.
    async fn request_work(&self, woken: Option<QueueName>) -> Option<Expected> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(WorkRequest { woken, answer }).await.ok()?;
        answered.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

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
