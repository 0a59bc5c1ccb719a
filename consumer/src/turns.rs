//! Which partition takes the next idle slots of a pool: the one that had fewest, and of several the one that has waited
//! longest.
//!
//! Partitions that may have jobs stand in a row. The first takes as many slots as an exchange carries, and moves back
//! by as many; the others take what is left beyond what those before them could take. So all get the same number of
//! slots while they have jobs, whether they take one at a time or as many as a call carries: none is more than one call
//! ahead. Without a row, an exchange that settles a job would claim the next one for its slot, and one partition would
//! have all slots for as long as it has jobs.
//!
//! A worker waits for tokens only while a partition is outside of the row, and more slots are idle than the row can
//! take. With fewer idle slots it looks for tokens of those outside whenever a slot becomes idle, but not all the time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crunch_common::broker::Exchange;

/// The least time from one look for tokens to the next, and for each partition: a look costs Redis about half a
/// microsecond for each.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const LOOK_EVERY_EACH: Duration = Duration::from_millis(1);

/// The row of one pool. Partitions are their numbers here.
#[derive(Debug)]
pub(crate) struct Turns {
    /// By partition.
    work: Vec<Work>,
    /// How many slots each has had. One that had no jobs for a while does not catch up: on joining the row it counts as
    /// having had as many as the first.
    had: Vec<u64>,
    /// How many exchanges with each fail and are repeated: meanwhile it is not in the row.
    failing: Vec<u32>,
    /// Those that may have jobs, and that no exchange looks at yet; the next one first.
    row: VecDeque<usize>,
    /// When the next look may be.
    look_at: Option<Instant>,
    look_is_due: bool,
}

/// What is known of the jobs of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// The last exchange found fewer than it wanted.
    None,
    /// One exchange should look. In the row.
    Unknown,
    /// One looks.
    Looking,
    /// The last exchange found as many as it wanted. In the row.
    Known,
}

impl Turns {
    /// Creates the row: at the start every partition may have jobs.
    pub(crate) fn new(partitions: usize) -> Self {
        let (work, had) = (vec![Work::Unknown; partitions], vec![0; partitions]);
        let (failing, row) = (vec![0; partitions], (0..partitions).collect());
        Self { work, had, failing, row, look_at: None, look_is_due: false }
    }

    /// Records that a partition may have jobs.
    pub(crate) fn wake(&mut self, partition: usize) {
        if matches!(self.work[partition], Work::None | Work::Looking) {
            self.work[partition] = Work::Unknown;
            self.join_row(partition);
        }
    }

    pub(crate) fn wake_all(&mut self) {
        (0..self.work.len()).for_each(|partition| self.wake(partition));
    }

    /// Returns how many of the idle slots a partition may take: those that the ones before it in the row leave.
    pub(crate) fn share(&self, partition: usize, idle: usize) -> usize {
        let before = self.row.iter().position(|&other| other == partition);
        idle.saturating_sub(before.unwrap_or(self.row.len()) * Exchange::MAX_CLAIMS)
    }

    /// Records that an exchange with a partition has taken slots.
    pub(crate) fn took(&mut self, partition: usize, slots: usize) {
        self.had[partition] += slots as u64;
        match self.work[partition] {
            Work::Unknown => {
                self.work[partition] = Work::Looking;
                self.leave_row(partition);
            }
            Work::Known => {
                self.leave_row(partition);
                self.join_row(partition);
            }
            Work::None | Work::Looking => {}
        }
    }

    /// Records how many jobs that exchange found. If as many as slots, there may be more; else there are none, unless a
    /// token came meanwhile.
    pub(crate) fn found(&mut self, partition: usize, slots: usize, jobs: usize) {
        self.leave_row(partition);
        self.had[partition] -= (slots - jobs) as u64;
        self.work[partition] = match (self.work[partition], jobs == slots) {
            (_, true) => Work::Known,
            (Work::Unknown, false) => Work::Unknown,
            (Work::None | Work::Looking | Work::Known, false) => Work::None,
        };
        if self.is_waiting(partition, false) {
            self.join_row(partition);
        }
    }

    /// Records that an exchange with a partition failed and is repeated: the others do not wait for it, whatever is
    /// learned about it until [`Turns::recovered`].
    pub(crate) fn failed(&mut self, partition: usize) {
        self.failing[partition] += 1;
        self.leave_row(partition);
    }

    /// Records that the exchange is not repeated any more. The partition may have jobs.
    pub(crate) fn recovered(&mut self, partition: usize) {
        self.failing[partition] -= 1;
        if self.work[partition] != Work::Known {
            self.work[partition] = Work::Unknown;
        }
        self.join_row(partition);
    }

    /// Records that one more slot is idle. Returns whether a look for tokens is due.
    pub(crate) fn slot_is_idle(&mut self, idle: usize, now: impl FnOnce() -> Instant) -> bool {
        // The only partition is claimed from whenever one of its jobs is settled.
        let is_one_outside = self.work.len() > 1 && self.row.len() < self.work.len();
        if is_one_outside && !self.leaves_some(idle) {
            let (now, count) = (now(), u32::try_from(self.work.len()).unwrap_or(u32::MAX));
            if self.look_at.is_none_or(|at| at <= now) {
                self.look_at = Some(now + LOOK_EVERY.max(LOOK_EVERY_EACH * count));
                self.look_is_due = true;
            }
        }
        self.look_is_due
    }

    /// Takes the look that is due: the partitions whose tokens are to be looked for, if there are any.
    pub(crate) fn take_look(&mut self) -> Vec<usize> {
        let is_due = std::mem::take(&mut self.look_is_due);
        let without = |&partition: &usize| {
            is_due && self.work[partition] == Work::None && self.failing[partition] == 0
        };
        (0..self.work.len()).filter(without).collect()
    }

    pub(crate) const fn look_is_due(&self) -> bool {
        self.look_is_due
    }

    /// Returns whether a partition is in the row. One of which only one exchange should look is not for a second one.
    pub(crate) fn is_waiting(&self, partition: usize, for_a_second: bool) -> bool {
        match self.work[partition] {
            _ if self.failing[partition] > 0 => false,
            Work::Known => true,
            Work::Unknown => !for_a_second,
            Work::None | Work::Looking => false,
        }
    }

    /// Returns the partitions that may take idle slots.
    pub(crate) fn next(&self, idle: usize) -> impl Iterator<Item = usize> {
        self.row.iter().take(idle.div_ceil(Exchange::MAX_CLAIMS)).copied()
    }

    /// Returns whether slots are left when all in the row have taken theirs, for partitions outside of it: tokens of
    /// those in it are no news.
    pub(crate) fn leaves_some(&self, idle: usize) -> bool {
        self.row.len() < self.work.len() && idle > self.row.len() * Exchange::MAX_CLAIMS
    }

    fn join_row(&mut self, partition: usize) {
        if self.failing[partition] > 0 {
            return;
        }
        self.leave_row(partition);
        let first = self.row.front().map_or(0, |&first| self.had[first]);
        let had = first.max(self.had[partition]);
        self.had[partition] = had;
        let at = self.row.partition_point(|&other| self.had[other] <= had);
        self.row.insert(at, partition);
    }

    fn leave_row(&mut self, partition: usize) {
        self.row.retain(|&other| other != partition);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes the slots of an exchange for the first in the row.
    fn turn(turns: &mut Turns) -> usize {
        let first = turns.next(1).next().unwrap();
        turns.took(first, 1);
        first
    }

    /// An exchange takes a slot and finds no job.
    fn nothing(turns: &mut Turns, partition: usize) {
        turns.took(partition, 1);
        turns.found(partition, 1, 0);
    }

    /// Partitions that all have jobs.
    fn busy(partitions: usize) -> Turns {
        let mut turns = Turns::new(partitions);
        (0..partitions).for_each(|partition| turns.found(partition, 1, 1));
        turns
    }

    #[test]
    fn partitions_with_jobs_take_turns() {
        let mut turns = busy(3);
        let order: Vec<_> = (0..7).map(|_| turn(&mut turns)).collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn all_get_the_same_number_of_slots() {
        let mut turns = busy(3);
        let slots = [20, 1, 7, 2, 20, 3, 3, 1, 4, 20, 5, 6];
        for slots in slots.into_iter().cycle().take(120) {
            let first = turns.next(slots).next().unwrap();
            turns.took(first, slots);
        }
        let most = turns.had.iter().max().unwrap();
        assert!(turns.had.iter().all(|had| most - had <= 20), "{:?}", turns.had);
    }

    #[test]
    fn a_partition_that_had_no_jobs_does_not_catch_up() {
        let mut turns = busy(2);
        nothing(&mut turns, 1);
        (0..100).for_each(|_| turns.took(0, 20));
        turns.wake(1);
        turns.found(1, 1, 1);
        let order: Vec<_> = (0..4).map(|_| turn(&mut turns)).collect();
        assert_eq!(order, [0, 1, 0, 1]);
    }

    #[test]
    fn who_settles_takes_only_what_those_before_it_leave() {
        let (mut turns, call) = (busy(3), Exchange::MAX_CLAIMS);
        let (slots, shares) = (3 * call - 10, [3 * call - 10, 2 * call - 10, call - 10]);
        turn(&mut turns);
        assert_eq!([1, 2, 0].map(|partition| turns.share(partition, slots)), shares);
        assert_eq!([1, 2, 0].map(|partition| turns.share(partition, 1)), [1, 0, 0]);
        nothing(&mut turns, 1);
        assert_eq!([2, 0, 1].map(|partition| turns.share(partition, slots)), shares);
        assert!(turns.leaves_some(2 * call + 1) && !turns.leaves_some(2 * call));
        assert!(!busy(3).leaves_some(1000), "tokens of those in the row are no news");
    }

    #[test]
    fn one_exchange_looks_for_jobs_and_two_claim_known_ones() {
        let mut turns = Turns::new(1);
        assert!(turns.is_waiting(0, false) && !turns.is_waiting(0, true));
        turns.took(0, 1);
        assert!(!turns.is_waiting(0, false));
        turns.found(0, 1, 1);
        assert!(turns.is_waiting(0, true));
        turns.took(0, 1);
        assert!(turns.is_waiting(0, true));
        nothing(&mut turns, 0);
        assert!(!turns.is_waiting(0, false));
        assert_eq!(turns.next(1).count(), 0);
    }

    #[test]
    fn a_token_that_comes_while_an_exchange_looks_is_not_forgotten() {
        let mut turns = Turns::new(2);
        turns.took(0, 1);
        turns.wake(0);
        turns.found(0, 1, 0);
        assert!(turns.is_waiting(0, false));
        turns.wake_all();
        assert_eq!(turns.next(100).collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn a_partition_that_cannot_be_reached_does_not_hold_up_the_others() {
        let mut turns = busy(2);
        turns.took(0, 20);
        turns.failed(0);
        for _ in 0..2 {
            assert_eq!((turns.share(1, 1), turns.next(100).collect::<Vec<_>>()), (1, vec![1]));
            // Nor when others report that it may have jobs, or when its slots are given up.
            turns.wake(0);
            turns.failed(0);
        }
        turns.found(0, 20, 0);
        turns.wake_all();
        assert_eq!(turns.next(100).collect::<Vec<_>>(), [1]);
        (0..3).for_each(|_| turns.recovered(0));
        assert_eq!(turns.next(100).collect::<Vec<_>>(), [1, 0]);
        turns.took(0, 1);
        turns.found(0, 1, 0);
        assert_eq!(turns.next(100).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn tokens_are_looked_for_where_nothing_is_known_and_not_all_the_time() {
        let (mut turns, now) = (busy(3), Instant::now());
        assert!(!turns.slot_is_idle(1, || now));
        nothing(&mut turns, 0);
        nothing(&mut turns, 2);
        assert_eq!(turns.take_look(), [0; 0]);
        let more = Exchange::MAX_CLAIMS + 1;
        assert!(!turns.slot_is_idle(more, || now), "it waits for tokens");
        assert!(turns.slot_is_idle(1, || now) && turns.look_is_due());
        assert_eq!(turns.take_look(), [0, 2]);
        assert!(!turns.slot_is_idle(1, || now + LOOK_EVERY / 2));
        assert!(turns.slot_is_idle(more - 1, || now + LOOK_EVERY));
        turns.found(0, 1, 1);
        turns.took(2, 1);
        turns.found(2, 1, 1);
        assert_eq!(turns.take_look(), [0; 0]);

        let mut only = Turns::new(1);
        nothing(&mut only, 0);
        assert!(!only.slot_is_idle(1, || now));
    }
}
