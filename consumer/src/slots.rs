//! The slots in which jobs run, shared by the processors of all partitions.

use std::sync::Arc;

use crunch_common::job::Partition;
use metrics::Gauge;
use tokio::sync::watch;

/// The slots of a consumer: how many jobs it runs at once.
#[derive(Debug)]
pub(crate) struct Slots {
    total: usize,
    /// Shows how many are occupied.
    busy: Gauge,
    state: watch::Sender<State>,
}

#[derive(Debug)]
struct State {
    idle: usize,
    /// Partitions that the slots are reserved for, in the order of requests: only the first may use idle
    /// slots.
    reserved: Vec<Partition>,
}

/// One slot, occupied until this value is dropped.
#[derive(Debug)]
pub struct Slot(Arc<Slots>);

impl Slots {
    /// Creates idle slots; `busy` shows how many are occupied.
    pub(crate) fn new(total: usize, busy: Gauge) -> Arc<Self> {
        Arc::new(Self {
            total,
            busy,
            state: watch::Sender::new(State { idle: total, reserved: Vec::new() }),
        })
    }

    /// Takes up to `max` idle slots for jobs of a partition; none while they are reserved for another.
    pub(crate) fn take(self: &Arc<Self>, partition: Partition, max: usize) -> Vec<Slot> {
        let mut taken = 0;
        self.state.send_if_modified(|state| {
            if state.reserved.first().is_none_or(|&first| first == partition) {
                taken = state.idle.min(max);
                state.idle -= taken;
            }
            taken > 0
        });
        self.busy.increment(taken as f64);
        (0..taken).map(|_| Slot(self.clone())).collect()
    }

    /// Returns how many are occupied without the `taken` ones of the caller.
    pub(crate) fn busy_except(&self, taken: usize) -> usize {
        self.total - self.state.borrow().idle - taken
    }

    pub(crate) fn any_idle(&self) -> bool {
        self.state.borrow().idle > 0
    }

    /// Waits until a slot is idle and every partition may use it. Takes none: a processor that settles may fill it at
    /// once.
    pub(crate) async fn idle(&self) {
        let usable = |state: &State| state.idle > 0 && state.reserved.is_empty();
        // The sender lives as long as this value.
        let _ = self.state.subscribe().wait_for(usable).await;
    }

    /// Begins or ends to reserve the slots for a partition: they run empty for a job that must run alone.
    pub(crate) fn reserve(&self, partition: Partition, reserved: bool) {
        self.state.send_if_modified(|state| {
            let was_reserved = state.reserved.contains(&partition);
            match (was_reserved, reserved) {
                (false, true) => state.reserved.push(partition),
                (true, false) => state.reserved.retain(|&other| other != partition),
                (true, true) | (false, false) => {}
            }
            was_reserved != reserved
        });
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.busy.decrement(1.0);
        // Waiters wait for the first idle slot.
        self.0.state.send_if_modified(|state| {
            state.idle += 1;
            state.idle == 1
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_come_back_when_they_are_dropped() {
        let (slots, partition) = (Slots::new(3, Gauge::noop()), Partition::default());
        let taken = slots.take(partition, 5);
        assert_eq!((taken.len(), slots.busy_except(3), slots.any_idle()), (3, 0, false));
        assert!(slots.take(partition, 1).is_empty());
        drop(taken);
        assert_eq!(slots.take(partition, 2).len(), 2);
        assert_eq!(slots.busy_except(0), 0);
    }

    #[test]
    fn while_a_worker_runs_empty_for_one_partition_the_others_get_nothing() {
        let slots = Slots::new(2, Gauge::noop());
        let [first, second] = [0, 1].map(|number| Partition::new(number).unwrap());
        slots.reserve(second, true);
        slots.reserve(first, true);
        assert!(slots.take(first, 1).is_empty());
        assert_eq!(slots.take(second, 1).len(), 1);
        slots.reserve(second, false);
        assert_eq!(slots.take(first, 1).len(), 1);
    }
}
