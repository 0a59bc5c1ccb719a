//! A clock that all processes of this machine share, finer than the usual milliseconds: a job contains the instant when
//! it was due, and the process that starts it measures how long ago that was.

use std::time::SystemTime;

/// Microseconds since the Unix epoch. For differences within about a minute; assumes that the clock is not set
/// meanwhile.
#[expect(clippy::disallowed_methods, reason = "`Instant` cannot be sent to another process")]
pub(crate) fn now() -> u64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(since_epoch.as_micros()).unwrap()
}
