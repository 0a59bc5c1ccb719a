//! Counts how attempts end, for the history: heartbeats carry the counts (`broker/history.rs`).

use std::sync::Arc;
use std::time::Duration;

use crunch_common::broker::{CountsByQueue, NumberedCounts};
use crunch_common::queue::QueueName;
use crunch_common::task::TaskName;
use parking_lot::Mutex;

/// How the attempts of one worker ended. Bounded by its tasks and queues.
#[derive(Debug, Default)]
pub struct Tallies(Mutex<Tally>);

#[derive(Debug, Default)]
struct Tally {
    /// What ended since the last ones were sent.
    counts: CountsByQueue,
    /// What was sent and is not confirmed.
    sent: Option<Arc<NumberedCounts>>,
    /// How many were sent.
    number: u64,
}

impl Tallies {
    /// Counts an attempt, by the [word](crunch_common::broker::Settlement::word) for its outcome; not one that was
    /// released or put off.
    pub fn ended(&self, queue: &QueueName, task: &TaskName, outcome: &str, took: Duration) {
        if ["released", "snoozed"].contains(&outcome) {
            return;
        }
        let mut tally = self.0.lock();
        if let Some(counts) = tally.counts.get_mut(queue).and_then(|tasks| tasks.get_mut(task)) {
            return counts.add(outcome, took);
        }
        let tasks = tally.counts.entry(queue.clone()).or_default();
        tasks.entry(task.clone()).or_default().add(outcome, took);
    }

    /// Returns what to send: the same until it is confirmed.
    pub(crate) fn to_send(&self) -> Option<Arc<NumberedCounts>> {
        let mut tally = self.0.lock();
        if tally.sent.is_none() && !tally.counts.is_empty() {
            tally.number += 1;
            let (number, counts) = (tally.number, std::mem::take(&mut tally.counts));
            tally.sent = Some(Arc::new(NumberedCounts { number, counts }));
        }
        tally.sent.clone()
    }

    /// Records that what was sent is in Redis.
    pub(crate) fn confirmed(&self) {
        self.0.lock().sent = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_sent_unchanged_until_they_are_confirmed() {
        let tallies = Tallies::default();
        let end = |outcome| {
            let (queue, task) = ("q".parse().unwrap(), "t".parse().unwrap());
            tallies.ended(&queue, &task, outcome, Duration::ZERO);
        };
        let sent = || tallies.to_send().map(|counts| counts.to_string());
        assert_eq!(sent(), None);
        end("succeeded");
        assert_eq!(sent().unwrap(), "1\nq t 0=1 5=1\n");
        end("failed");
        assert_eq!(sent().unwrap(), "1\nq t 0=1 5=1\n");
        tallies.confirmed();
        assert_eq!(sent().unwrap(), "2\nq t 1=1 5=1\n");
        tallies.confirmed();
        assert_eq!(sent(), None);
    }
}
