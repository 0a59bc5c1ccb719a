//! Every Redis key is spelled here, and nowhere else in Rust; `lua/keys.lua` spells the same for the functions.
//!
//! All keys of a partition carry the same hash tag, `{<partition>}`, so one function may touch all of them and Redis
//! Cluster can spread partitions over nodes. Only validated names and ids become parts of a key.

use std::fmt;
use std::str::FromStr;

use crate::job::{JobId, Partition, Priority};
use crate::queue::QueueName;

use super::WorkerId;

/// Leading part of every key: 1–32 characters of `[a-z0-9_.-]`. Default `crunch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPrefix(String);

impl FromStr for KeyPrefix {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match crate::name::check(text) {
            Ok(()) if text.len() <= 32 => Ok(Self(text.to_owned())),
            _ => Err(
                "expected 1 to 32 characters of a-z, 0-9, '_', '.' and '-', starting with a letter or a digit",
            ),
        }
    }
}

impl fmt::Display for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A ready list of a queue: one a priority, and one for jobs that must run alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Of(Priority),
    Solitary,
}

impl Lane {
    /// In the order in which an idle worker claims.
    pub(crate) const ALL: [Self; 5] = [
        Self::Solitary,
        Self::Of(Priority::Urgent),
        Self::Of(Priority::High),
        Self::Of(Priority::Normal),
        Self::Of(Priority::Low),
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Of(priority) => priority.as_str(),
            Self::Solitary => "solitary",
        }
    }
}

/// The keys of one partition.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    root: String,
}

impl Keys {
    pub(crate) fn new(prefix: &KeyPrefix, partition: Partition) -> Self {
        Self {
            root: format!("{prefix}:{{{partition}}}"),
        }
    }

    /// `crunch:{<partition>}` — what every function gets as its one key.
    pub(crate) fn root(&self) -> &str {
        &self.root
    }

    fn key(&self, tail: fmt::Arguments<'_>) -> String {
        format!("{}:{tail}", self.root)
    }

    /// HASH, the layout's version and the number of partitions.
    pub(crate) fn layout(&self) -> String {
        self.key(format_args!("layout"))
    }

    /// HASH, the last sweep, the end of its grace and its place.
    pub(crate) fn sweep(&self) -> String {
        self.key(format_args!("sweep"))
    }

    /// ZSET, queue → last used, ms.
    pub(crate) fn queues(&self) -> String {
        self.key(format_args!("queues"))
    }

    /// SET of paused queues.
    pub(crate) fn paused(&self) -> String {
        self.key(format_args!("paused"))
    }

    /// ZSET, worker → last beat, ms.
    pub(crate) fn workers(&self) -> String {
        self.key(format_args!("workers"))
    }

    /// ZSET, worker → its lease, ms.
    pub(crate) fn leases(&self) -> String {
        self.key(format_args!("leases"))
    }

    /// STRING, the worker chosen for a job that must run alone.
    pub(crate) fn reserved(&self) -> String {
        self.key(format_args!("reserved"))
    }

    /// HASH, a worker: who it is, its last beat, its last exchange.
    pub(crate) fn worker(&self, worker: WorkerId) -> String {
        self.key(format_args!("worker:{worker}"))
    }

    /// Channel on which a worker hears of cancels.
    pub(crate) fn control(&self, worker: WorkerId) -> String {
        self.key(format_args!("worker:{worker}:control"))
    }

    /// HASH, task → descriptor.
    pub(crate) fn tasks(&self) -> String {
        self.key(format_args!("tasks"))
    }

    /// ZSET, task → last declared, ms.
    pub(crate) fn tasks_seen(&self) -> String {
        self.key(format_args!("tasks:seen"))
    }

    /// ZSET, id of an unreadable record → when it was met, ms.
    pub(crate) fn quarantine(&self) -> String {
        self.key(format_args!("quarantine"))
    }

    /// STRING, the job an idempotency key made, and the fingerprint of its request.
    pub(crate) fn idempotency(&self, digest: &str) -> String {
        self.key(format_args!("idempotency:{digest}"))
    }

    /// HASH, the job.
    pub(crate) fn job(&self, id: JobId) -> String {
        self.key(format_args!("job:{id}"))
    }

    /// LIST, the job's log lines.
    pub(crate) fn log(&self, id: JobId) -> String {
        self.key(format_args!("job:{id}:log"))
    }

    /// LIST of job ids; enqueued at the left, claimed at the right.
    pub(crate) fn ready(&self, queue: &QueueName, lane: Lane) -> String {
        self.key(format_args!("queue:{queue}:ready:{}", lane.as_str()))
    }

    /// SET of canceled ids that still stand in a ready list.
    pub(crate) fn ghosts(&self, queue: &QueueName) -> String {
        self.key(format_args!("queue:{queue}:ghosts"))
    }

    /// ZSET, id → due, ms.
    pub(crate) fn delayed(&self, queue: &QueueName) -> String {
        self.key(format_args!("queue:{queue}:delayed"))
    }

    /// ZSET, id → end of its lease, ms.
    pub(crate) fn running(&self, queue: &QueueName) -> String {
        self.key(format_args!("queue:{queue}:running"))
    }

    /// ZSET, id of a dead letter → failed at, ms.
    pub(crate) fn failed(&self, queue: &QueueName) -> String {
        self.key(format_args!("queue:{queue}:failed"))
    }

    /// ZSET, id of an ended job → kept until, ms.
    pub(crate) fn finished(&self, queue: &QueueName) -> String {
        self.key(format_args!("queue:{queue}:finished"))
    }

    /// LIST, at most one wake-up token.
    pub(crate) fn wake(&self, queue: &QueueName) -> String {
        self.key(format_args!("queue:{queue}:wake"))
    }

    /// STRING, how many jobs ended in one ten-second bucket of Unix time.
    pub(crate) fn ended(&self, queue: &QueueName, bucket: u64) -> String {
        self.key(format_args!("queue:{queue}:ended:{bucket}"))
    }
}
