//! Starts what claims jobs and settles attempts: for each partition a listener, a processor and its secondary.
//!
//! Processors share a thread with its own runtime. An exchange with Redis passes through several tasks, and waking
//! another thread for each of them would take longer than the exchange; and handlers that hog their runtime do not keep
//! the results of other jobs from Redis. Listeners run on the runtime of the handlers: a worker whose handlers hog
//! their runtime does not request more work, and its health shows it.

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
use crate::service::{Listener, Processor, Rotation, WorkRequest};
use crate::slots::Slots;

/// A processor and the channel of its requests.
type ProcessorWithRequests = (Processor, mpsc::Receiver<WorkRequest>);

/// The dependencies of listeners and processors.
pub(crate) struct Consumers<'a> {
    pub(crate) config: &'a WorkerConfig,
    pub(crate) broker: &'a Broker,
    pub(crate) worker: WorkerId,
    pub(crate) queues: &'a [QueueName],
    pub(crate) health: &'a Health,
    pub(crate) executor: Arc<Executor>,
}

impl Consumers<'_> {
    /// Starts the thread of the processors. The thread ends when everything that was claimed is settled after
    /// `draining` fired, or when `give_up` fires. Listeners and handlers run on the runtime of the caller; listeners
    /// are added to `helpers` and end with `draining`.
    ///
    /// # Errors
    /// If the system refuses another runtime.
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
            for (processor, requests) in both {
                let (draining, give_up) = (draining.clone(), give_up.clone());
                processors.push(processor.run(requests, handlers.clone(), draining, give_up));
            }
        }
        Ok(tokio::task::spawn_blocking(move || {
            runtime.block_on(join_all(processors));
        }))
    }

    /// Creates the listener and the processors of one partition.
    fn consumer(
        &self,
        partition: Partition,
        slots: &Arc<Slots>,
    ) -> (Listener, [ProcessorWithRequests; 2]) {
        let (requests, primary_requests) = mpsc::channel(1);
        let (secondary, secondary_requests) = mpsc::channel(1);
        let exchanges = self.broker.with_own_connection();
        let pulse = self.health.pulse(format!("consumer of partition {partition}"));
        let listener = Listener {
            broker: self.broker.with_own_connection(),
            exchanges: exchanges.clone(),
            partition,
            queues: self.queues.to_vec(),
            slots: slots.clone(),
            suspensions: self.executor.suspensions.clone(),
            requests,
            pulse: pulse.clone(),
        };
        let processor = |sequence, broker, secondary| Processor {
            broker,
            partition,
            sequence,
            secondary,
            worker: self.worker,
            lease: self.config.lease,
            queues: match self.config.queues {
                Some(_) => Rotation::by_preference(self.queues.to_vec()),
                None => Rotation::in_turn(self.queues.to_vec()),
            },
            tasks: self.executor.registry.names(),
            slots: slots.clone(),
            executor: self.executor.clone(),
            pulse: pulse.clone(),
        };
        let first = processor(Sequence::Primary, exchanges, Some(secondary));
        // Over one connection both exchanges would be sent and answered together, and Redis would wait for both.
        let second = processor(Sequence::Secondary, self.broker.with_own_connection(), None);
        (listener, [(first, primary_requests), (second, secondary_requests)])
    }
}
