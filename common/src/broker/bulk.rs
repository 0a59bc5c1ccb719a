//! Transfers of large values: each has a connection to itself, so that no other call waits for it.
//!
//! A slow transfer of a large value must not delay the small calls behind it, nor break their connection when it is
//! given up. A read may take as long as bytes arrive; only silence ends it as early as any other call. Of a write
//! nothing is visible except that it was passed to this machine's network stack, which accepts megabytes at once: it is
//! given up after a time limit that depends on its size, and a caller that retries it doubles the limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use redis::{Pipeline, Value};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout_at};

use super::Settings;
use super::commands::{Commands, in_order};
use super::connection::{Link, Repeat};
use super::endpoint::{ByNode, Endpoint};
use super::error::Error;
use super::transfer::MinRate;
use crate::job::Partition;

/// A value with more bytes has a connection to itself.
pub(crate) const LARGE: usize = 64 * 1024;
/// Concurrent transfers with a node: more would only share the same bandwidth, and each may be 64 MiB large.
const MAX_CONCURRENT: usize = 4;
/// A connection that was idle for this long is closed: Redis has a limited number of connections.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// A few connections to each node for large values, opened on demand. Clones share them.
#[derive(Clone)]
pub(crate) struct Bulk {
    settings: Arc<Settings>,
    endpoint: Endpoint,
    /// Whether it is for reads: then the bytes that arrive are counted.
    reads: bool,
    by_node: Arc<Mutex<ByNode<Arc<Transfers>>>>,
}

/// The transfers with one node.
struct Transfers {
    permits: Semaphore,
    idle: Arc<Idle>,
}

#[derive(Default)]
struct Idle {
    /// Each with the time of its last use, the least recently used first.
    links: Mutex<Vec<(Instant, Link)>>,
    /// Whether a task runs that closes those that remain unused.
    has_cleanup: AtomicBool,
}

impl Bulk {
    /// Connections for [`Bulk::read`].
    pub(crate) fn for_reads(settings: Arc<Settings>, endpoint: Endpoint) -> Self {
        Self { settings, endpoint, reads: true, by_node: Arc::default() }
    }

    /// Connections for [`Bulk::write`].
    pub(crate) fn for_writes(settings: Arc<Settings>, endpoint: Endpoint) -> Self {
        Self { reads: false, ..Self::for_reads(settings, endpoint) }
    }

    /// Sends commands that only read and whose replies have about this many bytes, as one round trip.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is silent, the network is too slow, or too many transfers are ahead.
    pub(crate) async fn read(
        &self,
        partition: Partition,
        pipeline: &Pipeline,
        bytes: u64,
        min_rate: MinRate,
    ) -> Result<Vec<Value>, Error> {
        let deadline = Instant::now() + min_rate.time_limit(bytes);
        let transfers = self.transfers(partition);
        let (_permit, link) = self.acquire(&transfers, deadline).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        let values = link.read_within(partition, pipeline, left).await?;
        transfers.idle.put_back(link);
        Ok(values)
    }

    /// Like [`Bulk::read`], for commands of several partitions.
    ///
    /// # Errors
    /// See [`Bulk::read`].
    pub(crate) async fn read_all(
        &self,
        commands: &Commands,
        bytes: u64,
        min_rate: MinRate,
    ) -> Result<Vec<Value>, Error> {
        let parts = commands.parts(self.endpoint.is_cluster());
        let read =
            parts.iter().map(|part| self.read(part.partition, &part.pipeline, bytes, min_rate));
        let sent = join_all(read).await;
        in_order(&parts, sent).into_iter().collect()
    }

    /// Sends commands that are answered one by one and are safe to repeat, like [`Link::send_all`].
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is silent, the network is too slow, or too many transfers are ahead.
    pub(crate) async fn write(
        &self,
        partition: Partition,
        pipeline: &Pipeline,
        time_limit: Duration,
    ) -> Result<Vec<Result<Value, Error>>, Error> {
        let deadline = Instant::now() + time_limit;
        let transfers = self.transfers(partition);
        let (_permit, link) = self.acquire(&transfers, deadline).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        let replies = link.send_all(partition, pipeline, Repeat::UntilDeadline, left).await?;
        transfers.idle.put_back(link);
        Ok(replies)
    }

    /// Returns the transfers with the node of a partition.
    fn transfers(&self, partition: Partition) -> Arc<Transfers> {
        let node = self.endpoint.known_node(self.settings.keys(partition).slot());
        let make = || {
            Arc::new(Transfers { permits: Semaphore::new(MAX_CONCURRENT), idle: Arc::default() })
        };
        let mut by_node = self.by_node.lock();
        by_node.keep(|node| !self.endpoint.is_gone(node));
        by_node.get_or_make(node, make).clone()
    }

    /// Waits for a permit and takes a connection.
    async fn acquire<'a>(
        &self,
        transfers: &'a Transfers,
        deadline: Instant,
    ) -> Result<(SemaphorePermit<'a>, Link), Error> {
        let permit = timeout_at(deadline, transfers.permits.acquire()).await;
        let busy = || Error::Unavailable {
            reason: "too many concurrent transfers of large values".to_owned(),
        };
        // The semaphore is never closed.
        let permit = permit.map_err(|_| busy())?.map_err(|_| busy())?;
        let connect = || {
            let link = Link::new(self.settings.clone(), self.endpoint.clone());
            if self.reads { link.with_idle_timeout() } else { link }
        };
        Ok((permit, transfers.idle.take().unwrap_or_else(connect)))
    }
}

impl Idle {
    /// Takes the one that was used last, so that the others may be closed.
    fn take(&self) -> Option<Link> {
        self.links.lock().pop().map(|(_, link)| link)
    }

    fn put_back(self: &Arc<Self>, link: Link) {
        self.links.lock().push((Instant::now(), link));
        if !self.has_cleanup.swap(true, Ordering::AcqRel) {
            tokio::spawn(self.clone().close_unused());
        }
    }

    async fn close_unused(self: Arc<Self>) {
        // Also dropped with its runtime: then the next connection that is put back starts another task.
        let _guard = CleanupGuard(&self.has_cleanup);
        loop {
            sleep(IDLE_TIMEOUT).await;
            let mut links = self.links.lock();
            links.retain(|(used, _)| used.elapsed() < IDLE_TIMEOUT);
            if links.is_empty() {
                return;
            }
        }
    }
}

struct CleanupGuard<'a>(&'a AtomicBool);

impl Drop for CleanupGuard<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
