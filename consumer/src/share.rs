//! The share of a fleet's waiting and looking that is a worker's: less in a large fleet, so that the fleet as a whole
//! costs Redis about as much.
//!
//! In a cluster a wait for tokens occupies a connection for each partition ([`Broker::groups`]). Thirty-two listeners
//! start a job of a partition as soon as all workers would, unless all of them are busy; so of more workers each listens
//! to some partitions only. Now and then it looks for the tokens of the others, the less often the more workers do.
//!
//! To which partitions a worker listens is decided by a hash of worker and partition: each partition has about as many
//! listeners, and a worker whose fleet grows ends some waits and begins none. It listens to one partition of each node
//! at least, so that a node that is away never takes all of them.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crunch_common::broker::{Broker, FleetSize, WorkerId};
use crunch_common::job::Partition;
use crunch_common::queue::QueueName;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A fleet is large if it has more workers. Each partition has this number of listeners: at nine tenths of the load of
/// single slots all of them are busy 3 % of the time.
const SMALL: usize = 32;
/// When it is decided for the second time: of workers that start together the first ones see few others.
const SOON: Duration = Duration::from_secs(10);
/// How often it is decided again.
const EVERY: Duration = Duration::from_secs(60);
/// How often a worker of a small fleet visits partitions without having their tokens: jobs may wait that no token
/// reports, or a token may be lost.
pub(crate) const VISIT_EVERY: Duration = Duration::from_secs(2);
/// And one of a large fleet that has had nothing to do since its last visit, at least.
const LONGEST_VISIT: Duration = Duration::from_secs(20);

/// The number of workers, as far as it is known.
#[derive(Debug, Default)]
pub(crate) struct Fleet(AtomicUsize);

impl Fleet {
    /// Decides whether this worker does what is enough if a small fleet does it.
    pub(crate) fn is_my_turn(&self) -> bool {
        let workers = self.0.load(Ordering::Relaxed);
        workers <= SMALL || rand::random_range(0..workers) < SMALL
    }
}

/// What a pool waits and looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share {
    /// The partitions that it listens to.
    pub(crate) partitions: BTreeSet<Partition>,
    /// How often it visits the others.
    pub(crate) visit_every: Duration,
}

/// Decides on the share of a pool.
pub(crate) struct Shares {
    broker: Broker,
    fleet: Arc<Fleet>,
    queues: Vec<QueueName>,
    /// All partitions, the first ones to listen to first.
    order: Vec<Partition>,
    share: watch::Sender<Share>,
}

impl Shares {
    /// Starts with all partitions; if there are several, in a cluster, with none until [`Shares::run`] has asked how many
    /// workers there are.
    pub(crate) fn new(
        broker: Broker,
        fleet: Arc<Fleet>,
        worker: WorkerId,
        queues: Vec<QueueName>,
    ) -> Self {
        let mut order: Vec<_> = broker.partitions().collect();
        order.sort_by_cached_key(|&partition| {
            let mut hasher = DefaultHasher::new();
            (worker, partition).hash(&mut hasher);
            hasher.finish()
        });
        let is_unknown = broker.is_cluster() && order.len() > 1;
        let first = if is_unknown { &[][..] } else { &order[..] };
        let partitions = first.iter().copied().collect();
        let share = watch::Sender::new(Share { partitions, visit_every: VISIT_EVERY });
        Self { broker, fleet, queues, order, share }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Share> {
        self.share.subscribe()
    }

    /// Decides again and again.
    pub(crate) async fn run(self, draining: CancellationToken) {
        draining.run_until_cancelled(self.decide_forever()).await;
    }

    async fn decide_forever(self) {
        let mut pause = SOON;
        loop {
            match self.broker.fleet_size(&self.queues).await {
                Ok(size) => self.decide(size),
                // Until it is known the pool listens to one partition of each node; then the last decision holds.
                Err(_) if pause == SOON => self.publish(0, VISIT_EVERY),
                Err(_) => {}
            }
            // Workers that started together do not ask together.
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            pause = EVERY;
        }
    }

    fn decide(&self, size: FleetSize) {
        self.fleet.0.store(size.workers, Ordering::Relaxed);
        let workers = size.of_queues.max(1);
        let count = (SMALL * self.order.len()).div_ceil(workers);
        self.publish(count, visit_every(workers));
    }

    /// Publishes a share with that many partitions; outside a cluster, with all.
    fn publish(&self, count: usize, visit_every: Duration) {
        let partitions = match self.broker.is_cluster() {
            true => choose(&self.order, count, |partition| self.broker.node(partition)),
            false => self.order.iter().copied().collect(),
        };
        let share = Share { partitions, visit_every };
        self.share.send_if_modified(|last| {
            let changes = *last != share;
            *last = share;
            changes
        });
    }
}

fn visit_every(workers: usize) -> Duration {
    VISIT_EVERY.mul_f64((workers as f64 / SMALL as f64).max(1.0)).min(LONGEST_VISIT)
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

    #[test]
    fn a_worker_of_a_large_fleet_visits_less_often() {
        let seconds = [1, 32, 64, 320, 100_000].map(|workers| visit_every(workers).as_secs());
        assert_eq!(seconds, [2, 2, 4, 20, 20]);
    }

    #[test]
    fn in_a_large_fleet_few_have_the_turn() {
        let fleet = Fleet::default();
        assert!((0..1000).all(|_| fleet.is_my_turn()));
        fleet.0.store(32_000, Ordering::Relaxed);
        assert!((0..1000).filter(|_| fleet.is_my_turn()).count() < 100);
    }
}
