//! Reports whether deliveries are claimed and settled, in the log and in the metrics.
//!
//! Not in `/readyz`: an API whose loops of deliveries hang still serves requests, and other APIs make the deliveries.

use std::time::{Duration, Instant};

use crunch_consumer::Pulses;

use crate::metrics;

const INTERVAL: Duration = Duration::from_secs(1);
/// A start, and a connection that is opened again, take less.
const LONGEST_HICCUP: u32 = 3;

/// Checks the pulses until it is dropped.
pub(super) async fn run(pulses: Pulses) {
    let mut failures = 0_u32;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let problems = pulses.problems(Instant::now());
        metrics::set_delivering(problems.is_empty());
        if problems.is_empty() {
            if failures >= LONGEST_HICCUP {
                tracing::info!(failures, "webhooks are delivered again");
            }
            failures = 0;
            continue;
        }
        failures = failures.saturating_add(1);
        if failures == LONGEST_HICCUP {
            tracing::warn!(reasons = problems.join("; "), "webhooks are not delivered");
        }
    }
}
