//! What a loop does when calls to Redis fail: it logs the first failure, reports all to its pulse, and retries with
//! growing pauses. "Cannot be reached" includes a Redis that rejects calls; the logged error shows which.

use std::sync::LazyLock;
use std::time::Duration;

use crunch_common::backoff::Backoff;
use crunch_common::broker::{Broker, Error};
use crunch_common::telemetry::LogLimits;

use crate::Pulse;

/// A Redis that is reachable now and then must not fill the log; nor does each partition log the same outage.
static FAILED: LazyLock<LogLimits<&'static str>> =
    LazyLock::new(|| LogLimits::new(Duration::from_secs(10), 64));

/// Counts the failures of one loop in a row: logs the first one and the success that follows, and determines the pauses
/// between retries.
#[derive(Debug)]
pub struct Reachability {
    /// The loop's name in log messages.
    service: &'static str,
    /// How many calls have failed since the last success.
    failures: u32,
    /// Whether the first of them was logged.
    logged: bool,
    /// Set if successes matter for the health of the process.
    pulse: Option<Pulse>,
    /// Whether failures do as well.
    reports_failures: bool,
}

impl Reachability {
    /// Creates the state of a loop; `service` is its name in log messages.
    #[must_use]
    pub const fn of(service: &'static str) -> Self {
        Self { service, failures: 0, logged: false, pulse: None, reports_failures: true }
    }

    /// Also reports successes and failures to a pulse.
    #[must_use]
    pub fn reporting_to(self, pulse: &Pulse) -> Self {
        Self { pulse: Some(pulse.clone()), ..self }
    }

    /// Creates the state of a loop that calls one partition. In a cluster other partitions may be well meanwhile, so only
    /// answers are reported to the pulse; another loop reports whether any node is reachable.
    #[must_use]
    pub(crate) fn of_partition(service: &'static str, broker: &Broker, pulse: &Pulse) -> Self {
        let reports_failures = !broker.is_cluster();
        Self { reports_failures, ..Self::of(service).reporting_to(pulse) }
    }

    /// Records that a call was answered.
    pub fn succeeded(&mut self) {
        if self.logged {
            tracing::info!(
                service = self.service,
                failures = self.failures,
                "Redis is reachable again"
            );
        }
        (self.failures, self.logged) = (0, false);
        self.pulse.iter().for_each(Pulse::answered);
    }

    /// Records that a call failed; returns the pause before the next try.
    pub fn failed(&mut self, error: &Error) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let pulse = self.pulse.iter().filter(|_| self.reports_failures);
        pulse.for_each(|pulse| pulse.failed(error));
        if self.failures == 1
            && let Some(left_out) = FAILED.admit(&self.service)
        {
            tracing::warn!(service = self.service, %error, left_out, "cannot reach Redis, retrying");
            self.logged = true;
        }
        Backoff::FOR_CONNECTIONS.draw(self.failures)
    }
}
