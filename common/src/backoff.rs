//! Delay before the next attempt: exponential, capped, with full jitter.
//!
//! Full jitter (a uniform draw between zero and the bound) spreads the retries of many jobs that failed together over
//! the whole interval; see Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bounds of an exponential backoff: the `n`-th failure waits between 0 and `min(max, base · 2ⁿ)`.
///
/// ```
/// use std::time::Duration;
///
/// use crunch_common::backoff::Backoff;
///
/// let backoff = Backoff { base: Duration::from_secs(10), max: Duration::from_secs(60) };
/// assert_eq!(backoff.bound(1), Duration::from_secs(20));
/// assert_eq!(backoff.bound(3), Duration::from_secs(60));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// The initial bound, which doubles with each failure, in milliseconds on the wire. Default 1 s.
    #[serde(rename = "base_ms", with = "crate::time::as_ms")]
    pub base: Duration,
    /// The maximum bound, in milliseconds on the wire. Default 10 min.
    #[serde(rename = "max_ms", with = "crate::time::as_ms")]
    pub max: Duration,
}

impl Backoff {
    /// The backoff of a job's attempts unless its task declares another.
    pub const FOR_ATTEMPTS: Self =
        Self { base: Duration::from_secs(1), max: Duration::from_secs(600) };
    /// The backoff of a connection to Redis: fast enough to reconnect within 3 s, spread enough to avoid a reconnect
    /// storm.
    pub const FOR_CONNECTIONS: Self =
        Self { base: Duration::from_millis(50), max: Duration::from_secs(2) };

    /// The upper bound of the delay after `failures` failures (at least 1 is assumed).
    #[must_use]
    pub fn bound(&self, failures: u32) -> Duration {
        let factor = 2_u32.saturating_pow(failures.clamp(1, 31));
        self.base.saturating_mul(factor).min(self.max)
    }

    /// A uniform draw between zero and [`Backoff::bound`].
    #[must_use]
    pub fn draw(&self, failures: u32) -> Duration {
        self.bound(failures).mul_f64(rand::random::<f64>())
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::FOR_ATTEMPTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_up_to_the_cap() {
        let bounds = [1, 2, 3, 9, 10, 1000].map(|n| Backoff::FOR_ATTEMPTS.bound(n).as_secs());
        assert_eq!(bounds, [2, 4, 8, 512, 600, 600]);
    }

    #[test]
    fn a_draw_stays_within_the_bound() {
        assert!((0..1000).all(|_| Backoff::FOR_ATTEMPTS.draw(2) <= Duration::from_secs(4)));
    }
}
