//! What can go wrong between us and Redis, and what each of Redis' errors means for the caller.
//!
//! The one place that looks at the text of an error: Redis gives no code for an unknown function.

use std::sync::Arc;

use redis::{ErrorKind, RedisError};

use crate::queue::QueueName;

/// Why the broker could not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Redis cannot be reached, did not answer in time, or is not able to serve right now. Whether the call took effect
    /// is unknown; every verb may be repeated.
    #[error("redis is unavailable: {reason}")]
    Unavailable {
        /// What was seen.
        reason: String,
    },
    /// Redis has no memory left for new jobs. Nothing was written.
    #[error("redis has no memory left for new jobs")]
    Full,
    /// As many jobs wait in this queue as may. Nothing was written.
    #[error("queue {queue} is full")]
    QueueFull {
        /// Where it would have waited.
        queue: QueueName,
    },
    /// Redis answered, and will not serve us as it is set up. A person must act.
    #[error("redis refuses us: {reason}")]
    Refused {
        /// What to change.
        reason: String,
    },
    /// A later exchange of this worker was answered before: two processes use one worker id.
    #[error("a later exchange of this worker was already answered")]
    StaleExchange,
    /// Redis answered something this code does not understand.
    #[error("redis gave an answer we cannot read: {reason}")]
    Unreadable {
        /// What came.
        reason: String,
    },
}

/// What the owner of a connection does after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Ask again after a pause, on the same connection.
    Wait,
    /// Drop the connection and make a new one.
    Reconnect,
    /// Load the function library, then ask again.
    Reload,
    /// Asking again would not help.
    GiveUp,
}

impl Error {
    pub(crate) fn unreadable(reason: impl Into<String>) -> Self {
        Self::Unreadable { reason: reason.into() }
    }

    pub(crate) fn timed_out() -> Self {
        Self::Unavailable { reason: "no answer in time".to_owned() }
    }

    /// Whether the same call may succeed later without anybody's hand.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Full | Self::QueueFull { .. })
    }
}

/// The table of Redis' errors: which remedy, and what the caller hears.
pub(crate) fn classify(error: &Arc<RedisError>) -> (Remedy, Error) {
    let unavailable = || Error::Unavailable { reason: error.to_string() };
    let refused = || Error::Refused { reason: error.to_string() };
    match error.code() {
        // A full Redis refuses functions that may grow it.
        Some("OOM") => (Remedy::GiveUp, Error::Full),
        // Still starting, a script running too long, slots moving, disk or replicas missing: it passes by itself.
        Some(
            "LOADING" | "BUSY" | "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" | "MISCONF"
            | "NOREPLICAS",
        ) => (Remedy::Wait, unavailable()),
        // We talk to the wrong node, or it kicked us out of a blocking read: a new connection finds the right one.
        Some("READONLY" | "UNBLOCKED" | "MOVED" | "ASK") => (Remedy::Reconnect, unavailable()),
        Some("NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED") => (Remedy::Reconnect, refused()),
        _ if error.to_string().contains("Function not found") => (Remedy::Reload, unavailable()),
        _ if error.kind() == ErrorKind::AuthenticationFailed => (Remedy::Reconnect, refused()),
        _ if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() => {
            (Remedy::Reconnect, unavailable())
        }
        Some(_) => (Remedy::GiveUp, Error::unreadable(error.to_string())),
        None => (Remedy::Reconnect, unavailable()),
    }
}
