//! Waits for work without polling: blocks on the wake-up tokens of the worker's queues while slots are idle.
//!
//! Takes tokens, never jobs. A full or draining worker takes none, so that they wake somebody who can use them; nor does one whose
//! machine can run no task for now.

use std::sync::Arc;
use std::time::Duration;

use crunch_common::broker::Broker;
use crunch_common::job::Partition;
use crunch_common::queue::QueueName;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::Reachability;
use crate::health::{Expected, Pulse};
use crate::slots::Slots;
use crate::suspension::Suspensions;

/// Asks the processor to look for work.
#[derive(Debug)]
pub(crate) struct Look {
    /// The queue whose token was taken, if there was one.
    pub(crate) woken: Option<QueueName>,
    answer: oneshot::Sender<Expected>,
}

impl Look {
    /// Without a token, and nobody waits for the answer.
    pub(crate) fn for_all() -> Self {
        Self { woken: None, answer: oneshot::channel().0 }
    }

    /// The processor has looked. From now on the listener is to be heard of: when its runtime is hogged, it does not even
    /// come to its wait.
    pub(crate) fn answer(self, pulse: &Pulse) {
        // The listener may have ended.
        drop(self.answer.send(pulse.expects(ANSWERS_WITHIN)));
    }
}

pub(crate) struct Listener {
    /// With a connection of its own: it blocks.
    pub(crate) broker: Broker,
    /// The processor's: if our connection died, its may have died unnoticed.
    pub(crate) exchanges: Broker,
    pub(crate) partition: Partition,
    pub(crate) queues: Vec<QueueName>,
    pub(crate) slots: Arc<Slots>,
    pub(crate) suspensions: Arc<Suspensions>,
    pub(crate) looks: mpsc::Sender<Look>,
    /// Also the processor's: together they take work.
    pub(crate) pulse: Pulse,
}

/// A wait takes two seconds, and one that hangs is to show within three.
const ANSWERS_WITHIN: Duration = Duration::from_millis(2800);

impl Listener {
    pub(crate) async fn run(self, draining: CancellationToken) {
        draining.run_until_cancelled(self.listen()).await;
    }

    async fn listen(&self) {
        let mut redis = Reachability::of("listener").felt_in(&self.pulse);
        let mut woken = None;
        // The processor is told to look before the first wait: work may lie there without a token.
        while let Some(returned) = self.ask_to_look(woken.take()).await {
            drop(returned);
            if self.suspensions.some_can_run().await {
                // It was not looked meanwhile, and whatever came then may lie there without a token.
                continue;
            }
            self.slots.idle().await;
            let _answer = self.pulse.expects(ANSWERS_WITHIN);
            match self.broker.wait_for_work(self.partition, &self.queues).await {
                // Without a token it looks all the same: this bounds how long a lost token can matter.
                Ok(queue) => {
                    redis.back();
                    woken = queue;
                }
                Err(error) => {
                    self.exchanges.reset_connection();
                    tokio::time::sleep(redis.failed(&error)).await;
                }
            }
        }
    }

    /// Has the processor look once; comes back when it has. `None` if it looks no more.
    async fn ask_to_look(&self, woken: Option<QueueName>) -> Option<Expected> {
        let (answer, answered) = oneshot::channel();
        self.looks.send(Look { woken, answer }).await.ok()?;
        answered.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::health::Health;

    #[test]
    fn a_listener_that_does_not_come_back_for_its_answer_is_missed() {
        let pulse = Health::default().pulse("consumer");
        pulse.answered();
        let (answer, answered) = oneshot::channel();
        Look { woken: None, answer }.answer(&pulse);
        let later = Instant::now() + 2 * ANSWERS_WITHIN;
        assert!(pulse.trouble(later).is_some());
        drop(answered);
        assert_eq!(pulse.trouble(later), None);
    }
}
