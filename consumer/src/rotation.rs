//! Which queues an exchange reads, and in which order: one call reads no more than [`Exchange::MAX_QUEUES`], so a
//! consumer with more reads all of them in turn.

use crunch_common::broker::Exchange;
use crunch_common::queue::QueueName;

/// The queues of a consumer, in the order in which exchanges read them.
#[derive(Debug, Clone)]
pub struct Rotation {
    queues: Vec<QueueName>,
    /// This many at the front are read every time.
    kept: usize,
    /// The position among the others at which the next exchange begins.
    first: usize,
}

impl Rotation {
    /// Every queue is first as often as any other.
    #[must_use]
    pub fn in_turn(queues: Vec<QueueName>) -> Self {
        Self { queues, kept: 0, first: 0 }
    }

    /// The earlier a queue, the more it is preferred. If there are more than one call reads, the first ones fill half
    /// of each call and the others follow in turn.
    #[must_use]
    pub fn by_preference(queues: Vec<QueueName>) -> Self {
        let fit = queues.len() <= Exchange::MAX_QUEUES;
        let kept = if fit { queues.len() } else { Exchange::MAX_QUEUES / 2 };
        Self { queues, kept, first: 0 }
    }

    /// Returns all queues.
    #[must_use]
    pub fn queues(&self) -> &[QueueName] {
        &self.queues
    }

    /// Returns how many queues an exchange reads.
    pub(crate) fn width(&self) -> usize {
        self.queues.len().min(Exchange::MAX_QUEUES)
    }

    /// Returns the queues to read now; one whose token was taken is among them.
    pub(crate) fn next(&mut self, woken: Option<&QueueName>) -> Vec<QueueName> {
        let (kept, rotating) = self.queues.split_at(self.kept);
        let mut chosen = kept.to_vec();
        if rotating.is_empty() {
            return chosen;
        }
        let all_fit = self.queues.len() <= Exchange::MAX_QUEUES;
        let woken = woken.filter(|queue| !all_fit && rotating.contains(queue));
        chosen.extend(woken.cloned());
        let room = Exchange::MAX_QUEUES - chosen.len();
        let turn = rotating.iter().cycle().skip(self.first).take(rotating.len());
        chosen.extend(turn.filter(|&queue| Some(queue) != woken).take(room).cloned());
        let step = if all_fit { 1 } else { room };
        self.first = (self.first + step) % rotating.len();
        chosen
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn queues(count: usize) -> Vec<QueueName> {
        (0..count).map(|at| format!("q{at:02}").parse().unwrap()).collect()
    }

    #[test]
    fn every_queue_has_its_turn_at_being_first() {
        let mut rotation = Rotation::in_turn(queues(3));
        let firsts: Vec<_> = (0..3).map(|_| rotation.next(None)[0].to_string()).collect();
        assert_eq!(firsts, ["q00", "q01", "q02"]);
    }

    #[test]
    fn preferred_queues_stay_in_their_order() {
        let mut rotation = Rotation::by_preference(queues(3));
        assert!((0..3).all(|_| rotation.next(None) == queues(3)));
    }

    #[test]
    fn more_queues_than_one_look_takes_are_all_looked_at_in_a_few() {
        for mut rotation in [Rotation::in_turn(queues(100)), Rotation::by_preference(queues(100))] {
            let selections: Vec<_> = (0..6).map(|_| rotation.next(None)).collect();
            assert!(selections.iter().all(|selection| selection.len() == Exchange::MAX_QUEUES));
            let seen: HashSet<_> = selections.into_iter().flatten().collect();
            assert_eq!(seen.len(), 100);
        }
    }

    #[test]
    fn a_woken_queue_is_looked_at_once() {
        let woken = "q70".parse().unwrap();
        for mut rotation in [Rotation::in_turn(queues(100)), Rotation::by_preference(queues(100))] {
            for _ in 0..10 {
                let selection = rotation.next(Some(&woken));
                assert_eq!(selection.iter().filter(|&queue| *queue == woken).count(), 1);
                assert_eq!(selection.len(), Exchange::MAX_QUEUES);
            }
        }
    }
}
