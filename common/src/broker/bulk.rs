//! The road of large values: connections of their own, on which nobody waits for anything else.
//!
//! A large value that travels slowly must neither hold up the small calls behind it nor, when it is given up, take their
//! connection with it. A read may last as long as bytes arrive; only silence ends it as early as any other call. Of a write
//! nothing can be seen but that it was handed to this machine's network, which takes megabytes at once: it is given up after a
//! time for its size, and whoever repeats it gives it twice as long.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::{Pipeline, Value};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout_at};

use super::Settings;
use super::connection::Link;
use super::error::Error;
use super::transfer::MinRate;

/// What is larger has a connection to itself.
pub(crate) const LARGE: usize = 64 * 1024;
/// Large values under way at once: more would only share the same line, and each may be of 64 MiB.
const AT_ONCE: usize = 4;
/// A connection that nobody used for this long is closed: Redis' connections are few.
const KEPT: Duration = Duration::from_secs(10);

/// A few connections for large values, opened when they are needed. Clones share them.
#[derive(Clone)]
pub(crate) struct Bulk {
    settings: Arc<Settings>,
    client: redis::Client,
    /// Whether it reads: then bytes that arrive are counted.
    reads: bool,
    room: Arc<Semaphore>,
    idle: Arc<Idle>,
}

#[derive(Default)]
struct Idle {
    /// Each with the moment when it was used last, the longest unused first.
    links: Mutex<Vec<(Instant, Link)>>,
    /// Whether a task is about to close those that stay unused.
    is_watched: AtomicBool,
}

impl Bulk {
    /// For [`Bulk::read`].
    pub(crate) fn for_reads(settings: Arc<Settings>, client: redis::Client) -> Self {
        let room = Arc::new(Semaphore::new(AT_ONCE));
        Self { settings, client, reads: true, room, idle: Arc::default() }
    }

    /// For [`Bulk::write`].
    pub(crate) fn for_writes(settings: Arc<Settings>, client: redis::Client) -> Self {
        Self { reads: false, ..Self::for_reads(settings, client) }
    }

    /// Sends commands that only read, and whose answers are of about so many bytes, as one round trip.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is silent, the line is too slow, or too many others are before.
    pub(crate) async fn read(
        &self,
        pipeline: &Pipeline,
        bytes: u64,
        min_rate: MinRate,
    ) -> Result<Vec<Value>, Error> {
        let deadline = Instant::now() + min_rate.time_limit(bytes);
        let (_place, link) = self.enter(deadline).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        let values = link.read_within(pipeline, left).await?;
        self.idle.give_back(link);
        Ok(values)
    }

    /// Sends commands of which each is answered for itself and stands being repeated, as [`Link::send_all`] does.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is silent, the line is too slow, or too many others are before.
    pub(crate) async fn write(
        &self,
        pipeline: &Pipeline,
        time_limit: Duration,
    ) -> Result<Vec<Result<Value, Error>>, Error> {
        let deadline = Instant::now() + time_limit;
        let (_place, link) = self.enter(deadline).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        let replies = link.send_all(pipeline, left).await?;
        self.idle.give_back(link);
        Ok(replies)
    }

    /// Waits for a place among those under way.
    async fn enter(&self, deadline: Instant) -> Result<(SemaphorePermit<'_>, Link), Error> {
        let place = timeout_at(deadline, self.room.acquire()).await;
        let busy = || Error::Unavailable { reason: "other large values are under way".to_owned() };
        // The semaphore is never closed.
        let place = place.map_err(|_| busy())?.map_err(|_| busy())?;
        let connect = || {
            let link = Link::new(self.settings.clone(), self.client.clone());
            if self.reads { link.while_bytes_flow() } else { link }
        };
        Ok((place, self.idle.take().unwrap_or_else(connect)))
    }
}

impl Idle {
    /// The one that was used last, so that the others may be closed.
    fn take(&self) -> Option<Link> {
        self.lock().pop().map(|(_, link)| link)
    }

    fn give_back(self: &Arc<Self>, link: Link) {
        self.lock().push((Instant::now(), link));
        if !self.is_watched.swap(true, Ordering::AcqRel) {
            tokio::spawn(self.clone().close_unused());
        }
    }

    async fn close_unused(self: Arc<Self>) {
        // Dropped with its runtime as well: then the next to give one back starts another.
        let _watch = Watch(&self.is_watched);
        loop {
            sleep(KEPT).await;
            let mut links = self.lock();
            links.retain(|(used, _)| used.elapsed() < KEPT);
            if links.is_empty() {
                return;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Instant, Link)>> {
        // Never held over an await; whole entries go in and out.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Watch<'a>(&'a AtomicBool);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
