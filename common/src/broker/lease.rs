//! The right to run one attempt, and the four ways to spend it.
//!
//! A lease is a value that is consumed: whoever ends an attempt gives it away, so none is settled twice by mistake. What
//! comes out is a [`Settlement`], which the next exchange carries to Redis.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use uuid::Uuid;

use crate::job::{JobError, JobId, Payload};

/// Id of a worker: a fresh UUID at every start. The host name is only a label, and two processes never share an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(Uuid);

impl WorkerId {
    /// Makes a new one.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for WorkerId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self)
    }
}

/// A fencing token: grows with every claim of a job and is never used twice. Redis' time in milliseconds, or one more
/// than the last epoch if that is later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// An epoch as it was read. It proves nothing: only a [`Lease`] is a right to settle.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number, for use as a fencing token towards other systems.
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

/// Time-bounded right of one worker to run one attempt of a job. Spent by settling it.
#[derive(Debug)]
#[must_use = "a lease that is not settled expires, and the job runs again"]
pub struct Lease {
    id: JobId,
    epoch: Epoch,
}

/// Names a lease without holding it: for heartbeats, reports and cancels.
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

    /// The job and the claim it names.
    #[must_use]
    pub const fn key(&self) -> LeaseKey {
        LeaseKey { id: self.id, epoch: self.epoch }
    }

    /// Ends the job well.
    pub fn complete(self, result: Payload) -> Settlement {
        self.settle(Outcome::Complete(result))
    }

    /// Ends the attempt; the job is tried again after `delay`.
    pub fn retry(self, error: JobError, delay: Duration) -> Settlement {
        self.settle(Outcome::Retry { error, delay })
    }

    /// Ends the job for good, without a result.
    pub fn fail(self, error: JobError) -> Settlement {
        self.settle(Outcome::Fail(error))
    }

    /// Ends the job because somebody canceled it.
    pub fn cancel(self, error: JobError) -> Settlement {
        self.settle(Outcome::Cancel(error))
    }

    /// Gives the job back unharmed: this run is not charged.
    pub fn release(self, cause: ReleaseCause) -> Settlement {
        self.settle(Outcome::Release(cause))
    }

    fn settle(self, outcome: Outcome) -> Settlement {
        Settlement { lease: self.key(), outcome }
    }
}

/// Why a job is given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReleaseCause {
    /// The worker shuts down. The job goes to the front of its queue.
    Shutdown,
    /// The worker cannot run this task. The job is parked: it waits, ready, until a worker that names its task takes it.
    Unroutable,
    /// The worker cannot read the job, which a newer version wrote. It waits 1 s, doubling to 30 s, for a worker that can.
    Unreadable,
    /// The worker's machine cannot run it now, for this reason: no descriptors are left, say. The job waits 1 s, doubling to
    /// 30 s, and never fails for it. Its document shows the reason, of which [`ReleaseCause::MAX_DETAIL_BYTES`] are kept.
    Machine(String),
    /// Whom the job calls is busy with other jobs. It waits as long as for a machine.
    Receiver,
}

impl ReleaseCause {
    /// A sentence, not a log: it is kept with the job and shown in every list.
    pub const MAX_DETAIL_BYTES: usize = 256;

    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Shutdown => "released",
            Self::Unroutable => "worker_with_task",
            Self::Unreadable => "newer_worker",
            Self::Machine(_) => "machine",
            Self::Receiver => "receiver",
        }
    }

    /// What there is to know beside the cause; empty for most.
    pub(crate) fn detail(&self) -> &str {
        match self {
            Self::Machine(reason) => {
                let end = reason.floor_char_boundary(Self::MAX_DETAIL_BYTES);
                &reason[..end]
            }
            Self::Shutdown | Self::Unroutable | Self::Unreadable | Self::Receiver => "",
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    Complete(Payload),
    Retry { error: JobError, delay: Duration },
    Fail(JobError),
    Cancel(JobError),
    Release(ReleaseCause),
}

/// A spent lease on its way to Redis.
#[derive(Debug)]
#[must_use = "a settlement counts when an exchange has carried it to Redis"]
pub struct Settlement {
    lease: LeaseKey,
    pub(crate) outcome: Outcome,
}

impl Settlement {
    /// The lease that was spent.
    #[must_use]
    pub const fn key(&self) -> LeaseKey {
        self.lease
    }

    /// How the attempt ended, in a word: `succeeded`, `retrying`, `failed`, `canceled`, or `released`.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self.outcome {
            Outcome::Complete(_) => "succeeded",
            Outcome::Retry { .. } => "retrying",
            Outcome::Fail(_) => "failed",
            Outcome::Cancel(_) => "canceled",
            Outcome::Release(_) => "released",
        }
    }

    /// Whether it is too large to travel with others: see [`super::Broker::settle_apart`].
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.size() > super::bulk::LARGE
    }

    /// Bytes it carries, for the bound on one call.
    #[must_use]
    pub fn size(&self) -> usize {
        match &self.outcome {
            Outcome::Complete(result) => result.bytes.len(),
            Outcome::Retry { error, .. } | Outcome::Fail(error) | Outcome::Cancel(error) => {
                error.message.len()
            }
            Outcome::Release(_) => 0,
        }
    }
}
