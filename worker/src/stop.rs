//! Asks a handler to stop, and keeps why.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How long a handler may take to return after it was asked to stop. A command gets TERM, five seconds, then KILL: one
/// second more than that.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(6);

/// Why a handler is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// The job was canceled.
    Canceled,
    /// The attempt took longer than its timeout.
    TimedOut,
    /// The job's deadline has passed.
    DeadlineExceeded,
    /// The worker shuts down.
    Shutdown,
    /// The lease was lost: Redis would reject the outcome.
    LeaseLost,
}

/// Asks one handler to stop; the first reason is kept.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    token: CancellationToken,
    reason: Arc<OnceLock<StopReason>>,
}

impl Stop {
    pub(crate) fn fire(&self, reason: StopReason) {
        // The reason must be set before any task can see the token fire.
        let _first_stays = self.reason.set(reason);
        self.token.cancel();
    }

    pub(crate) fn reason(&self) -> Option<StopReason> {
        self.reason.get().copied()
    }

    pub(crate) fn token(&self) -> &CancellationToken {
        &self.token
    }
}
