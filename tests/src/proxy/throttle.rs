//! Limits one direction of a link to a number of bytes a second, one slice of each connection in turn.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// How much one connection sends before the next one's turn: a few packets.
pub(super) const SLICE: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// Bytes a second; zero is unlimited.
    rate: AtomicU64,
    /// When the link is free again. Connections that wait for it are served in the order of their arrival.
    free_at: Mutex<Option<Instant>>,
}

impl Throttle {
    pub(super) fn set(&self, rate: Option<u64>) {
        self.rate.store(rate.unwrap_or(0), Ordering::Relaxed);
    }

    pub(super) fn is_on(&self) -> bool {
        self.rate.load(Ordering::Relaxed) > 0
    }

    /// Waits until the link has carried this many bytes.
    pub(super) async fn carry(&self, bytes: usize) {
        let mut free_at = self.free_at.lock().await;
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == 0 {
            return;
        }
        let now = Instant::now();
        let begin = free_at.map_or(now, |free_at| free_at.max(now));
        let end = begin + Duration::from_micros(bytes as u64 * 1_000_000 / rate);
        *free_at = Some(end);
        // Timers have a resolution of a millisecond: shorter waits are added to those of the next slices.
        if end > now + Duration::from_millis(1) {
            sleep_until(end).await;
        }
    }
}
