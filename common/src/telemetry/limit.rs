//! Rate limit for repeated log lines: the first one is logged at once, later ones of the same kind are counted, and the
//! next logged line has their number. So neither an unknown client nor a failing loop can flood the log.
//!
//! ```
//! use std::time::Duration;
//! use crunch_common::telemetry::LogLimit;
//!
//! static REJECTED: LogLimit = LogLimit::new(Duration::from_secs(60));
//! if let Some(left_out) = REJECTED.admit() {
//!     tracing::info!(left_out, "rejected a key");
//! }
//! ```

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Limits one kind of log line to one per interval.
#[derive(Debug)]
pub struct LogLimit {
    interval: Duration,
    window: Mutex<Window>,
}

/// When the last line was logged, and how many were omitted since then.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    logged: Option<Instant>,
    left_out: u64,
}

impl Window {
    const EMPTY: Self = Self { logged: None, left_out: 0 };

    fn is_over(&self, interval: Duration, now: Instant) -> bool {
        self.logged.is_none_or(|logged| now.saturating_duration_since(logged) >= interval)
    }

    fn admit(&mut self, interval: Duration, now: Instant) -> Option<u64> {
        if self.is_over(interval, now) {
            self.logged = Some(now);
            return Some(std::mem::take(&mut self.left_out));
        }
        self.left_out = self.left_out.saturating_add(1);
        None
    }

    fn overdue(&mut self, interval: Duration, now: Instant) -> Option<u64> {
        let over = self.left_out > 0 && self.is_over(interval, now);
        over.then(|| self.admit(interval, now)).flatten()
    }
}

impl LogLimit {
    /// At most one line per `interval`.
    #[must_use]
    pub const fn new(interval: Duration) -> Self {
        Self { interval, window: Mutex::new(Window::EMPTY) }
    }

    /// Returns how many lines were omitted before this one, if this one is to be logged; else `None`.
    pub fn admit(&self) -> Option<u64> {
        self.window.lock().admit(self.interval, Instant::now())
    }

    /// Returns how many lines were omitted, if the interval is over and no further line was logged: a periodic task
    /// logs the number, so that the end of a burst is also counted.
    pub fn overdue(&self) -> Option<u64> {
        self.window.lock().overdue(self.interval, Instant::now())
    }
}

/// One limit per key, such as a task or a place in the code.
pub struct LogLimits<K> {
    interval: Duration,
    max: usize,
    windows: Mutex<Windows<K>>,
}

struct Windows<K> {
    known: HashMap<K, Window>,
    /// Shared by the keys beyond the limit.
    other: Window,
}

impl<K: Clone + Eq + Hash> LogLimits<K> {
    /// At most one line per `interval` for each of `max` keys; further keys share one limit, so that memory is bounded
    /// for arbitrary keys.
    #[must_use]
    pub fn new(interval: Duration, max: usize) -> Self {
        let windows = Windows { known: HashMap::new(), other: Window::EMPTY };
        Self { interval, max, windows: Mutex::new(windows) }
    }

    /// Does the same as [`LogLimit::admit`], for lines about `key`.
    pub fn admit(&self, key: &K) -> Option<u64> {
        self.admit_at(key, Instant::now())
    }

    fn admit_at(&self, key: &K, now: Instant) -> Option<u64> {
        let mut windows = self.windows.lock();
        if let Some(window) = windows.known.get_mut(key) {
            return window.admit(self.interval, now);
        }
        if windows.known.len() >= self.max {
            // A window that is over and has omitted nothing can be removed: it has no effect.
            windows.known.retain(|_, it| it.left_out > 0 || !it.is_over(self.interval, now));
        }
        if windows.known.len() >= self.max {
            return windows.other.admit(self.interval, now);
        }
        windows.known.entry(key.clone()).or_default().admit(self.interval, now)
    }

    /// Does the same as [`LogLimit::overdue`], for every key; `None` stands for the keys that share a limit.
    pub fn overdue(&self) -> Vec<(Option<K>, u64)> {
        self.overdue_at(Instant::now())
    }

    fn overdue_at(&self, now: Instant) -> Vec<(Option<K>, u64)> {
        let mut windows = self.windows.lock();
        let Windows { known, other } = &mut *windows;
        let each = known.iter_mut().map(|(key, window)| (Some(key.clone()), window));
        each.chain([(None, other)])
            .filter_map(|(key, window)| Some((key, window.overdue(self.interval, now)?)))
            .collect()
    }
}

impl<K> fmt::Debug for LogLimits<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogLimits").field("interval", &self.interval).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_burst_is_one_line_and_the_next_line_counts_it() {
        let (mut window, start) = (Window::EMPTY, Instant::now());
        assert_eq!(window.admit(MINUTE, start), Some(0));
        for _ in 0..9999 {
            assert_eq!(window.admit(MINUTE, start + MINUTE / 2), None);
        }
        assert_eq!(window.admit(MINUTE, start + MINUTE), Some(9999));
        assert_eq!(window.admit(MINUTE, start + 2 * MINUTE), Some(0));
    }

    #[test]
    fn the_end_of_a_burst_is_reported_once_and_counts_as_a_line() {
        let (mut window, start) = (Window::EMPTY, Instant::now());
        window.admit(MINUTE, start);
        assert_eq!(window.overdue(MINUTE, start + MINUTE), None, "nothing was omitted");
        window.admit(MINUTE, start + MINUTE);
        window.admit(MINUTE, start + MINUTE);
        assert_eq!(window.overdue(MINUTE, start + MINUTE), None, "the interval is not over");
        assert_eq!(window.overdue(MINUTE, start + 2 * MINUTE), Some(1));
        assert_eq!(window.overdue(MINUTE, start + 2 * MINUTE), None);
        assert_eq!(window.admit(MINUTE, start + 2 * MINUTE), None);
    }

    #[test]
    fn keys_are_limited_apart_and_their_number_is_bounded() {
        let (limits, start) = (LogLimits::new(MINUTE, 2), Instant::now());
        assert_eq!(limits.admit_at(&"a", start), Some(0));
        assert_eq!(limits.admit_at(&"b", start), Some(0));
        assert_eq!(limits.admit_at(&"a", start), None);
        assert_eq!(limits.admit_at(&"c", start), Some(0), "it uses the shared limit");
        assert_eq!(limits.admit_at(&"d", start), None, "and so does this one");
        let mut overdue = limits.overdue_at(start + MINUTE);
        overdue.sort_unstable();
        assert_eq!(overdue, [(None, 1), (Some("a"), 1)]);
        // The window of "b" is over, so "c" replaces it.
        assert_eq!(limits.admit_at(&"c", start + MINUTE), Some(0));
        assert_eq!(limits.windows.lock().known.len(), 2);
    }
}
