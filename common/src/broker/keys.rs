//! The only place in Rust where Redis keys are defined; `lua/keys.lua` defines those of the functions, and a test
//! compares the two.
//!
//! All keys of a partition contain the same hash tag (`keys/tag.rs`), so one function may access all of them and Redis
//! Cluster can distribute partitions over nodes. Only validated names and ids become parts of a key.

mod name;
mod space;
mod tag;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

pub(crate) use name::KeyName;
pub(crate) use space::KeySpace;

use crate::job::{JobId, Partition, Priority};
use crate::queue::QueueName;
use crate::schedule::ScheduleName;
use crate::task::TaskName;

use super::{ErrorGroupId, GroupId, IndexId, SessionDigest, Unit, WorkerId};

/// Prefix of every key: 1–32 characters of `[a-z0-9_.-]`. Default `crunch`.
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

/// A ready list of a queue: one per priority, one for solitary jobs, and one per task for parked jobs, which wait for a
/// worker with that task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lane {
    Of(Priority),
    Solitary,
    Parked(TaskName),
}

impl Lane {
    /// The lanes that every queue has, in the order in which an idle worker claims from them.
    pub(crate) const ALL: [Self; 5] = [
        Self::Solitary,
        Self::Of(Priority::Urgent),
        Self::Of(Priority::High),
        Self::Of(Priority::Normal),
        Self::Of(Priority::Low),
    ];

    /// Its name in keys.
    pub(crate) fn name(&self) -> Cow<'static, str> {
        match self {
            Self::Of(priority) => priority.as_str().into(),
            Self::Solitary => "solitary".into(),
            Self::Parked(task) => format!("task:{task}").into(),
        }
    }

    /// Returns the lane with this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name.strip_prefix("task:") {
            Some(task) => task.parse().ok().map(Self::Parked),
            None => Self::ALL.into_iter().find(|lane| lane.name() == name),
        }
    }
}

/// The keys of one partition.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    partition: Partition,
    root: String,
    slot: u16,
}

impl Keys {
    fn new(prefix: &KeyPrefix, partition: Partition, tag: &str) -> Self {
        Self { partition, root: format!("{prefix}:{{{tag}}}"), slot: tag::slot(tag) }
    }

    /// The partition whose keys they are.
    pub(crate) const fn partition(&self) -> Partition {
        self.partition
    }

    /// The slot that they have in a cluster.
    pub(crate) const fn slot(&self) -> u16 {
        self.slot
    }

    /// HASH, version of the layout and number of partitions: the one key that is passed to every function.
    pub(crate) fn layout(&self) -> String {
        self.key(format_args!("layout"))
    }

    fn key(&self, tail: fmt::Arguments<'_>) -> String {
        format!("{}:{tail}", self.root)
    }

    /// STRING, empty: a submitter writes to it, so that Redis waits for everything that was written before.
    pub(crate) fn mark(&self) -> String {
        self.key(format_args!("mark"))
    }

    /// HASH, the state of the sweeps.
    pub(crate) fn sweep(&self) -> String {
        self.key(format_args!("sweep"))
    }

    /// ZSET, queue → when it must be swept, ms.
    pub(crate) fn due(&self) -> String {
        self.key(format_args!("due"))
    }

    /// SET of queues with jobs outside the normal lane.
    pub(crate) fn side_queues(&self) -> String {
        self.key(format_args!("queues:side"))
    }

    /// SET of queues with failed jobs or ghosts.
    pub(crate) fn ended_queues(&self) -> String {
        self.key(format_args!("queues:ended"))
    }

    /// ZSET, queue → last used, ms.
    pub(crate) fn queues(&self) -> String {
        self.key(format_args!("queues"))
    }

    /// ZSET of the same queues, all with score 0, so that they are sorted by name.
    pub(crate) fn names(&self) -> String {
        self.key(format_args!("queues:names"))
    }

    /// LIST, the newest jobs.
    pub(crate) fn recent(&self) -> String {
        self.key(format_args!("recent"))
    }

    /// HASH, data that concurrent audits share.
    pub(crate) fn audit(&self) -> String {
        self.key(format_args!("audit"))
    }

    /// ZSET, id of an unreadable record → when it was found, ms.
    pub(crate) fn quarantine(&self) -> String {
        self.key(format_args!("quarantine"))
    }

    /// SET of paused queues.
    pub(crate) fn paused(&self) -> String {
        self.key(format_args!("paused"))
    }

    /// ZSET, worker → last heartbeat, ms.
    pub(crate) fn workers(&self) -> String {
        self.key(format_args!("workers"))
    }

    /// HASH, a worker: its description, its last heartbeat, its last exchange.
    pub(crate) fn worker(&self, worker: WorkerId) -> String {
        self.key(format_args!("worker:{worker}"))
    }

    /// Channel on which a worker receives cancellations.
    pub(crate) fn control(&self, worker: WorkerId) -> String {
        self.key(format_args!("worker:{worker}:control"))
    }

    /// HASH, task → descriptor.
    pub(crate) fn tasks(&self) -> String {
        self.key(format_args!("tasks"))
    }

    /// ZSET, task → when it was last declared.
    pub(crate) fn tasks_seen(&self) -> String {
        self.key(format_args!("tasks:seen"))
    }

    /// STRING, what a session of the dashboard belongs to.
    pub(crate) fn session(&self, digest: &SessionDigest) -> String {
        self.key(format_args!("session:{digest}"))
    }

    /// STRING, changed with each change of a declared task.
    pub(crate) fn tasks_version(&self) -> String {
        self.key(format_args!("tasks:version"))
    }

    /// HASH, the job.
    pub(crate) fn job(&self, id: JobId) -> String {
        self.key(format_args!("job:{id}"))
    }

    /// LIST, the lines that a job's handler logged.
    pub(crate) fn log(&self, id: JobId) -> String {
        self.key(format_args!("job:{id}:log"))
    }

    /// LIST, the changes of a job that a client watches.
    pub(crate) fn events(&self, id: JobId) -> String {
        self.key(format_args!("job:{id}:events"))
    }

    /// Channel on which the changes of watched jobs are published.
    pub(crate) fn changes(&self) -> String {
        self.key(format_args!("changes"))
    }

    /// ZSET, error group → its last failure, ms.
    pub(crate) fn errors(&self) -> String {
        self.key(format_args!("errors"))
    }

    /// HASH, an error group: its queue and task, its newest error, how often it occurred.
    pub(crate) fn error(&self, group: &ErrorGroupId) -> String {
        self.key(format_args!("error:{group}"))
    }

    /// ZSET, id of a job that failed with an error of the group → failed at, ms.
    pub(crate) fn error_jobs(&self, group: &ErrorGroupId) -> String {
        self.key(format_args!("error:{group}:jobs"))
    }

    /// ZSET of the ids of jobs with a label, all with score 0, so that they are sorted by id.
    pub(crate) fn index(&self, index: IndexId) -> String {
        self.key(format_args!("index:{index}"))
    }

    /// LIST, what operators did.
    pub(crate) fn actions(&self) -> String {
        self.key(format_args!("actions"))
    }

    /// HASH, queue and task → how their attempts ended in that minute or hour since 1970.
    pub(crate) fn history(&self, unit: Unit, span: u64) -> String {
        self.key(format_args!("history:{unit}:{span}"))
    }

    /// HASH, queue → its depth in that minute or hour since 1970.
    pub(crate) fn history_queues(&self, unit: Unit, span: u64) -> String {
        self.key(format_args!("history:{unit}:{span}:queues"))
    }

    /// HASH, limit that queues share → its rule, with the names of the queues.
    pub(crate) fn limits(&self) -> String {
        self.key(format_args!("limits"))
    }

    /// ZSET, limit that queues share → theoretical arrival time of its rate, ms.
    pub(crate) fn limit_rates(&self) -> String {
        self.key(format_args!("limits:rates"))
    }

    /// ZSET, schedule → when a process must look at it, ms.
    pub(crate) fn schedules(&self) -> String {
        self.key(format_args!("schedules"))
    }

    /// ZSET of all schedules, all with score 0, so that they are sorted by name.
    pub(crate) fn schedule_names(&self) -> String {
        self.key(format_args!("schedules:names"))
    }

    /// HASH, a schedule.
    pub(crate) fn schedule(&self, name: &ScheduleName) -> String {
        self.key(format_args!("schedule:{name}"))
    }

    /// STRING, id of the job that holds a lock, and of the one that waits for it.
    pub(crate) fn lock(&self, digest: &str) -> String {
        self.key(format_args!("lock:{digest}"))
    }

    /// STRING, id of the job that an idempotency key created, and the request's fingerprint.
    pub(crate) fn idempotency(&self, digest: &str) -> String {
        self.key(format_args!("idempotency:{digest}"))
    }

    /// LIST of job ids; enqueued at the left, claimed at the right.
    pub(crate) fn ready(&self, queue: &QueueName, lane: &Lane) -> String {
        self.key(format_args!("queue:{queue}:ready:{}", lane.name()))
    }

    /// SET of tasks whose jobs wait for a worker with that task.
    pub(crate) fn parked(&self, queue: &QueueName) -> String {
        self.key(format_args!("queue:{queue}:parked"))
    }

    /// ZSET, id of a live job with a deadline → when to check it, ms.
    pub(crate) fn deadlines(&self, queue: &QueueName) -> String {
        self.key(format_args!("queue:{queue}:deadlines"))
    }

    /// SET of ids of jobs that ended while they waited, and are still in a ready list.
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

    /// ZSET, id of a failed job → failed at, ms.
    pub(crate) fn failed(&self, queue: &QueueName) -> String {
        self.key(format_args!("queue:{queue}:failed"))
    }

    /// ZSET, id of an ended job → kept until, ms.
    pub(crate) fn finished(&self, queue: &QueueName) -> String {
        self.key(format_args!("queue:{queue}:finished"))
    }

    /// ZSET, id of a job that waits in a group → its priority, 0 the highest.
    pub(crate) fn group(&self, queue: &QueueName, group: GroupId) -> String {
        self.key(format_args!("queue:{queue}:group:{group}"))
    }

    /// ZSET of the ids of all jobs that wait in groups, all with score 0, so that they are sorted by id.
    pub(crate) fn grouped(&self, queue: &QueueName) -> String {
        self.key(format_args!("queue:{queue}:grouped"))
    }

    /// ZSET, group that has jobs → virtual time at which its next turn starts.
    pub(crate) fn runnable(&self, queue: &QueueName) -> String {
        self.key(format_args!("queue:{queue}:runnable"))
    }

    /// ZSET, group that waits for its rate → when it may start a job, ms.
    pub(crate) fn delayed_groups(&self, queue: &QueueName) -> String {
        self.key(format_args!("queue:{queue}:delayed_groups"))
    }

    /// ZSET, group that waits until one of its jobs ends → virtual time at which its next turn starts.
    pub(crate) fn blocked_groups(&self, queue: &QueueName) -> String {
        self.key(format_args!("queue:{queue}:blocked_groups"))
    }

    /// ZSET of `<group> <id>` of the jobs of all groups that run, all with score 0, so that they are sorted by group.
    pub(crate) fn grouped_running(&self, queue: &QueueName) -> String {
        self.key(format_args!("queue:{queue}:grouped_running"))
    }

    /// ZSET, group, or `queue` → theoretical arrival time by its rate, ms.
    pub(crate) fn rates(&self, queue: &QueueName) -> String {
        self.key(format_args!("queue:{queue}:rates"))
    }

    /// HASH, group → its rule; `each` → that of groups without one; `queue` → the limit of the queue; `version` → of the last
    /// change of that limit.
    pub(crate) fn rules(&self, queue: &QueueName) -> String {
        self.key(format_args!("queue:{queue}:rules"))
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

#[cfg(test)]
mod tests;
