//! Time limits of transfers by their number of bytes.

use std::time::Duration;

use super::CALL_DEADLINE;

/// Minimum bandwidth expected of the network to Redis, in bytes per second: large payloads and results get a longer
/// time limit.
const SLOWEST_NETWORK: u64 = 512 * 1024;

/// Returns how long the transfer of this many bytes may take.
pub(crate) const fn transfer_time(bytes: usize) -> Duration {
    Duration::from_millis(bytes as u64 * 1000 / SLOWEST_NETWORK)
}

/// Minimum rate of a read; below it the read is given up although bytes still arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MinRate {
    /// 512 KiB/s: a caller waits for the reply.
    ForCaller,
    /// 16 KiB/s: a job waits, and its own deadline, cancellation or lease ends the wait. A read that is given up
    /// restarts from the beginning, so it should continue even if dozens of workers share one network connection.
    ForJob,
}

impl MinRate {
    /// Returns the time limit of a read of this many bytes.
    pub(crate) fn time_limit(self, bytes: u64) -> Duration {
        let rate = match self {
            Self::ForCaller => 512 * 1024,
            Self::ForJob => 16 * 1024,
        };
        CALL_DEADLINE + Duration::from_millis(bytes.saturating_mul(1000) / rate)
    }
}

/// Returns the time limit of a write of this many bytes that was given up `given_up` times before. At 16 KiB/s the
/// sixth try succeeds.
pub(crate) fn write_time_limit(bytes: usize, given_up: u32) -> Duration {
    const MAX_DOUBLINGS: u32 = 6;
    (CALL_DEADLINE + transfer_time(bytes)) * 2_u32.pow(given_up.min(MAX_DOUBLINGS))
}
