//! A clock that all processes of this machine share, finer than the milliseconds that people see: a job carries the
//! instant it was due, and the process that starts it tells how long ago that was.

use std::time::SystemTime;

/// Microseconds since the Unix epoch. For differences within a minute or so; nobody sets the clock meanwhile.
#[expect(clippy::disallowed_methods, reason = "`Instant` cannot be told to another process")]
pub(crate) fn now() -> u64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(since_epoch.as_micros()).unwrap()
}
