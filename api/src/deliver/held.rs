//! The leases of deliveries in flight, for the heartbeats.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crunch_common::broker::LeaseKey;
use crunch_common::job::Partition;

#[derive(Debug, Default)]
pub(super) struct Held(Mutex<Vec<LeaseKey>>);

impl Held {
    pub(super) fn add(&self, lease: LeaseKey) {
        self.lock().push(lease);
    }

    /// Removes a lease once its outcome has reached Redis: until then it must be extended.
    pub(super) fn forget(&self, lease: LeaseKey) {
        self.lock().retain(|held| *held != lease);
    }

    pub(super) fn of(&self, partition: Partition) -> Vec<LeaseKey> {
        self.lock().iter().filter(|lease| lease.id.partition() == partition).copied().collect()
    }

    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<LeaseKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
