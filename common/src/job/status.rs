//! The lifecycle of a job.

use std::fmt;
use std::str::FromStr;

/// Status of a job. Named the same in Redis, on the wire and in code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Waits for its `run_at`.
    Scheduled,
    /// Is in a ready list.
    Queued,
    /// A worker holds its lease.
    Running,
    /// Waits for the backoff after a failed attempt.
    Retrying,
    /// Ended with a result.
    Succeeded,
    /// Ended for good without a result.
    Failed,
    /// Ended by a cancel.
    Canceled,
}

impl Status {
    /// Every status, in the order of a job's lifecycle.
    pub const ALL: [Self; 7] = [
        Self::Scheduled,
        Self::Queued,
        Self::Running,
        Self::Retrying,
        Self::Succeeded,
        Self::Failed,
        Self::Canceled,
    ];

    /// Whether a job may change from `self` to `next`. The functions in Redis enforce the same table; tests with random
    /// histories check every status that the functions write against it.
    #[must_use]
    pub const fn can_become(self, next: Self) -> bool {
        match self {
            // A job that waits fails when its deadline passes.
            Self::Scheduled | Self::Retrying => {
                matches!(next, Self::Queued | Self::Failed | Self::Canceled)
            }
            Self::Queued => matches!(next, Self::Running | Self::Failed | Self::Canceled),
            // Completed, failed, to be retried, canceled; released or lost; parked for a task that the worker does not
            // have.
            Self::Running => !matches!(next, Self::Running),
            // Retry by hand, and redrive.
            Self::Failed | Self::Canceled => matches!(next, Self::Queued),
            Self::Succeeded => false,
        }
    }

    /// Whether a job stays in this status unless it is retried by hand or redriven.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled)
    }

    /// The status as text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}

/// Text that is not a status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected one of scheduled, queued, running, retrying, succeeded, failed, canceled")]
pub struct InvalidStatus;

impl FromStr for Status {
    type Err = InvalidStatus;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(InvalidStatus)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Status {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_reads_back_as_itself() {
        for status in Status::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        assert_eq!("done".parse::<Status>(), Err(InvalidStatus));
    }

    #[test]
    fn only_a_hand_revives_a_terminal_job_and_nothing_revives_a_success() {
        for from in Status::ALL.into_iter().filter(|status| status.is_terminal()) {
            for to in Status::ALL {
                let by_hand = from != Status::Succeeded && to == Status::Queued;
                assert_eq!(from.can_become(to), by_hand, "{from} -> {to}");
            }
        }
    }

    #[test]
    fn only_a_running_job_succeeds_and_an_ended_one_does_not_end_again() {
        for from in Status::ALL {
            assert_eq!(from.can_become(Status::Succeeded), from == Status::Running);
            assert_eq!(from.can_become(Status::Failed), !from.is_terminal());
        }
    }
}
