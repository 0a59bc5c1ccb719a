//! The broker: jobs in Redis. Each operation is one method, each step one call of a Redis function.
//!
//! ```text
//!  enqueue ──► ready (list a priority) ──claim──► running (sorted set: lease end) ──settle──► finished, failed
//!     │            ▲  ▲  ▲                            │   │                                        │
//!     └► delayed ──┘  │  └───── release, sweep, reclaim ─┘   │                                        │
//!           ▲ (due)   └───────────── retry, redrive ──────┼────────────────────────────────────────┘
//!           └──────────────────────── retry later ────────┘
//! ```
//!
//! The keys are defined in `broker/keys.rs`. The Redis part of each operation is one file in `broker/lua`, which starts
//! with its contract. Every state change is one Redis Function: it reads and checks first, then writes, using Redis'
//! clock. This module does not decode payloads, and no decision depends on the clock of this machine.

mod action_log;
mod audit;
mod bulk;
mod by_key;
mod check;
mod commands;
mod config;
mod connection;
mod depth;
mod durability;
mod endpoint;
mod error;
mod error_groups;
mod exchange;
mod fleet;
mod flow;
mod functions;
mod group;
mod group_rule;
mod groups;
mod heartbeat;
mod history;
mod index;
mod keys;
mod lease;
mod limit;
mod list;
mod names;
mod new_job;
mod nodes;
mod opening;
mod operate;
mod placement;
mod pools;
mod prune;
mod queue_limit;
mod queues;
mod read;
mod reclaim;
mod record;
mod redis_tls;
mod redis_url;
mod reply;
mod scheduled_by;
mod schedules;
mod session;
mod shared_limit;
mod submit;
mod submitter;
mod subscription;
mod sweep;
mod system;
mod transfer;
mod unit;
mod wakeup;
mod watch;
mod webhook;
mod worker_id;

use std::fmt;
use std::sync::{Arc, Once, OnceLock};
use std::time::Duration;

use futures_util::future::join_all;

pub use action_log::{LoggedAction, MAX_ACTION_BYTES};
pub use audit::{Audit, FindingKind, Progress as AuditProgress, Tally};
pub use config::BrokerConfig;
pub use depth::{Depth, GroupCounts, Parked, QueueDepth};
pub use durability::{Durability, DurabilityConfig, InvalidDurability};
pub use endpoint::{ByNode, Node, SentinelLogin};
pub use error::Error;
pub use error_groups::{
    ErrorGroup, ErrorGroupCursor, ErrorGroupId, ErrorGroupPage, ErrorGroupQuery,
    InvalidErrorGroupId,
};
pub use exchange::{Claim, ClaimedJob, Exchange, Exchanged, Sequence, Settled, TaskNames};
pub use fleet::{FleetSize, RunningJob, WorkerPage, WorkerSummary};
pub use functions::Library;
pub use group::{GroupId, InvalidGroupId};
pub use group_rule::{GroupRule, InvalidWeight, Rate, Weight};
pub use groups::{GroupPage, GroupState, GroupSummary, RuleChange};
pub use heartbeat::{
    Beaten, Heartbeat, LogLines, Progress, Report, Reported, ServerInfo, SuspendedTask, Verdict,
    WorkerInfo, WorkerState,
};
pub use history::{
    AttemptCounts, AttemptSeries, CountsByQueue, Durations, Ended, History, HistoryQuery,
    NumberedCounts, QueueSeries,
};
pub use index::{IndexId, InvalidIndexId};
pub use keys::KeyPrefix;
pub use lease::{Epoch, Lease, LeaseKey, Outcome, ReleaseCause, Settlement};
pub use limit::{Limit, LimitState};
pub use list::{Cursor, InvalidCursor, ListQuery, Page};
pub use new_job::{IDEMPOTENCY_KEPT, Idempotency, LockId, NewJob, Start};
pub use operate::{Acted, BulkAction, CancelOutcome, DeleteOutcome, RetryOutcome};
pub use placement::Bindings;
pub use prune::{OtherLibrary, Pruned};
pub use queue_limit::{LimitChange, LimitStatus, QueueLimit};
pub use queues::{QueuePage, QueueQuery, QueueSummary};
pub use read::Attempt;
pub use reclaim::Reclaimed;
pub use record::{JobRecord, Lookup, ResultSummary, Tombstone, WaitingFor};
pub use redis_tls::RedisTls;
pub use redis_url::{InvalidRedisUrl, RedisUrl};
pub use scheduled_by::ScheduledBy;
pub use schedules::{
    Backfill, BackfillChange, Condition, DueSchedules, Fired, MAX_SCHEDULE_PAYLOAD, MAX_SCHEDULES,
    Owner, Pause, PutOutcome, PutSchedule, ScheduleChange, ScheduleCounts, ScheduleOrigin,
    ScheduleRecord, ScheduleRun, ScheduleSpec, ScheduledJob, TickOutcome, ToFire, Why,
};
pub use session::{InvalidSessionDigest, SessionDigest};
pub use shared_limit::{Shared as SharedLimit, SharedChange, SharedStatus};
pub use submit::Enqueued;
pub use sweep::{Looks, Swept};
pub use system::{NodeHealth, NodeState};
pub use unit::Unit;
pub use wakeup::{Control, Controls};
pub use watch::{Change, Changes, Event, Followed, LogLine};
pub use webhook::{Delivery, DeliveryOrder, Webhook};
pub use worker_id::WorkerId;

use crate::job::Partition;
use bulk::Bulk;
use connection::Link;
use endpoint::Endpoint;
use functions::{FEATURES, Function};
use keys::{KeySpace, Keys};
use pools::Pools;
use submit::Homes;
use submitter::Submitters;
use sweep::Submissions;

/// How long finished jobs are kept unless their task or submission specifies another time.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Retention;

impl Retention {
    /// Succeeded jobs: 24 hours.
    pub const SUCCEEDED: Duration = Duration::from_secs(24 * 3600);
    /// Failed jobs: 30 days.
    pub const FAILED: Duration = Duration::from_secs(30 * 24 * 3600);
    /// Canceled jobs: 24 hours.
    pub const CANCELED: Duration = Duration::from_secs(24 * 3600);
}

/// Settings shared by every connection of this process.
struct Settings {
    space: KeySpace,
    library: Library,
    /// Percent of `maxmemory` from which no new jobs are accepted, and ended ones are deleted early.
    memory_watermark: u8,
    /// How many jobs may wait in one queue of a partition.
    max_queue_depth: u64,
    /// How many queues may exist in a partition.
    max_queues: u32,
    /// When jobs were submitted last.
    submissions: Submissions,
    /// Whether it was logged that there is no `maxmemory`.
    warned_of_no_maxmemory: Once,
    /// Why no call may be made any more: the key space uses a feature that this version lacks. It stays so.
    lacking: OnceLock<String>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("prefix", self.space.prefix())
            .field("partitions", &self.space.len())
            .finish_non_exhaustive()
    }
}

impl Settings {
    fn keys(&self, partition: Partition) -> &Keys {
        self.space.keys(partition)
    }

    /// The call of a function on its partition, without the function's own arguments.
    fn call(&self, function: Function, partition: Partition) -> redis::Cmd {
        if function == Function::Enqueue {
            self.submissions.record(partition);
        }
        let mut command = redis::cmd("FCALL");
        command.arg(self.library.name_of(function)).arg(1).arg(self.keys(partition).layout());
        command
    }

    /// Checks that this version has all of these features, names separated by blanks. If it lacks one, no further call
    /// of this process reaches Redis.
    fn check_features(&self, used: &str) -> Result<(), Error> {
        let lacking = used.split(' ').find(|name| !name.is_empty() && !FEATURES.contains(name));
        if let Some(name) = lacking {
            let reason = format!(
                "the key space uses the feature {name}, which this version lacks; run a version that has it"
            );
            let _ = self.lacking.set(reason);
        }
        self.check_usable()
    }

    /// Whether calls may be made: see [`Settings::check_features`].
    fn check_usable(&self) -> Result<(), Error> {
        let reason = self.lacking.get();
        reason.map_or(Ok(()), |reason| Err(Error::Refused { reason: reason.clone() }))
    }

    fn partitions(&self) -> impl Iterator<Item = Partition> + use<> {
        self.space.partitions()
    }
}

/// Handle to the jobs in Redis. Clones share one connection for steps, one small pool for lists and operators'
/// requests, and the submitters; [`Broker::with_own_connection`] returns one with its own connection for steps.
#[derive(Clone)]
pub struct Broker {
    settings: Arc<Settings>,
    endpoint: Endpoint,
    link: Link,
    pools: Pools,
    /// For reads of large payloads and results.
    bulk: Bulk,
    /// For writes of large payloads and results.
    uploads: Bulk,
    /// For pages of lists, so that none of them waits behind a payload.
    pages: Bulk,
    /// The durability of every submission that does not request more.
    min_durability: DurabilityConfig,
    submitters: Arc<Submitters>,
    /// Where the jobs of queues with a limit are submitted.
    homes: Arc<Homes>,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// How long any call may take, including retries: below the 2 s in which a client gets its 503. A call that transfers
/// many bytes gets more.
const CALL_DEADLINE: Duration = Duration::from_millis(1800);

impl Broker {
    /// Creates a broker; it connects when it is first used.
    ///
    /// # Errors
    /// [`Error::Refused`] if the files for TLS cannot be used, or settings do not belong to this kind of address.
    pub fn new(config: &BrokerConfig) -> Result<Self, Error> {
        Self::with_library(config, Library::shipped())
    }

    /// Like [`Broker::new`], with another function library.
    ///
    /// # Errors
    /// See [`Broker::new`].
    #[doc(hidden)]
    pub fn with_library(config: &BrokerConfig, library: Library) -> Result<Self, Error> {
        let endpoint = Endpoint::new(&config.redis_url, &config.redis_tls, &config.sentinel_login)?;
        let pools = Pools::new(endpoint.clone());
        let settings = Arc::new(Settings {
            space: KeySpace::new(config.key_prefix.clone(), config.partitions),
            library,
            memory_watermark: config.memory_watermark,
            max_queue_depth: config.max_queue_depth.div_ceil(u64::from(config.partitions)),
            max_queues: config.max_queues,
            submissions: Submissions::new(config.partitions),
            warned_of_no_maxmemory: Once::new(),
            lacking: OnceLock::new(),
        });
        let link = Link::new(settings.clone(), endpoint.clone());
        let bulk = Bulk::for_reads(settings.clone(), endpoint.clone());
        let uploads = Bulk::for_writes(settings.clone(), endpoint.clone());
        let pages = Bulk::for_reads(settings.clone(), endpoint.clone());
        let min_durability = DurabilityConfig::default();
        let submitters = Arc::new(Submitters::new(&settings, &endpoint, min_durability.replicas));
        Ok(Self {
            settings,
            endpoint,
            link,
            pools,
            bulk,
            uploads,
            pages,
            min_durability,
            submitters,
            homes: Arc::default(),
        })
    }

    /// Returns a broker on the same Redis with its own connection.
    #[must_use]
    pub fn with_own_connection(&self) -> Self {
        Self { link: Link::new(self.settings.clone(), self.endpoint.clone()), ..self.clone() }
    }

    /// Returns a broker on the same Redis that shares only the pool with this one, and no connection for steps or
    /// submissions, so that the submissions of two threads are not batched together.
    #[must_use]
    pub fn with_own_connections(&self) -> Self {
        let submitters =
            Submitters::new(&self.settings, &self.endpoint, self.min_durability.replicas);
        Self { submitters: submitters.into(), ..self.with_own_connection() }
    }

    /// Like [`Broker::with_own_connection`]; while Redis is unreachable, it retries to connect at least this often. For
    /// heartbeats: a lease may be about to expire.
    #[must_use]
    pub fn with_own_connection_retrying_every(&self, max_pause: Duration) -> Self {
        let broker = self.with_own_connection();
        Self { link: broker.link.clone().with_max_pause(max_pause), ..broker }
    }

    /// Discards this broker's connection to the node of a partition, because another one to the same node was found
    /// dead: a network that dropped one has usually dropped all. The next call opens a new one; calls in flight
    /// continue.
    pub fn reset_connection(&self, partition: Partition) {
        self.link.forget_at(partition);
    }

    /// Percent of the memory limit of Redis from which no new jobs are accepted.
    #[must_use]
    pub fn memory_watermark(&self) -> u8 {
        self.settings.memory_watermark
    }

    /// Returns every partition of the key space.
    pub fn partitions(&self) -> impl Iterator<Item = Partition> + use<> {
        self.settings.partitions()
    }

    /// Ensures that there is a connection to a usable Redis: reachable, functions loaded, the layout of this version,
    /// no eviction, accepting writes, and capable of this broker's minimum durability. Of a cluster at least one node
    /// must be reachable, and each that is must be usable.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it is unreachable, [`Error::Rejected`] if it accepts no writes or the functions are
    /// missing, [`Error::Refused`] if an operator must act.
    pub async fn open(&self) -> Result<(), Error> {
        let nodes = self.partition_of_each_known_node().await?;
        let opened = join_all(nodes.into_iter().map(|partition| self.open_node(partition))).await;
        let refused = |outcome: &Result<(), Error>| matches!(outcome, Err(Error::Refused { .. }));
        match opened.iter().find(|outcome| refused(outcome)) {
            Some(refused) => refused.clone(),
            None if opened.iter().any(Result::is_ok) => Ok(()),
            None => opened.into_iter().next().unwrap_or(Ok(())),
        }
    }

    /// Returns the same broker with `config` as the minimum durability of every submission.
    #[must_use]
    pub fn with_min_durability(self, config: &DurabilityConfig) -> Self {
        let submitters = Submitters::new(&self.settings, &self.endpoint, config.replicas);
        Self { min_durability: *config, submitters: submitters.into(), ..self }
    }
}
