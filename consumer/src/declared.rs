//! What the pools of a consumer have declared: their tasks and queues, for the announcer and for heartbeats.

use crunch_common::broker::WorkerInfo;
use crunch_common::queue::QueueName;
use crunch_common::task::TaskDescriptor;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::PoolSettings;

/// The declarations of all pools.
#[derive(Debug, Default)]
pub(crate) struct Declared {
    pools: Mutex<Vec<Declaration>>,
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
