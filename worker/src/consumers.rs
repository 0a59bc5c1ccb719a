//! What takes work and brings back what ended: for each partition a listener, a processor and its secondary.
//!
//! Processors share a thread with a runtime of its own. An exchange with Redis goes through several tasks, and waking
//! another thread for each of them would take longer than the exchange; and handlers that hog the runtime they run on keep
//! nobody else's results from Redis. Listeners live where handlers do: a worker whose handlers hog their runtime does not
//! look for more work, and its health shows it.

use std::sync::Arc;

use crunch_common::broker::{Broker, Sequence, WorkerId};
use crunch_common::job::Partition;
use crunch_common::queue::QueueName;
use futures_util::future::join_all;
use tokio::runtime::{Builder, Handle};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::config::WorkerConfig;
use crate::executor::Executor;
use crate::health::Health;
use crate::service::{Listener, Look, Processor, Rotation};
use crate::slots::Slots;

/// A processor, and what is asked of it.
type Asked = (Processor, mpsc::Receiver<Look>);

/// What they need.
pub(crate) struct Consumers<'a> {
    pub(crate) config: &'a WorkerConfig,
    pub(crate) broker: &'a Broker,
    pub(crate) worker: WorkerId,
    pub(crate) queues: &'a [QueueName],
    pub(crate) health: &'a Health,
    pub(crate) executor: Arc<Executor>,
}

impl Consumers<'_> {
    /// Starts the thread of the processors. It ends when everything that was claimed is settled after `draining` fired, or
    /// when `give_up` fires. Listeners and handlers run on the runtime of the caller; listeners are added to `helpers` and end
    /// with `draining`.
    ///
    /// # Errors
    /// If the machine refuses another runtime.
    pub(crate) fn start(
        self,
        helpers: &mut JoinSet<()>,
        draining: &CancellationToken,
        give_up: &CancellationToken,
    ) -> std::io::Result<JoinHandle<()>> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handlers = Handle::current();
        let slots = Slots::new(self.config.slots());
        let partitions = self.broker.partitions();
        let consumers: Vec<_> =
            partitions.map(|partition| self.consumer(partition, &slots)).collect();
        let mut processors = Vec::new();
        for (listener, both) in consumers {
            helpers.spawn(listener.run(draining.clone()));
            for (processor, looks) in both {
                let (draining, give_up) = (draining.clone(), give_up.clone());
                processors.push(processor.run(looks, handlers.clone(), draining, give_up));
            }
        }
        Ok(tokio::task::spawn_blocking(move || {
            runtime.block_on(join_all(processors));
        }))
    }

    /// What takes work from one partition.
    fn consumer(&self, partition: Partition, slots: &Arc<Slots>) -> (Listener, [Asked; 2]) {
        let (looks, asked) = mpsc::channel(1);
        let (secondary, asked_as_well) = mpsc::channel(1);
        let exchanges = self.broker.with_own_connection();
        let pulse = self.health.pulse(format!("consumer of partition {partition}"));
        let listener = Listener {
            broker: self.broker.with_own_connection(),
            exchanges: exchanges.clone(),
            partition,
            queues: self.queues.to_vec(),
            slots: slots.clone(),
            suspensions: self.executor.suspensions.clone(),
            looks,
            pulse: pulse.clone(),
        };
        let processor = |strand, broker, secondary| Processor {
            broker,
            partition,
            strand,
            secondary,
            worker: self.worker,
            lease: self.config.lease,
            queues: match self.config.queues {
                Some(_) => Rotation::by_preference(self.queues.to_vec()),
                None => Rotation::by_turns(self.queues.to_vec()),
            },
            tasks: self.executor.registry.names(),
            slots: slots.clone(),
            executor: self.executor.clone(),
            pulse: pulse.clone(),
        };
        let first = processor(Sequence::Primary, exchanges, Some(secondary));
        // Over one connection both would go together, come back together, and Redis would wait for both.
        let second = processor(Sequence::Secondary, self.broker.with_own_connection(), None);
        (listener, [(first, asked), (second, asked_as_well)])
    }
}
