//! How long a transfer of so many bytes may take.

use std::time::Duration;

use super::CALL_DEADLINE;

/// What any network between us and Redis carries, in bytes a second: large payloads and results get time for their way.
const SLOWEST_NETWORK: u64 = 512 * 1024;

/// How long that many bytes may be on their way.
pub(crate) const fn transfer_time(bytes: usize) -> Duration {
    Duration::from_millis(bytes as u64 * 1000 / SLOWEST_NETWORK)
}

/// How slow a line may be before a read is given up although bytes still arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MinRate {
    /// 512 KiB/s: somebody waits for the answer.
    ForCaller,
    /// 16 KiB/s: a job waits, whose own deadline, cancellation or lease ends the wait. A try that is given up is repeated from
    /// the start, so it is to go on where dozens of workers share one line.
    ForJob,
}

impl MinRate {
    /// How long so many bytes may take.
    pub(crate) fn time_limit(self, bytes: u64) -> Duration {
        let rate = match self {
            Self::ForCaller => 512 * 1024,
            Self::ForJob => 16 * 1024,
        };
        CALL_DEADLINE + Duration::from_millis(bytes.saturating_mul(1000) / rate)
    }
}

/// How long a write of so many bytes may take that was given up so many times before. On a line of 16 KiB/s the sixth try arrives.
pub(crate) fn write_time_limit(bytes: usize, given_up: u32) -> Duration {
    const MOST_DOUBLINGS: u32 = 6;
    (CALL_DEADLINE + transfer_time(bytes)) * 2_u32.pow(given_up.min(MOST_DOUBLINGS))
}
