//! Waiting for events, with a deadline.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// No event of a test takes this long, not even on a machine that does other things: whoever waits longer has failed.
pub const TIME_LIMIT: Duration = Duration::from_secs(30);
/// How often a state that cannot announce itself is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Looks until `look` finds what it looks for.
///
/// # Panics
/// If it is not found in time; the message tells what was looked for.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TIME_LIMIT;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        sleep(LOOK).await;
    }
}

/// Waits for a future that ends by itself.
///
/// # Panics
/// If it does not end in time.
pub async fn in_time<T: Debug>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(TIME_LIMIT, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain: {what}"),
    }
}
