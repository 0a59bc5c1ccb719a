//! Jobs that one pool of a worker claims and another one has the code for.
//!
//! The own tasks of a worker and those of each server are claimed for separately, and what is claimed for may be the same
//! queue: `CRUNCH_WORKER_QUEUES` holds for all of them, and tasks may name one queue. Which task a job has is known only
//! once it is claimed. Such a job is released, uncharged, and the other pool claims it at once. It is not run in the slot in
//! which it was claimed: only the slots of the other pool show whether a child is free, or how many own jobs may run at
//! once. Without a hint the other pool would find it by its next visit to the partition, up to two seconds later.

use std::collections::HashMap;

use crunch_common::broker::LeaseKey;
use crunch_common::task::TaskName;
use crunch_consumer::PoolSlots;
use parking_lot::Mutex;

/// The pools of a worker, by the tasks that they have.
#[derive(Debug, Default)]
pub(crate) struct Siblings(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    pools: HashMap<TaskName, PoolSlots>,
    /// Jobs whose release Redis has not confirmed, with the pools that have their tasks.
    released: HashMap<LeaseKey, PoolSlots>,
}

impl Siblings {
    /// Adds a pool with these tasks.
    pub(crate) fn add(&self, tasks: impl IntoIterator<Item = TaskName>, pool: &PoolSlots) {
        let tasks = tasks.into_iter().map(|task| (task, pool.clone()));
        self.0.lock().pools.extend(tasks);
    }

    /// Records that a job is released for another pool. Returns whether there is one that has its task.
    pub(crate) fn release(&self, lease: LeaseKey, task: &TaskName) -> bool {
        let mut state = self.0.lock();
        let pool = state.pools.get(task).cloned();
        pool.map(|pool| state.released.insert(lease, pool)).is_some()
    }

    /// Has the other pool claim a job whose release Redis has confirmed. Does nothing for all other jobs.
    pub(crate) fn settled(&self, lease: LeaseKey) {
        if let Some(pool) = self.0.lock().released.remove(&lease) {
            pool.wake(lease.id.partition());
        }
    }
}
