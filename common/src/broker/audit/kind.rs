//! The kinds of findings of an audit.

use std::fmt;

/// What is wrong with something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FindingKind {
    /// A live job that stands nowhere.
    Lost,
    /// A job that stands only where its status says it does not.
    Misplaced,
    /// An id that stands in two places.
    Twice,
    /// A running job without worker or epoch: nobody could ever settle it.
    Unfenced,
    /// An id in a list or set, and no job.
    Orphan,
    /// A ghost that stands in no ready list.
    Ghost,
    /// A canceled job in a ready list that is no ghost.
    Unmarked,
    /// An ended job that is missing in `finished` or `failed`.
    Unlisted,
    /// A job with fields that few have, and without the mark that says so: nobody looks at them.
    Overlooked,
    /// An ended job, its log or its events, that never expires; or a live one that does.
    Expiry,
    /// A log or events without a job.
    Log,
    /// An idempotency key that leads to no job.
    Idempotency,
    /// More than one wake-up token.
    Tokens,
    /// A queue in use that sweeps do not know of, or would visit too late.
    Unindexed,
    /// A record that was put aside because it could not be read.
    Quarantined,
    /// A key or an entry that cannot be read.
    Unreadable,
    /// A key that this version does not write.
    Unknown,
}

impl FindingKind {
    /// Every kind, the worst first.
    pub const ALL: [Self; 17] = [
        Self::Lost,
        Self::Misplaced,
        Self::Twice,
        Self::Unfenced,
        Self::Orphan,
        Self::Ghost,
        Self::Unmarked,
        Self::Unlisted,
        Self::Overlooked,
        Self::Expiry,
        Self::Log,
        Self::Idempotency,
        Self::Tokens,
        Self::Unindexed,
        Self::Quarantined,
        Self::Unreadable,
        Self::Unknown,
    ];

    /// Its name, as the functions in Redis say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Misplaced => "misplaced",
            Self::Twice => "twice",
            Self::Unfenced => "unfenced",
            Self::Orphan => "orphan",
            Self::Ghost => "ghost",
            Self::Unmarked => "unmarked",
            Self::Unlisted => "unlisted",
            Self::Overlooked => "overlooked",
            Self::Expiry => "expiry",
            Self::Log => "log",
            Self::Idempotency => "idempotency",
            Self::Tokens => "tokens",
            Self::Unindexed => "unindexed",
            Self::Quarantined => "quarantined",
            Self::Unreadable => "unreadable",
            Self::Unknown => "unknown",
        }
    }

    /// What it means, in a few words.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Lost => "live jobs that stand nowhere",
            Self::Misplaced => "jobs that stand where their status says they do not",
            Self::Twice => "ids that stand in two places",
            Self::Unfenced => "running jobs without worker or epoch",
            Self::Orphan => "ids in a list or set without a job",
            Self::Ghost => "ghosts that stand in no ready list",
            Self::Unmarked => "canceled jobs in a ready list that are no ghosts",
            Self::Unlisted => "ended jobs missing in finished or failed",
            Self::Overlooked => "jobs with rare fields that `rare` does not name",
            Self::Expiry => "ended jobs that never expire, or live ones that do",
            Self::Log => "logs or events without a job",
            Self::Idempotency => "idempotency keys that lead to no job",
            Self::Tokens => "queues with more than one wake-up token",
            Self::Unindexed => "queues in use that sweeps do not visit, or too late",
            Self::Quarantined => "records put aside because they could not be read",
            Self::Unreadable => "keys and entries that cannot be read",
            Self::Unknown => "keys that this version does not write",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Its bit in a set of kinds.
    const fn bit(self) -> u32 {
        1 << self as u16
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The kinds that were found of one job, in four bytes: a broken Redis may have millions of such jobs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Kinds(u32);

impl Kinds {
    /// Kinds that say of a job that it stands in no right place; one of them is enough.
    const HOMELESS: u32 =
        FindingKind::Lost.bit() | FindingKind::Misplaced.bit() | FindingKind::Unfenced.bit();

    pub(super) const fn is_homeless(self) -> bool {
        self.0 & Self::HOMELESS != 0
    }

    /// Adds a kind; tells whether that says anything new.
    pub(super) fn add(&mut self, kind: FindingKind) -> bool {
        let known = self.0 & kind.bit() != 0;
        let known = known || (self.is_homeless() && Self(kind.bit()).is_homeless());
        self.0 |= kind.bit();
        !known
    }
}
