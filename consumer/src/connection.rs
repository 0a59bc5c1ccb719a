//! A connection that carries the exchanges of all partitions, one at a time.
//!
//! Exchanges that are sent together are answered together: Redis would run them one after the other while all other
//! clients wait. So each waits for the answer to the one before it, in the order in which they asked.

use crunch_common::broker::Broker;
use tokio::sync::{Semaphore, SemaphorePermit};

/// A connection that one exchange uses at a time.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) broker: Broker,
    free: Semaphore,
}

/// The right to use the connection, until this value is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionTurn<'a> {
    pub(crate) broker: &'a Broker,
    _permit: SemaphorePermit<'a>,
}

impl Connection {
    /// Takes a broker with its own connection.
    pub(crate) fn new(broker: Broker) -> Self {
        Self { broker, free: Semaphore::new(1) }
    }

    /// Waits until the connection is free.
    pub(crate) async fn turn(&self) -> ConnectionTurn<'_> {
        let permit = self.free.acquire().await.expect("it is never closed");
        ConnectionTurn { broker: &self.broker, _permit: permit }
    }

    /// The same, if it is free now and nobody waits for it.
    pub(crate) fn try_turn(&self) -> Option<ConnectionTurn<'_>> {
        let permit = self.free.try_acquire().ok()?;
        Some(ConnectionTurn { broker: &self.broker, _permit: permit })
    }
}
