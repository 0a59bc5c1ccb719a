//! The leases that heartbeats extend, each until a time at which its job may run elsewhere whatever happens here.

use std::collections::HashMap;
use std::time::Instant;

use crunch_common::broker::LeaseKey;
use crunch_common::job::Partition;
use parking_lot::Mutex;

/// The leases of one consumer. A lease is held from its claim until its outcome is in Redis, so that an outage does not
/// cost it.
#[derive(Debug, Default)]
pub struct Leases(Mutex<HashMap<LeaseKey, Instant>>);

impl Leases {
    /// Holds a lease until that time, at the latest: after it, the lease expires even if its attempt hangs.
    pub fn hold(&self, lease: LeaseKey, until: Instant) {
        self.0.lock().insert(lease, until);
    }

    /// Holds a lease that is held for longer, if it would end before that time.
    pub fn prolong(&self, lease: LeaseKey, until: Instant) {
        self.0.lock().entry(lease).and_modify(|held| *held = until.max(*held));
    }

    /// Removes a lease that is settled or lost, or whose attempt cannot be settled: then it expires.
    pub fn forget(&self, lease: LeaseKey) {
        self.0.lock().remove(&lease);
    }

    /// Returns the leases of a partition for the next heartbeat.
    pub(crate) fn of(&self, partition: Partition) -> Vec<LeaseKey> {
        let now = Instant::now();
        let held = self.0.lock();
        let here =
            held.iter().filter(|&(lease, &until)| lease.id.partition() == partition && now < until);
        here.map(|(&lease, _)| lease).collect()
    }

    /// Returns how many are held.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
}
