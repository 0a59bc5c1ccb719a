//! What the pools of a consumer have declared: their tasks and queues, for the announcer and for heartbeats.

use std::sync::atomic::{AtomicBool, Ordering};

use crunch_common::broker::WorkerInfo;
use crunch_common::queue::QueueName;
use crunch_common::task::TaskDescriptor;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::PoolSettings;

/// What was announced to Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Announced {
    /// How often a Redis got it that did not have it: first at the start, then whenever Redis may have lost its data.
    pub anew: u64,
    /// How many pools the last announcement described.
    pub pools: usize,
}

/// The declarations of all pools.
#[derive(Debug, Default)]
pub(crate) struct Declared {
    pools: Mutex<Vec<Declaration>>,
    /// Set if Redis has the first announcement, and has not lost its data since then.
    is_kept: AtomicBool,
    announced: watch::Sender<Announced>,
    /// Notified when there is another one: the next heartbeat describes it at once.
    pub(crate) added: Notify,
    /// Notified when they must be sent to Redis again: after the first heartbeat that describes another one, so that a
    /// task that is known has a worker; and when Redis does not know the worker any more.
    pub(crate) outdated: Notify,
}

/// The declaration of one pool.
#[derive(Debug)]
struct Declaration {
    tasks: Vec<TaskDescriptor>,
    queues: Vec<QueueName>,
}

impl Declared {
    pub(crate) fn add(&self, pool: &PoolSettings) {
        let queues = pool.queues.queues().to_vec();
        self.pools.lock().push(Declaration { tasks: pool.tasks.clone(), queues });
        self.added.notify_one();
    }

    /// Has everything announced again: Redis does not know this worker any more.
    pub(crate) fn forgotten(&self) {
        self.is_kept.store(false, Ordering::Relaxed);
        self.outdated.notify_one();
    }

    /// Begins an announcement; returns what [`Declared::announced`] needs at its end.
    pub(crate) fn announcing(&self) -> Announced {
        let anew = u64::from(!self.is_kept.swap(true, Ordering::Relaxed));
        Announced { anew, pools: self.count() }
    }

    /// Records whether Redis has what was announced.
    pub(crate) fn announced(&self, Announced { anew, pools }: Announced, succeeded: bool) {
        if succeeded {
            self.announced.send_modify(|all| *all = Announced { anew: all.anew + anew, pools });
        } else if anew > 0 {
            self.is_kept.store(false, Ordering::Relaxed);
        }
    }

    /// Returns what was announced so far, and all that follows.
    pub(crate) fn announcements(&self) -> watch::Receiver<Announced> {
        self.announced.subscribe()
    }

    /// Returns how many pools there are.
    pub(crate) fn count(&self) -> usize {
        self.pools.lock().len()
    }

    /// Returns all tasks.
    pub(crate) fn tasks(&self) -> Vec<TaskDescriptor> {
        self.pools.lock().iter().flat_map(|pool| pool.tasks.iter().cloned()).collect()
    }

    /// Returns all queues, each once, in the order in which they were declared.
    pub(crate) fn queues(&self) -> Vec<QueueName> {
        let mut queues = Vec::new();
        for queue in self.pools.lock().iter().flat_map(|pool| &pool.queues) {
            if !queues.contains(queue) {
                queues.push(queue.clone());
            }
        }
        queues
    }

    /// Adds tasks and queues to the description of a worker.
    pub(crate) fn describe(&self, info: &mut WorkerInfo) {
        info.tasks.extend(self.tasks().into_iter().map(|task| task.name));
        info.queues = self.queues();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_is_new_to_redis_at_the_start_and_after_a_loss_until_it_succeeds() {
        let declared = Declared::default();
        let announcements = declared.announcements();
        let announce = |succeeded| {
            declared.announced(declared.announcing(), succeeded);
            announcements.borrow().anew
        };
        assert_eq!([false, true, true, false, true].map(announce), [0, 1, 1, 1, 1]);
        declared.forgotten();
        assert_eq!([false, true, true].map(announce), [1, 2, 2]);
        // It is lost again while it is announced.
        declared.forgotten();
        let begun = declared.announcing();
        declared.forgotten();
        declared.announced(begun, true);
        assert_eq!(announce(true), 4);
    }
}
