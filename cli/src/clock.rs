//! This machine's clock: for ages that are shown, and for times that a user gives relative to now. Never for a decision
//! about a job.

use std::time::Duration;

use jiff::Timestamp;

pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// How long ago a time was; zero if it is in the future.
pub(crate) fn since(then: Timestamp) -> Duration {
    Duration::try_from(now().duration_since(then)).unwrap_or_default()
}

/// How long it is until a time; zero if it has passed.
pub(crate) fn until(then: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now())).unwrap_or_default()
}
