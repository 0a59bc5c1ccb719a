//! Limits log lines of libraries, which have no limit themselves: at most one per interval from each place in their
//! code.

use std::sync::LazyLock;
use std::time::Duration;

use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::LogLimits;

/// Often enough to notice a problem, rarely enough that the log cannot be flooded.
const INTERVAL: Duration = Duration::from_secs(60);
/// More than the lines that any library logs by default.
const PLACES: usize = 1000;

/// A place in the code of a library: its module and line.
type Place = (&'static str, u32);

static LIMITS: LazyLock<LogLimits<Place>> = LazyLock::new(|| LogLimits::new(INTERVAL, PLACES));

/// Omits repeated lines of some targets.
pub(super) struct Bounded(pub(super) &'static [&'static str]);

impl<S: Subscriber> Layer<S> for Bounded {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let bounded = self.0.iter().any(|target| metadata.target().starts_with(target));
        !bounded || LIMITS.admit(&(metadata.target(), metadata.line().unwrap_or(0))).is_some()
    }
}

/// Logs how many lines of libraries were omitted. Call it every few seconds.
pub fn log_left_out() {
    for (place, left_out) in LIMITS.overdue() {
        let (library, line) = place.unwrap_or(("others", 0));
        tracing::warn!(library, line, left_out, "a library logged the same line many times");
    }
}
