//! The right to run one attempt, and the ways to settle it.
//!
//! A lease is a value that is consumed when its attempt ends, so none is settled twice by mistake. The result is a
//! [`Settlement`], which the next exchange sends to Redis.

use std::fmt;
use std::time::Duration;

use crate::job::{JobError, JobId, Payload};

/// A fencing token: increases with every claim of a job and is never used twice. Redis' time in milliseconds, or one
/// more than the last epoch if that is later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// Creates an epoch that was read. It is no right to settle: only a [`Lease`] is.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns its number, for use as a fencing token in other systems.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Time-limited right of one worker to run one attempt of a job. Consumed by settling it.
#[derive(Debug)]
#[must_use = "a lease that is not settled expires, and the job runs again"]
pub struct Lease {
    id: JobId,
    epoch: Epoch,
}

/// Identifies a lease without holding it: for heartbeats, reports and cancellations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseKey {
    /// The job.
    pub id: JobId,
    /// The claim.
    pub epoch: Epoch,
}

impl Lease {
    pub(crate) const fn new(id: JobId, epoch: Epoch) -> Self {
        Self { id, epoch }
    }

    /// Returns its job and its claim.
    #[must_use]
    pub const fn key(&self) -> LeaseKey {
        LeaseKey { id: self.id, epoch: self.epoch }
    }

    /// Ends the job with success.
    pub fn complete(self, result: Payload) -> Settlement {
        self.settle(Outcome::Complete(result))
    }

    /// Ends the attempt; the job is retried after `delay`.
    pub fn retry(self, error: JobError, delay: Duration) -> Settlement {
        self.settle(Outcome::Retry { error, delay })
    }

    /// Ends the job for good, without a result.
    pub fn fail(self, error: JobError) -> Settlement {
        self.settle(Outcome::Fail(error))
    }

    /// Ends the job because it was canceled.
    pub fn cancel(self, error: JobError) -> Settlement {
        self.settle(Outcome::Cancel(error))
    }

    /// Releases the job: this attempt is not charged.
    pub fn release(self, cause: ReleaseCause) -> Settlement {
        self.settle(Outcome::Release(cause))
    }

    /// Puts the job off: it is tried again after `delay`, and this attempt is not charged.
    pub fn snooze(self, delay: Duration) -> Settlement {
        self.settle(Outcome::Snooze { delay })
    }

    /// Ends the attempt with this outcome.
    pub fn settle(self, outcome: Outcome) -> Settlement {
        Settlement { lease: self.key(), outcome }
    }
}

/// Why a job is released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReleaseCause {
    /// The worker does not run it after all: it shuts down, or claimed it too early. The job goes to the front of its
    /// queue.
    Worker,
    /// The worker cannot run this task. The job is parked: it waits, ready, until a worker with its task claims it.
    Unroutable,
    /// The worker cannot read the job, which a newer version wrote. It waits 1 s, doubling to 30 s, for a worker that
    /// can.
    Unreadable,
    /// The worker's machine cannot run it now, for this reason, e.g. no free file descriptors. The job waits 1 s,
    /// doubling to 30 s, and never fails because of it. Its document shows the reason, cut to
    /// [`ReleaseCause::MAX_DETAIL_BYTES`].
    Machine(String),
    /// The receiver of the job's calls is busy with other jobs. The delay is the same as for a machine.
    Receiver,
}

impl ReleaseCause {
    /// Enough for a sentence, not for a log: the reason is stored with the job and shown in every list.
    pub const MAX_DETAIL_BYTES: usize = 256;

    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Worker => "released",
            Self::Unroutable => "worker_with_task",
            Self::Unreadable => "newer_worker",
            Self::Machine(_) => "machine",
            Self::Receiver => "receiver",
        }
    }

    /// Details of the cause; empty for most.
    pub(crate) fn detail(&self) -> &str {
        match self {
            Self::Machine(reason) => {
                let end = reason.floor_char_boundary(Self::MAX_DETAIL_BYTES);
                &reason[..end]
            }
            Self::Worker | Self::Unroutable | Self::Unreadable | Self::Receiver => "",
        }
    }
}

/// What the end of an attempt means for its job.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The job succeeded, with this result.
    Complete(Payload),
    /// The job is retried after the delay.
    Retry {
        /// Why the attempt failed.
        error: JobError,
        /// The delay.
        delay: Duration,
    },
    /// The job failed for good.
    Fail(JobError),
    /// The job was canceled.
    Cancel(JobError),
    /// The job is released: the attempt is not charged.
    Release(ReleaseCause),
    /// The handler puts the job off: the attempt is not charged.
    Snooze {
        /// The delay.
        delay: Duration,
    },
}

/// A settled lease that is yet to be sent to Redis.
#[derive(Debug)]
#[must_use = "a settlement takes effect when an exchange has sent it to Redis"]
pub struct Settlement {
    lease: LeaseKey,
    pub(crate) outcome: Outcome,
}

impl Settlement {
    /// Returns the key of the settled lease.
    #[must_use]
    pub const fn key(&self) -> LeaseKey {
        self.lease
    }

    /// Returns how the attempt ended, in a word: `succeeded`, `retrying`, `failed`, `canceled`, `released`, or `snoozed`.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self.outcome {
            Outcome::Complete(_) => "succeeded",
            Outcome::Retry { .. } => "retrying",
            Outcome::Fail(_) => "failed",
            Outcome::Cancel(_) => "canceled",
            Outcome::Release(_) => "released",
            Outcome::Snooze { .. } => "snoozed",
        }
    }

    /// Returns why the attempt failed, whether or not the job is retried; `None` if it did not.
    #[must_use]
    pub const fn failure(&self) -> Option<&JobError> {
        match &self.outcome {
            Outcome::Retry { error, .. } | Outcome::Fail(error) => Some(error),
            Outcome::Complete(_)
            | Outcome::Cancel(_)
            | Outcome::Release(_)
            | Outcome::Snooze { .. } => None,
        }
    }

    /// Whether it is too large to be sent with others: see [`super::Broker::settle_apart`].
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.size() > super::bulk::LARGE
    }

    /// Returns its size in bytes, for the limit of one call.
    #[must_use]
    pub fn size(&self) -> usize {
        match &self.outcome {
            Outcome::Complete(result) => result.bytes.len(),
            Outcome::Retry { error, .. } | Outcome::Fail(error) | Outcome::Cancel(error) => {
                error.message.len()
            }
            Outcome::Release(_) | Outcome::Snooze { .. } => 0,
        }
    }
}
