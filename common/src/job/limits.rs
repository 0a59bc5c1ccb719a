//! Limits of what a submission may say.

use std::time::Duration;

/// The maximum of `max_attempts`: a job that failed a hundred times will not succeed.
pub const MAX_ATTEMPTS_LIMIT: u32 = 100;
/// The maximum of delays, timeouts, deadlines and retentions, a year: a longer one is a mistaken unit.
pub const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 3600);
