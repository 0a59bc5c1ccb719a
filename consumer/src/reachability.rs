//! What a loop does when Redis cannot be reached: it logs that once, reports it, and retries with growing pauses.

use std::time::Duration;

use crunch_common::backoff::Backoff;
use crunch_common::broker::Error;

use crate::Pulse;

/// Logs once when Redis becomes unreachable and once when it is reachable again, and determines the pauses between
/// retries.
#[derive(Debug)]
pub struct Reachability {
    service: &'static str,
    failures: u32,
    /// Receives successes and failures, if they matter for the health of the process.
    pulse: Option<Pulse>,
}

impl Reachability {
    /// Creates the state of a loop by the name that its log lines have.
    #[must_use]
    pub const fn of(service: &'static str) -> Self {
        Self { service, failures: 0, pulse: None }
    }

    /// Reports successes and failures to that pulse.
    #[must_use]
    pub fn reporting_to(self, pulse: &Pulse) -> Self {
        Self { pulse: Some(pulse.clone()), ..self }
    }

    /// Records an answer.
    pub fn succeeded(&mut self) {
        if self.failures > 0 {
            tracing::info!(
                service = self.service,
                failures = self.failures,
                "Redis is reachable again"
            );
        }
        self.failures = 0;
        self.pulse.iter().for_each(Pulse::answered);
    }

    /// Records a failure; returns the pause before the next try.
    pub fn failed(&mut self, error: &Error) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.pulse.iter().for_each(|pulse| pulse.failed(error));
        if self.failures == 1 {
            tracing::warn!(service = self.service, %error, "cannot reach Redis, retrying");
        }
        Backoff::FOR_CONNECTIONS.draw(self.failures)
    }
}
