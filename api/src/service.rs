//! The background services of an API: each runs at its interval until shutdown.

mod readiness;
mod sweeper;

use std::time::Duration;

use crunch_common::broker::Error;
use tokio::sync::watch;

pub(crate) use readiness::Readiness;
pub(crate) use sweeper::Sweeper;

/// Calls `tick` at an interval until `shutdown` turns true; logs once when it starts to fail, once when it succeeds
/// again.
pub(crate) async fn run_periodically(
    name: &'static str,
    interval: Duration,
    mut shutdown: watch::Receiver<bool>,
    mut tick: impl AsyncFnMut() -> Result<(), Error>,
) {
    let mut failures = 0_u32;
    loop {
        match tick().await {
            Ok(()) if failures > 0 => {
                tracing::info!(service = name, failures, "Redis is reachable again");
                failures = 0;
            }
            Ok(()) => {}
            Err(error) => {
                failures = failures.saturating_add(1);
                if failures == 1 {
                    tracing::warn!(service = name, %error, "cannot reach Redis, retrying");
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            _ = shutdown.wait_for(|&stop| stop) => return,
        }
    }
}
