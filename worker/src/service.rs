//! The background roles of a worker. Each is a struct with `run`, until its shutdown fires, and for those that come
//! round, an `INTERVAL` and a `tick` that a test can call.

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
pub(crate) use listener::{Listener, Look};
pub(crate) use processor::Processor;
pub(crate) use rotation::Rotation;

/// Tells once when Redis goes and once when it comes back, and how long to wait meanwhile.
#[derive(Debug)]
pub(crate) struct Reachability {
    who: &'static str,
    failures: u32,
    /// Where it is felt, if it shows whether the worker is well.
    pulse: Option<Pulse>,
}

impl Reachability {
    pub(crate) const fn of(who: &'static str) -> Self {
        Self { who, failures: 0, pulse: None }
    }

    /// Success and failure are felt in that pulse.
    pub(crate) fn felt_in(self, pulse: &Pulse) -> Self {
        Self { pulse: Some(pulse.clone()), ..self }
    }

    pub(crate) fn back(&mut self) {
        if self.failures > 0 {
            tracing::info!(service = self.who, failures = self.failures, "redis is back");
        }
        self.failures = 0;
        self.pulse.iter().for_each(Pulse::answered);
    }

    /// Notes a failure; returns the pause before the next try.
    pub(crate) fn failed(&mut self, error: &crunch_common::broker::Error) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.pulse.iter().for_each(|pulse| pulse.failed(error));
        if self.failures == 1 {
            tracing::warn!(service = self.who, %error, "redis does not serve us; trying again until it does");
        }
        Backoff::FOR_CONNECTIONS.draw(self.failures)
    }
}
