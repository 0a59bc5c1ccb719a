//! One way of a line that carries only so many bytes a second, a slice of each connection in turn.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// What one connection sends before it is the next one's turn: a few packets.
pub(super) const SLICE: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// Bytes a second; zero is any number.
    rate: AtomicU64,
    /// When the line is free again. Whoever waits for it is served in the order of coming.
    free_at: Mutex<Option<Instant>>,
}

impl Throttle {
    pub(super) fn set(&self, rate: Option<u64>) {
        self.rate.store(rate.unwrap_or(0), Ordering::Relaxed);
    }

    pub(super) fn is_on(&self) -> bool {
        self.rate.load(Ordering::Relaxed) > 0
    }

    /// Waits until the line has carried so many bytes.
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
        // Timers are of a millisecond: what is nearer than that is waited for by the next slices.
        if end > now + Duration::from_millis(1) {
            sleep_until(end).await;
        }
    }
}
