//! The background services of a worker. Each is a struct with `run`, which ends when its shutdown fires, and for
//! periodic ones an `INTERVAL` and a `tick` that a test can call.

mod announcer;
mod control;
mod heartbeat;
mod inbox;
mod listener;
mod processor;
mod rotation;
mod upload;

use std::time::Duration;

use crunch_common::backoff::Backoff;

use crate::health::Pulse;
pub(crate) use announcer::Announcer;
pub(crate) use control::Control;
pub(crate) use heartbeat::Heartbeat;
pub(crate) use listener::{Listener, WorkRequest};
pub(crate) use processor::Processor;
pub(crate) use rotation::Rotation;

/// Logs once when Redis becomes unreachable and once when it is reachable again, and determines the pauses between
/// retries.
#[derive(Debug)]
pub(crate) struct Reachability {
    service: &'static str,
    failures: u32,
    /// Receives successes and failures, if they matter for the worker's health.
    pulse: Option<Pulse>,
}

impl Reachability {
    pub(crate) const fn of(service: &'static str) -> Self {
        Self { service, failures: 0, pulse: None }
    }

    /// Reports successes and failures to that pulse.
    pub(crate) fn reporting_to(self, pulse: &Pulse) -> Self {
        Self { pulse: Some(pulse.clone()), ..self }
    }

    pub(crate) fn succeeded(&mut self) {
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
    pub(crate) fn failed(&mut self, error: &crunch_common::broker::Error) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.pulse.iter().for_each(|pulse| pulse.failed(error));
        if self.failures == 1 {
            tracing::warn!(service = self.service, %error, "cannot reach Redis, retrying");
        }
        Backoff::FOR_CONNECTIONS.draw(self.failures)
    }
}
