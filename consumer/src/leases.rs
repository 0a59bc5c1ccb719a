//! The leases that heartbeats extend, each until a time at which its job may run elsewhere whatever happens here; and in
//! which partitions there lately were some.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crunch_common::broker::LeaseKey;
use crunch_common::job::Partition;
use parking_lot::Mutex;

/// The leases of one consumer. A lease is held from its claim until its outcome is in Redis, so that an outage does not
/// cost it.
#[derive(Debug, Default)]
pub struct Leases(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    until: HashMap<LeaseKey, Instant>,
    /// When the last lease was claimed in each partition, or may have been.
    used: HashMap<Partition, Instant>,
}

impl Leases {
    /// Holds a lease until that time, at the latest: after it, the lease expires even if its attempt hangs.
    pub fn hold(&self, lease: LeaseKey, until: Instant) {
        let mut held = self.0.lock();
        held.until.insert(lease, until);
        held.used.insert(lease.id.partition(), Instant::now());
    }

    /// Holds a lease that is held for longer, if it would end before that time.
    pub fn prolong(&self, lease: LeaseKey, until: Instant) {
        self.0.lock().until.entry(lease).and_modify(|held| *held = until.max(*held));
    }

    /// Removes a lease that is settled or lost, or whose attempt cannot be settled: then it expires.
    pub fn forget(&self, lease: LeaseKey) {
        self.0.lock().until.remove(&lease);
    }

    /// Records that Redis may have granted leases of a partition in an answer that is lost.
    pub(crate) fn may_be_held(&self, partition: Partition) {
        self.0.lock().used.insert(partition, Instant::now());
    }

    /// Whether leases of a partition were claimed within that time, or may have been.
    pub(crate) fn were_claimed(&self, partition: Partition, within: Duration) -> bool {
        self.0.lock().used.get(&partition).is_some_and(|at| at.elapsed() < within)
    }

    /// Returns the leases of a partition for the next heartbeat.
    pub(crate) fn of(&self, partition: Partition) -> Vec<LeaseKey> {
        let now = Instant::now();
        let held = self.0.lock();
        let is_here = |lease: &LeaseKey| lease.id.partition() == partition;
        let here = held.until.iter().filter(|&(lease, &until)| is_here(lease) && now < until);
        here.map(|(&lease, _)| lease).collect()
    }

    /// Returns how many are held.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.lock().until.len()
    }
}

#[cfg(test)]
mod tests {
    use crunch_common::broker::Epoch;
    use crunch_common::job::JobId;

    use super::*;

    #[test]
    fn a_lease_is_extended_until_its_time_or_until_it_is_forgotten() {
        let (leases, now) = (Leases::default(), Instant::now());
        let [here, there] = [0, 1].map(|number| Partition::new(number).unwrap());
        let key = |partition| LeaseKey { id: JobId::generate(partition), epoch: Epoch::new(1) };
        let [first, second, over, other] = [here, here, here, there].map(key);
        let later = now + Duration::from_secs(60);
        for (lease, until) in [(first, later), (second, later), (over, now), (other, later)] {
            leases.hold(lease, until);
        }
        leases.forget(second);
        assert_eq!((leases.of(here), leases.of(there)), (vec![first], vec![other]));
        leases.prolong(over, later);
        leases.prolong(second, later);
        assert_eq!((leases.of(here).len(), leases.count()), (2, 3));
    }

    #[test]
    fn a_partition_is_used_by_claims_and_by_answers_that_are_lost() {
        let (leases, minute) = (Leases::default(), Duration::from_secs(60));
        let [claimed, doubtful, unused] = [0, 1, 2].map(|number| Partition::new(number).unwrap());
        let lease = LeaseKey { id: JobId::generate(claimed), epoch: Epoch::new(1) };
        leases.hold(lease, Instant::now() + minute);
        leases.forget(lease);
        leases.may_be_held(doubtful);
        let used = [claimed, doubtful, unused].map(|it| leases.were_claimed(it, minute));
        assert_eq!(used, [true, true, false]);
        assert!(!leases.were_claimed(claimed, Duration::ZERO));
    }
}
