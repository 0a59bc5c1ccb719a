//! The background services of an API: each runs at its interval until shutdown.

mod readiness;
mod sweeper;

use std::time::Duration;

use crunch_common::broker::Error;
use crunch_consumer::Reachability;
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
    let mut reachability = Reachability::of(name);
    loop {
        match tick().await {
            Ok(()) => reachability.succeeded(),
            Err(error) => {
                let _the_interval_is_kept = reachability.failed(&error);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            _ = shutdown.wait_for(|&stop| stop) => return,
        }
    }
}
