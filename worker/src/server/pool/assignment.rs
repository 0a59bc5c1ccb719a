//! The right to run one job in a child of a pool, from the choice of the child until the job has ended. Never chooses a
//! child: `pool.rs` does.

use std::sync::Arc;
use std::time::Instant;

use crunch_common::broker::LeaseKey;

use super::ServerPool;
use crate::server::child::Child;

/// The right to run one job in a child, until this value is dropped.
#[derive(Debug)]
pub(in crate::server) struct Assignment {
    /// `None` once it was canceled.
    held: Option<(Arc<ServerPool>, Arc<Child>)>,
    since: Instant,
}

impl Assignment {
    pub(super) fn new(pool: Arc<ServerPool>, child: Arc<Child>) -> Self {
        Self { held: Some((pool, child)), since: Instant::now() }
    }

    pub(in crate::server) fn child(&self) -> &Arc<Child> {
        &self.held.as_ref().expect("only a canceled one has none").1
    }

    /// Gives up an attempt that does not end: its child gets no more jobs.
    pub(in crate::server) fn leak(&self, key: LeaseKey) {
        let (pool, child) = self.held.as_ref().expect("only a canceled one has none");
        child.leak(key);
        pool.leaked(child);
    }

    /// Returns the child of an assignment that no job takes; the pool has to end the assignment.
    pub(super) fn cancel(mut self) -> Arc<Child> {
        self.held.take().expect("it is canceled once").1
    }
}

impl Drop for Assignment {
    fn drop(&mut self) {
        if let Some((pool, child)) = self.held.take() {
            pool.leave(&child, self.since.elapsed());
        }
    }
}
