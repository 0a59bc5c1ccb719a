//! The slots in which jobs run: those of all pools of a consumer, shared by the processors of all partitions.
//!
//! The pools have their own slots, but one state: a job that must run alone runs while nothing else runs in any of them.
//! In which order the partitions get idle slots is decided in `turns.rs`.

use std::sync::Arc;
use std::time::Instant;

use crunch_common::broker::Exchange;
use crunch_common::job::Partition;
use metrics::Gauge;
use tokio::sync::{Notify, watch};

use crate::turns::Turns;

/// The slots of a consumer.
#[derive(Debug)]
pub(crate) struct Slots {
    gauges: SlotGauges,
    partitions: usize,
    state: watch::Sender<State>,
}

/// Show how many slots there are, and how many are occupied.
#[derive(Debug, Clone)]
pub struct SlotGauges {
    /// All slots.
    pub all: Gauge,
    /// Those that are occupied.
    pub busy: Gauge,
}

impl SlotGauges {
    /// Creates gauges that nothing reads.
    #[must_use]
    pub fn noop() -> Self {
        Self { all: Gauge::noop(), busy: Gauge::noop() }
    }
}

#[derive(Debug, Default)]
struct State {
    /// By their numbers.
    pools: Vec<Pool>,
    /// Pools and partitions that the slots are reserved for, in the order of requests: only the first may use idle
    /// slots.
    reserved: Vec<(usize, Partition)>,
    /// No slot is idle: no job is claimed.
    quiet: bool,
}

/// The slots of one pool.
#[derive(Debug)]
struct Pool {
    total: usize,
    /// How many more jobs are claimed, which start as soon as a slot is free for them.
    ahead: usize,
    /// More than the others together after the pool became smaller.
    occupied: usize,
    /// As all pools are.
    quiet: bool,
    turns: Turns,
    /// Notified when it may be a partition's turn: the processors of each.
    called: Arc<[[Notify; 2]]>,
}

impl Pool {
    fn idle(&self) -> usize {
        if self.quiet { 0 } else { (self.total + self.ahead).saturating_sub(self.occupied) }
    }

    /// Notifies those that may take idle slots.
    fn call_next(&self) {
        for partition in self.turns.next(self.idle()) {
            let [first, second] = &self.called[partition];
            first.notify_one();
            if self.turns.is_waiting(partition, true) {
                second.notify_one();
            }
        }
    }

    fn is_turn_of(&self, partition: usize, second: bool) -> bool {
        self.turns.is_waiting(partition, second) && self.turns.share(partition, self.idle()) > 0
    }
}

impl State {
    /// Whether slots of a pool are left when the partitions with jobs have taken theirs.
    fn leaves_some(&self, pool: usize) -> bool {
        let pool = &self.pools[pool];
        self.reserved.is_empty() && pool.turns.leaves_some(pool.idle())
    }

    fn call_next(&self) {
        if self.reserved.is_empty() {
            self.pools.iter().for_each(Pool::call_next);
        }
    }
}

impl Slots {
    /// Creates the slots of a consumer without pools.
    pub(crate) fn new(gauges: SlotGauges, partitions: usize) -> Arc<Self> {
        Arc::new(Self { gauges, partitions, state: watch::Sender::default() })
    }

    /// Adds a pool with that many slots.
    pub(crate) fn add(self: &Arc<Self>, total: usize) -> PoolSlots {
        let turns = Turns::new(self.partitions);
        let called: Arc<[_]> = (0..self.partitions).map(|_| Default::default()).collect();
        let mut number = 0;
        self.state.send_modify(|state| {
            number = state.pools.len();
            let (quiet, called) = (state.quiet, called.clone());
            state.pools.push(Pool { total, ahead: 0, occupied: 0, quiet, turns, called });
        });
        self.gauges.all.increment(total as f64);
        PoolSlots { all: self.clone(), pool: number, called }
    }

    /// Begins or ends to claim no jobs.
    pub(crate) fn set_quiet(&self, quiet: bool) {
        self.state.send_if_modified(|state| {
            let changes = state.quiet != quiet;
            state.quiet = quiet;
            state.pools.iter_mut().for_each(|pool| pool.quiet = quiet);
            if changes && !quiet {
                state.call_next();
            }
            changes
        });
    }

    /// Returns the number of slots.
    pub(crate) fn total(&self) -> usize {
        self.state.borrow().pools.iter().map(|pool| pool.total).sum()
    }
}

/// The slots of one pool. Clones refer to the same ones.
#[derive(Debug, Clone)]
pub struct PoolSlots {
    all: Arc<Slots>,
    pool: usize,
    called: Arc<[[Notify; 2]]>,
}

/// Why a consumer asks Redis for tokens.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    /// Slots are left: it waits for the next token.
    Some,
    /// Others will take them: it takes the tokens of these partitions that are there, and does not wait.
    Look(Vec<Partition>),
}

/// One slot, occupied until this value is dropped.
#[derive(Debug)]
pub struct Slot(PoolSlots);

/// An exchange that is repeated.
pub(crate) struct Failing {
    slots: PoolSlots,
    partitions: Vec<Partition>,
}

impl Drop for Failing {
    fn drop(&mut self) {
        let partitions = std::mem::take(&mut self.partitions);
        self.slots.change(|turns| partitions.into_iter().for_each(|it| turns.recovered(at(it))));
    }
}

impl PoolSlots {
    /// Changes how many there are, and how many jobs to claim ahead of them. Those that are occupied stay so: the pool
    /// has fewer idle ones until they are free.
    pub fn resize(&self, total: usize, ahead: usize) {
        let mut before = total;
        self.all.state.send_if_modified(|state| {
            let pool = &mut state.pools[self.pool];
            let idle_before = pool.idle();
            before = std::mem::replace(&mut pool.total, total);
            pool.ahead = ahead;
            let has_grown = pool.idle() > idle_before;
            if has_grown {
                state.call_next();
            }
            has_grown
        });
        self.all.gauges.all.increment(total as f64 - before as f64);
    }

    /// Takes up to `max` idle slots for jobs of a partition, as far as it is its turn; none while they are reserved for
    /// another. If some were taken, [`PoolSlots::found`] must follow.
    pub(crate) fn take(&self, partition: Partition, max: usize) -> Vec<Slot> {
        let mut taken = 0;
        self.all.state.send_if_modified(|state| {
            let pool = &mut state.pools[self.pool];
            let share = match state.reserved.first() {
                Some(&first) if first == (self.pool, partition) => pool.idle(),
                Some(_) => 0,
                None => pool.turns.share(at(partition), pool.idle()),
            };
            taken = share.min(max);
            if taken > 0 {
                pool.occupied += taken;
                pool.turns.took(at(partition), taken);
                state.call_next();
            }
            false
        });
        self.all.gauges.busy.increment(taken as f64);
        (0..taken).map(|_| Slot(self.clone())).collect()
    }

    /// Records that a partition may have jobs.
    pub(crate) fn wake(&self, partition: Partition) {
        self.change(|turns| turns.wake(at(partition)));
    }

    /// Records that any partition may have jobs.
    pub(crate) fn wake_all(&self) {
        self.change(Turns::wake_all);
    }

    /// Records how many jobs an exchange found that had taken slots.
    pub(crate) fn found(&self, partition: Partition, slots: usize, jobs: usize) {
        self.change(|turns| turns.found(at(partition), slots, jobs));
    }

    /// Records that an exchange failed and is repeated, until the returned value is dropped. The partitions are those
    /// that it says something about.
    pub(crate) fn failed(&self, partitions: Vec<Partition>) -> Failing {
        self.change(|turns| partitions.iter().for_each(|&it| turns.failed(at(it))));
        Failing { slots: self.clone(), partitions }
    }

    fn change(&self, change: impl FnOnce(&mut Turns)) {
        self.all.state.send_if_modified(|state| {
            change(&mut state.pools[self.pool].turns);
            state.call_next();
            // Fewer may be in the row.
            true
        });
    }

    /// Waits until slots are idle and it is the turn of a partition that may have jobs: for its second processor, one
    /// that is known to have more than the first can claim.
    pub(crate) async fn turn(&self, partition: Partition, second: bool) {
        while !self.is_turn_of(partition, second) {
            self.called[at(partition)][usize::from(second)].notified().await;
        }
    }

    pub(crate) fn is_turn_of(&self, partition: Partition, second: bool) -> bool {
        let state = self.all.state.borrow();
        state.reserved.is_empty() && state.pools[self.pool].is_turn_of(at(partition), second)
    }

    /// Whether no jobs are claimed.
    pub(crate) fn are_quiet(&self) -> bool {
        self.all.state.borrow().quiet
    }

    /// Returns how many are occupied in all pools, without the `taken` ones of the caller.
    pub(crate) fn busy_except(&self, taken: usize) -> usize {
        self.all.state.borrow().pools.iter().map(|pool| pool.occupied).sum::<usize>() - taken
    }

    /// Waits until more slots are idle than the partitions with jobs can take, and every partition may use them; or
    /// until a look for tokens is due. Takes none: a processor that settles may fill them at once.
    pub(crate) async fn idle(&self) -> Idle {
        let mut states = self.all.state.subscribe();
        loop {
            let is_over = |state: &State| {
                state.leaves_some(self.pool) || state.pools[self.pool].turns.look_is_due()
            };
            // The sender lives as long as this value.
            let _ = states.wait_for(is_over).await;
            let (mut look, mut leaves_some) = (Vec::new(), false);
            self.all.state.send_if_modified(|state| {
                look = state.pools[self.pool].turns.take_look();
                leaves_some = state.leaves_some(self.pool);
                false
            });
            if !look.is_empty() {
                let partitions = look.into_iter().map(|number| number as u16);
                return Idle::Look(partitions.filter_map(Partition::new).collect());
            }
            if leaves_some {
                return Idle::Some;
            }
        }
    }

    /// Begins or ends to reserve the slots of all pools for one and a partition: they run empty for a job that must run
    /// alone.
    pub(crate) fn reserve(&self, partition: Partition, reserved: bool) {
        let this = (self.pool, partition);
        self.all.state.send_if_modified(|state| {
            let was_reserved = state.reserved.contains(&this);
            match (was_reserved, reserved) {
                (false, true) => state.reserved.push(this),
                (true, false) => {
                    state.reserved.retain(|&other| other != this);
                    state.call_next();
                }
                (true, true) | (false, false) => {}
            }
            was_reserved != reserved
        });
    }
}

/// The place of a partition in a pool's turns.
fn at(partition: Partition) -> usize {
    usize::from(partition.number())
}

impl Drop for Slot {
    fn drop(&mut self) {
        let PoolSlots { all, pool: number, .. } = &self.0;
        all.gauges.busy.decrement(1.0);
        all.state.send_if_modified(|state| {
            let pool = &mut state.pools[*number];
            pool.occupied -= 1;
            let idle = pool.idle();
            let look_is_due = idle > 0 && pool.turns.slot_is_idle(idle, Instant::now);
            // The one that is notified takes more if more are idle by then.
            if idle % Exchange::MAX_CLAIMS == 1 {
                state.call_next();
            }
            let turns = &state.pools[*number].turns;
            look_is_due || (turns.leaves_some(idle) && !turns.leaves_some(idle - 1))
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pool(total: usize) -> PoolSlots {
        let slots = Slots::new(SlotGauges::noop(), 2).add(total);
        // No partition has jobs.
        slots.change(|turns| {
            (0..2).for_each(|partition| {
                turns.took(partition, 1);
                turns.found(partition, 1, 0);
            });
        });
        slots
    }

    impl PoolSlots {
        fn any_idle(&self) -> bool {
            self.all.state.borrow().pools[self.pool].idle() > 0
        }
    }

    #[test]
    fn slots_come_back_when_they_are_dropped() {
        let (slots, partition) = (pool(3), Partition::default());
        let taken = slots.take(partition, 5);
        assert_eq!((taken.len(), slots.busy_except(3), slots.any_idle()), (3, 0, false));
        assert!(slots.take(partition, 1).is_empty());
        drop(taken);
        assert_eq!(slots.take(partition, 2).len(), 2);
        assert_eq!(slots.busy_except(0), 0);
    }

    #[test]
    fn while_a_worker_runs_empty_for_one_partition_the_others_get_nothing() {
        let slots = pool(2);
        let other_pool = slots.all.add(1);
        let [first, second] = [0, 1].map(|number| Partition::new(number).unwrap());
        slots.reserve(second, true);
        slots.reserve(first, true);
        assert!(slots.take(first, 1).is_empty());
        assert!(other_pool.take(second, 1).is_empty());
        assert_eq!(slots.take(second, 1).len(), 1);
        slots.reserve(second, false);
        assert_eq!(slots.take(first, 1).len(), 1);
    }

    #[test]
    fn pools_have_their_own_slots_and_are_busy_together() {
        let first = pool(1);
        let (second, partition) = (first.all.add(2), Partition::default());
        let taken = first.take(partition, 5);
        assert_eq!((taken.len(), second.busy_except(0), second.any_idle()), (1, 1, true));
        assert_eq!((second.take(partition, 5).len(), first.all.total()), (2, 3));
    }

    #[tokio::test]
    async fn a_slot_that_becomes_idle_is_for_the_partition_that_has_waited_longest() {
        let slots = pool(1);
        let [first, second] = [0, 1].map(|number| Partition::new(number).unwrap());
        slots.found(first, 0, 0);
        slots.found(second, 0, 0);
        let taken = slots.take(first, 1);
        slots.found(first, 0, 0);
        let waiting = tokio::spawn({
            let slots = slots.clone();
            async move { slots.turn(second, false).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(taken);
        assert!(slots.is_turn_of(second, true));
        let called = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        called.expect("it is called").unwrap();
        // The first one settled, and frees its slot for the second.
        let taken = slots.take(second, 1);
        assert!(slots.take(first, 1).is_empty());
        drop(taken);
        assert!(slots.is_turn_of(first, false) && !slots.is_turn_of(second, false));
    }

    #[tokio::test]
    async fn a_wait_for_a_slot_ends_when_the_pool_becomes_larger() {
        let slots = pool(0);
        let waiting = tokio::spawn({
            let slots = slots.clone();
            async move { slots.idle().await }
        });
        tokio::task::yield_now().await;
        slots.resize(1, 0);
        let ended = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        ended.expect("it ends").unwrap();
    }

    #[test]
    fn a_pool_that_became_smaller_is_full_until_enough_slots_are_free() {
        let (slots, partition) = (pool(3), Partition::default());
        let mut taken = slots.take(partition, 3);
        slots.resize(1, 0);
        assert!(!slots.any_idle());
        taken.truncate(1);
        assert!(!slots.any_idle());
        taken.clear();
        assert_eq!(slots.take(partition, 3).len(), 1);
        slots.resize(2, 0);
        assert!(slots.any_idle());
    }

    #[test]
    fn jobs_are_claimed_ahead_but_are_no_slots() {
        let (slots, partition) = (pool(1), Partition::default());
        slots.resize(1, 2);
        assert_eq!(slots.all.total(), 1);
        let mut taken = slots.take(partition, 5);
        assert_eq!(taken.len(), 3);
        slots.resize(1, 0);
        taken.truncate(1);
        assert!(!slots.any_idle());
    }
}
