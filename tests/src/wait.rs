//! Waits for events, with a deadline.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// No event of a test takes this long, not even on a busy machine: a test that waits longer has failed.
pub const TIME_LIMIT: Duration = Duration::from_secs(30);
/// How often a state without notifications is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Polls `check` until it returns a value.
///
/// # Panics
/// If it does not return one in time; the message contains `what`.
pub async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TIME_LIMIT;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < deadline, "timed out waiting for: {what}");
        sleep(POLL_INTERVAL).await;
    }
}

/// Waits for a future.
///
/// # Panics
/// If it does not complete in time; the message contains `what`.
pub async fn in_time<T: Debug>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(TIME_LIMIT, future).await {
        Ok(value) => value,
        Err(_) => panic!("timed out waiting for: {what}"),
    }
}
