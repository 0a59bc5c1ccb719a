//! To which partitions of a cluster a pool listens.
//!
//! There a wait for tokens occupies a connection for each partition ([`Broker::groups`]), and a large fleet would have
//! as many as workers times partitions. A few listeners start a job of a partition as soon as all workers would, unless
//! all of them are busy. So each worker of a large fleet listens to some partitions only, and every two seconds it looks
//! for the tokens of the others.
//!
//! Which ones is decided by a hash of worker and partition: each partition has about as many listeners, and a worker
//! whose fleet grows ends some waits and begins none. It listens to one partition of each node at least, so that a node
//! that is away never takes all of them.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use crunch_common::broker::{Broker, WorkerId};
use crunch_common::job::Partition;
use crunch_common::queue::QueueName;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How many workers listen to each partition, if there are more: at nine tenths of the load of single slots all of them
/// are busy 3 % of the time.
const LISTENERS: usize = 32;
/// How often it is decided again.
const EVERY: Duration = Duration::from_secs(60);

/// The partitions that a pool listens to; the same for all of its listeners.
pub(crate) type Audible = watch::Receiver<BTreeSet<Partition>>;

/// Decides it.
pub(crate) struct Audience {
    pub(crate) broker: Broker,
    pub(crate) queues: Vec<QueueName>,
    /// All partitions, the first ones to listen to first.
    order: Vec<Partition>,
    audible: watch::Sender<BTreeSet<Partition>>,
}

impl Audience {
    /// Starts with all partitions, or in a cluster with none until it is known how many workers there are.
    pub(crate) fn new(broker: Broker, worker: WorkerId, queues: Vec<QueueName>) -> Self {
        let mut order: Vec<_> = broker.partitions().collect();
        order.sort_by_cached_key(|&partition| {
            let mut hasher = DefaultHasher::new();
            (worker, partition).hash(&mut hasher);
            hasher.finish()
        });
        let first = if broker.is_cluster() { Vec::new() } else { order.clone() };
        let audible = watch::Sender::new(first.into_iter().collect());
        Self { broker, queues, order, audible }
    }

    pub(crate) fn audible(&self) -> Audible {
        self.audible.subscribe()
    }

    /// Decides again and again. Needs not run outside a cluster.
    pub(crate) async fn run(self, draining: CancellationToken) {
        draining.run_until_cancelled(self.decide_forever()).await;
    }

    async fn decide_forever(self) {
        loop {
            match self.broker.estimate_workers(&self.queues).await {
                Ok(workers) => self.decide(workers),
                // Until it is known; afterwards the last decision holds.
                Err(_) if self.audible.borrow().is_empty() => self.decide(1),
                Err(_) => {}
            }
            // Workers that started together do not ask together.
            tokio::time::sleep(EVERY.mul_f64(rand::random_range(0.5..1.0))).await;
        }
    }

    fn decide(&self, workers: usize) {
        let count = (LISTENERS * self.order.len()).div_ceil(workers.max(1));
        // Also if it is the same: listeners learn that nodes have changed.
        self.audible
            .send_replace(choose(&self.order, count, |partition| self.broker.node(partition)));
    }
}

/// The first `count` partitions, and the first one of each node.
fn choose<N: PartialEq>(
    order: &[Partition],
    count: usize,
    node: impl Fn(Partition) -> N,
) -> BTreeSet<Partition> {
    let mut nodes = Vec::new();
    let mut is_first_of_its_node = |partition| {
        let node = node(partition);
        let is_new = !nodes.contains(&node);
        if is_new {
            nodes.push(node);
        }
        is_new
    };
    let places = order.iter().copied().enumerate();
    let chosen = places.filter(|&(at, it)| is_first_of_its_node(it) || at < count);
    chosen.map(|(_, partition)| partition).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partitions(numbers: impl IntoIterator<Item = u16>) -> Vec<Partition> {
        numbers.into_iter().map(|number| Partition::new(number).unwrap()).collect()
    }

    #[test]
    fn the_first_ones_are_chosen_and_one_of_each_node() {
        let order = partitions([5, 3, 4, 1, 0, 2]);
        let chosen = |count| choose(&order, count, |partition| partition.number() / 2);
        let expected = |numbers: &[u16]| partitions(numbers.iter().copied()).into_iter().collect();
        assert_eq!(chosen(0), expected(&[5, 3, 1]));
        assert_eq!(chosen(2), expected(&[5, 3, 1]));
        assert_eq!(chosen(3), expected(&[5, 3, 4, 1]));
        assert_eq!(chosen(100).len(), 6);
    }
}
