//! The kinds of findings of an audit.

crate::word_enum! {
    /// What is wrong. The most severe is first.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
    #[non_exhaustive]
    pub enum FindingKind {
        /// A live job that is in no list or set.
        Lost = "lost",
        /// A job that is only where its status does not allow it.
        Misplaced = "misplaced",
        /// An id that is in two places.
        Twice = "twice",
        /// A running job without worker or epoch: it could never be settled.
        Unfenced = "unfenced",
        /// An id in a list or set, without a job.
        Orphan = "orphan",
        /// A ghost that is in no ready list.
        Ghost = "ghost",
        /// A canceled job in a ready list that is not marked as a ghost.
        Unmarked = "unmarked",
        /// An ended job that is missing from `finished` or `failed`, or from the group of its error; one that waits in a group and
        /// is missing there, or not at its priority; or any job that is missing from an index that it names.
        Unlisted = "unlisted",
        /// A job with optional fields that its field `optional` does not name: they are not read.
        Overlooked = "overlooked",
        /// A record that Redis would expire; or a log or events that expire while their job lives, or never although it
        /// ended.
        Expiry = "expiry",
        /// A log or events without a job.
        Log = "log",
        /// An idempotency key that refers to no job.
        Idempotency = "idempotency",
        /// A lock that names a job which cannot hold it or wait for it, or a live job that its lock does not name.
        Lock = "lock",
        /// A group with jobs and no turn: none of them would be claimed; or one with a turn and no jobs.
        Turn = "turn",
        /// More than one wake-up token.
        Tokens = "tokens",
        /// A queue in use that sweeps do not visit, or would visit too late; or an error group that lists do not
        /// show; or a schedule that no process looks at in time, or that lists do not show.
        Unindexed = "unindexed",
        /// A record that was put in quarantine because it could not be read.
        Quarantined = "quarantined",
        /// A key or an entry that cannot be read.
        Unreadable = "unreadable",
        /// A key that this version does not write.
        Unknown = "unknown",
    }
}

impl FindingKind {
    /// Returns a short description, in the plural.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Lost => "live jobs that are in no list or set",
            Self::Misplaced => "jobs that are where their status does not allow them",
            Self::Twice => "ids that are in two places",
            Self::Unfenced => "running jobs without worker or epoch",
            Self::Orphan => "ids in a list or set without a job",
            Self::Ghost => "ghosts that are in no ready list",
            Self::Unmarked => "canceled jobs in a ready list that are not marked as ghosts",
            Self::Unlisted => {
                "jobs missing from finished, failed, their group, the group of their error or an index"
            }
            Self::Overlooked => "jobs with optional fields that `optional` does not name",
            Self::Expiry => {
                "records that Redis would expire, or logs that expire too early or never"
            }
            Self::Log => "logs or events without a job",
            Self::Idempotency => "idempotency keys that refer to no job",
            Self::Lock => {
                "locks that name jobs which cannot hold them, or do not name those that should"
            }
            Self::Turn => "groups with jobs and no turn, or with a turn and no jobs",
            Self::Tokens => "queues with more than one wake-up token",
            Self::Unindexed => {
                "queues in use that sweeps do not visit, or too late, error groups that lists do not show, and schedules that no process looks at"
            }
            Self::Quarantined => "records in quarantine because they could not be read",
            Self::Unreadable => "keys and entries that cannot be read",
            Self::Unknown => "keys that this version does not write",
        }
    }

    /// Its bit in a set of kinds.
    const fn bit(self) -> u32 {
        1 << self as u16
    }
}

/// The kinds of findings about one job, in four bytes: a damaged Redis may have millions of such jobs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Kinds(u32);

impl Kinds {
    /// The kinds that mean that a job is not where it belongs; only one of them is reported per job.
    const OUT_OF_PLACE: u32 =
        FindingKind::Lost.bit() | FindingKind::Misplaced.bit() | FindingKind::Unfenced.bit();

    /// Whether one of the kinds means that the job is not where it belongs.
    pub(super) const fn is_out_of_place(self) -> bool {
        self.0 & Self::OUT_OF_PLACE != 0
    }

    /// Adds a kind; returns whether it is to be reported.
    pub(super) fn add(&mut self, kind: FindingKind) -> bool {
        let known = self.0 & kind.bit() != 0;
        let known = known || (self.is_out_of_place() && Self(kind.bit()).is_out_of_place());
        self.0 |= kind.bit();
        !known
    }
}
