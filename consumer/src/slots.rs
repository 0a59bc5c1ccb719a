//! The slots in which jobs run: those of all pools of a consumer, shared by the processors of all partitions.
//!
//! The pools have their own slots, but one state: a job that must run alone runs while nothing else runs in any of them.

use std::sync::Arc;

use crunch_common::job::Partition;
use metrics::Gauge;
use tokio::sync::watch;

/// The slots of a consumer.
#[derive(Debug)]
pub(crate) struct Slots {
    gauges: SlotGauges,
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
    /// By the numbers of pools.
    pools: Vec<Count>,
    /// Pools and partitions that the slots are reserved for, in the order of requests: only the first may use idle
    /// slots.
    reserved: Vec<(usize, Partition)>,
}

/// The slots of one pool.
#[derive(Debug, Clone, Copy)]
struct Count {
    total: usize,
    /// How many more jobs are claimed, which start as soon as a slot is free for them.
    ahead: usize,
    /// More than the others together after the pool became smaller.
    occupied: usize,
}

impl Count {
    fn idle(self) -> usize {
        (self.total + self.ahead).saturating_sub(self.occupied)
    }
}

impl Slots {
    /// Creates the slots of a consumer without pools.
    pub(crate) fn new(gauges: SlotGauges) -> Arc<Self> {
        Arc::new(Self { gauges, state: watch::Sender::default() })
    }

    /// Adds a pool with that many slots.
    pub(crate) fn add(self: &Arc<Self>, total: usize) -> PoolSlots {
        let mut number = 0;
        self.state.send_modify(|state| {
            number = state.pools.len();
            state.pools.push(Count { total, ahead: 0, occupied: 0 });
        });
        self.gauges.all.increment(total as f64);
        PoolSlots { all: self.clone(), pool: number }
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
}

/// One slot, occupied until this value is dropped.
#[derive(Debug)]
pub struct Slot(PoolSlots);

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
            pool.idle() > idle_before
        });
        self.all.gauges.all.increment(total as f64 - before as f64);
    }

    /// Takes up to `max` idle slots for jobs of a partition; none while they are reserved for another.
    pub(crate) fn take(&self, partition: Partition, max: usize) -> Vec<Slot> {
        let mut taken = 0;
        self.all.state.send_if_modified(|state| {
            if state.reserved.first().is_none_or(|&first| first == (self.pool, partition)) {
                let pool = &mut state.pools[self.pool];
                taken = pool.idle().min(max);
                pool.occupied += taken;
            }
            taken > 0
        });
        self.all.gauges.busy.increment(taken as f64);
        (0..taken).map(|_| Slot(self.clone())).collect()
    }

    /// Returns how many are occupied in all pools, without the `taken` ones of the caller.
    pub(crate) fn busy_except(&self, taken: usize) -> usize {
        self.all.state.borrow().pools.iter().map(|pool| pool.occupied).sum::<usize>() - taken
    }

    pub(crate) fn any_idle(&self) -> bool {
        self.all.state.borrow().pools[self.pool].idle() > 0
    }

    /// Waits until a slot is idle and every partition may use it. Takes none: a processor that settles may fill it at
    /// once.
    pub(crate) async fn idle(&self) {
        let usable = |state: &State| state.pools[self.pool].idle() > 0 && state.reserved.is_empty();
        // The sender lives as long as this value.
        let _ = self.all.state.subscribe().wait_for(usable).await;
    }

    /// Begins or ends to reserve the slots of all pools for one and a partition: they run empty for a job that must run
    /// alone.
    pub(crate) fn reserve(&self, partition: Partition, reserved: bool) {
        let this = (self.pool, partition);
        self.all.state.send_if_modified(|state| {
            let was_reserved = state.reserved.contains(&this);
            match (was_reserved, reserved) {
                (false, true) => state.reserved.push(this),
                (true, false) => state.reserved.retain(|&other| other != this),
                (true, true) | (false, false) => {}
            }
            was_reserved != reserved
        });
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let PoolSlots { all, pool } = &self.0;
        all.gauges.busy.decrement(1.0);
        // Waiters wait for the first idle slot.
        all.state.send_if_modified(|state| {
            let pool = &mut state.pools[*pool];
            pool.occupied -= 1;
            pool.idle() == 1
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pool(total: usize) -> PoolSlots {
        Slots::new(SlotGauges::noop()).add(total)
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
