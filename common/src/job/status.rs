//! The lifecycle of a job.

crate::word_enum! {
    /// Status of a job. Named the same in Redis, on the wire and in code. In the order of a job's lifecycle.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Status {
        /// Waits for its `run_at`.
        Scheduled = "scheduled",
        /// Is in a ready list.
        Queued = "queued",
        /// A worker holds its lease.
        Running = "running",
        /// Waits for the backoff after a failed attempt.
        Retrying = "retrying",
        /// Ended with a result.
        Succeeded = "succeeded",
        /// Ended for good without a result.
        Failed = "failed",
        /// Ended by a cancel.
        Canceled = "canceled",
    }
}

impl Status {
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
}

#[cfg(test)]
mod tests {
    use super::*;

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
