//! Connections that carry the exchanges of all partitions: one to each node, on which one exchange is in flight at a time.
//!
//! Exchanges that are sent together are answered together: Redis would run them one after the other while all other
//! clients wait. So each waits for the answer to the one before it, in the order in which they asked. Those of another
//! node do not wait for it.

use std::sync::Arc;

use crunch_common::broker::{Broker, ByNode};
use crunch_common::job::Partition;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A connection to each node that one exchange uses at a time.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) broker: Broker,
    free: Mutex<ByNode<Arc<Semaphore>>>,
}

/// The right to use the connection to a node, until this value is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionTurn<'a> {
    pub(crate) broker: &'a Broker,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// Takes a broker with its own connection.
    pub(crate) fn new(broker: Broker) -> Self {
        Self { broker, free: Mutex::default() }
    }

    /// Waits until the connection to the node of a partition is free.
    pub(crate) async fn turn(&self, partition: Partition) -> ConnectionTurn<'_> {
        let free = self.free(partition);
        let permit = free.acquire_owned().await.expect("it is never closed");
        ConnectionTurn { broker: &self.broker, _permit: permit }
    }

    /// The same, if it is free now and nobody waits for it.
    pub(crate) fn try_turn(&self, partition: Partition) -> Option<ConnectionTurn<'_>> {
        let permit = self.free(partition).try_acquire_owned().ok()?;
        Some(ConnectionTurn { broker: &self.broker, _permit: permit })
    }

    fn free(&self, partition: Partition) -> Arc<Semaphore> {
        let make = || Arc::new(Semaphore::new(1));
        self.free.lock().get_or_make(self.broker.node(partition), make).clone()
    }
}
