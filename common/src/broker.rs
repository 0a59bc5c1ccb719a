//! The broker: jobs in Redis, one method a verb, one function call a step.
//!
//! ```text
//!  enqueue ──► ready (list a priority) ──claim──► running (sorted set: lease end) ──settle──► finished, failed
//!     │            ▲  ▲  ▲                            │   │                                        │
//!     └► delayed ──┘  │  └───── release, sweep, reclaim ─┘   │                                        │
//!           ▲ (due)   └───────────── retry, redrive ──────┼────────────────────────────────────────┘
//!           └──────────────────────── retry later ────────┘
//! ```
//!
//! The keys are spelled in `broker/keys.rs`; what a verb does in Redis is one file in `broker/lua`, headed by its
//! contract. Every state change is one Redis Function: it reads and checks first, then writes, by Redis' own clock.
//! Nothing here decodes a payload, and no time of this machine decides anything.

mod audit;
mod bulk;
mod check;
mod config;
mod connection;
mod depth;
mod durability;
mod error;
mod exchange;
mod fleet;
mod flow;
mod functions;
mod heartbeat;
mod keys;
mod lease;
mod list;
mod names;
mod opening;
mod operate;
mod prune;
mod queues;
mod read;
mod reclaim;
mod record;
mod reply;
mod submit;
mod submitter;
mod subscription;
mod sweep;
mod transfer;
mod wakeup;
mod watch;
mod webhook;

use std::fmt;
use std::sync::{Arc, Once};
use std::time::Duration;

use redis::io::tcp::TcpSettings;

pub use audit::{Audit, FindingKind, Progress as AuditProgress, Tally};
pub use config::{BrokerConfig, InvalidRedisUrl, RedisUrl};
pub use depth::Depth;
pub use durability::{Durability, DurabilityConfig, InvalidDurability};
pub use error::Error;
pub use exchange::{Claim, ClaimedJob, Exchange, Exchanged, Sequence, Settled, TaskNames};
pub use fleet::{RunningJob, WorkerPage, WorkerSummary};
pub use functions::Library;
pub use heartbeat::{
    Beaten, Heartbeat, LogLines, Progress, Report, Reported, SuspendedTask, Verdict, WorkerInfo,
};
pub use keys::KeyPrefix;
pub use lease::{Epoch, Lease, LeaseKey, ReleaseCause, Settlement, WorkerId};
pub use list::{Cursor, InvalidCursor, ListQuery, Page};
pub use operate::{CancelOutcome, DeleteOutcome, RetryOutcome};
pub use prune::{OtherLibrary, Pruned};
pub use queues::{QueuePage, QueueQuery, QueueSummary};
pub use read::Attempt;
pub use reclaim::Reclaimed;
pub use record::{JobRecord, Lookup, ResultSummary, Tombstone, WaitingFor};
pub use submit::{Enqueued, IDEMPOTENCY_KEPT, Idempotency, NewJob, Start};
pub use sweep::Swept;
pub use wakeup::{Control, Controls};
pub use watch::{Change, Changes, Event, Followed, LogLine};
pub use webhook::{Delivery, DeliveryOrder, Webhook};

use crate::job::Partition;
use bulk::Bulk;
use connection::Link;
use functions::Function;
use keys::Keys;
use submitter::Submitters;

/// How long finished jobs are kept unless their task or submission says otherwise.
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

/// What every connection of this process shares.
struct Settings {
    prefix: KeyPrefix,
    partitions: u16,
    library: Library,
    /// Percent of `maxmemory` from which no new jobs are taken, and ended ones are forgotten early.
    memory_watermark: u8,
    /// How many jobs may wait in one queue of a partition.
    max_queue_depth: u64,
    /// How many queues may be known in a partition.
    max_queues: u32,
    /// Whether it was told that there is no `maxmemory`.
    told_of_no_maxmemory: Once,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("prefix", &self.prefix)
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}

impl Settings {
    fn keys(&self, partition: Partition) -> Keys {
        Keys::new(&self.prefix, partition)
    }

    /// The call of a function on its partition, without the arguments of its own.
    fn call(&self, function: Function, partition: Partition) -> redis::Cmd {
        let mut command = redis::cmd("FCALL");
        command.arg(self.library.name_of(function)).arg(1).arg(self.keys(partition).root());
        command
    }

    fn partitions(&self) -> impl Iterator<Item = Partition> + use<> {
        (0..self.partitions).filter_map(Partition::new)
    }
}

/// Handle to the jobs in Redis. Clones share one connection for steps, one small pool for lists and operators' verbs, and
/// the submitters; [`Broker::separate`] makes one with a connection for steps of its own.
#[derive(Clone)]
pub struct Broker {
    settings: Arc<Settings>,
    client: redis::Client,
    link: Link,
    pool: deadpool_redis::Pool,
    /// For payloads and results that are large.
    bulk: Bulk,
    /// For large payloads and results on their way to Redis.
    uploads: Bulk,
    /// For pages of lists: nobody who asks for one waits behind a payload.
    pages: Bulk,
    /// What every submission gets, whatever it asks for.
    min_durability: DurabilityConfig,
    submitters: Arc<Submitters>,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Connections for lists and operators' verbs: few people ask at once.
const POOL_SIZE: usize = 4;
/// How long any call may take, retries included: below the 2 s in which a client gets its 503. What carries many bytes
/// gets more.
const CALL_DEADLINE: Duration = Duration::from_millis(1800);
/// Unacknowledged bytes break the connection after this long: a half-open one is noticed before a lease ends.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(5);

impl Broker {
    /// Prepares a broker; connects only when first used.
    ///
    /// # Errors
    /// [`Error::Refused`] if the address cannot be understood.
    pub fn new(config: &BrokerConfig) -> Result<Self, Error> {
        Self::with_library(config, Library::shipped())
    }

    /// As [`Broker::new`], with another function library.
    ///
    /// # Errors
    /// As [`Broker::new`].
    #[doc(hidden)]
    pub fn with_library(config: &BrokerConfig, library: Library) -> Result<Self, Error> {
        let refused = |error: &dyn fmt::Display| Error::Refused { reason: error.to_string() };
        let tcp = TcpSettings::default().set_nodelay(true).set_user_timeout(TCP_USER_TIMEOUT);
        let info = config.redis_url.connection_info().set_tcp_settings(tcp);
        let client = redis::Client::open(info).map_err(|error| refused(&error))?;
        let manager = deadpool_redis::Manager::new(client.get_connection_info().clone())
            .map_err(|error| refused(&error))?;
        let pool = deadpool_redis::Pool::builder(manager)
            .max_size(POOL_SIZE)
            .runtime(deadpool_redis::Runtime::Tokio1)
            .wait_timeout(Some(CALL_DEADLINE))
            .create_timeout(Some(CALL_DEADLINE))
            .recycle_timeout(Some(CALL_DEADLINE))
            .build()
            .map_err(|error| refused(&error))?;
        let settings = Arc::new(Settings {
            prefix: config.key_prefix.clone(),
            partitions: config.partitions,
            library,
            memory_watermark: config.memory_watermark,
            max_queue_depth: config.max_queue_depth.div_ceil(u64::from(config.partitions)),
            max_queues: config.max_queues,
            told_of_no_maxmemory: Once::new(),
        });
        let link = Link::new(settings.clone(), client.clone());
        let bulk = Bulk::for_reads(settings.clone(), client.clone());
        let uploads = Bulk::for_writes(settings.clone(), client.clone());
        let pages = Bulk::for_reads(settings.clone(), client.clone());
        let min_durability = DurabilityConfig::default();
        let submitters = Arc::new(Submitters::new(&settings, &client, min_durability.replicas));
        Ok(Self { settings, client, link, pool, bulk, uploads, pages, min_durability, submitters })
    }

    /// A broker on the same Redis with a connection of its own.
    #[must_use]
    pub fn with_own_connection(&self) -> Self {
        Self { link: Link::new(self.settings.clone(), self.client.clone()), ..self.clone() }
    }

    /// A broker on the same Redis that shares no connection with this one but the pool: neither for steps nor for
    /// submissions, so that those of two threads are not collected in one.
    #[must_use]
    pub fn with_own_connections(&self) -> Self {
        let submitters =
            Submitters::new(&self.settings, &self.client, self.min_durability.replicas);
        Self { submitters: submitters.into(), ..self.with_own_connection() }
    }

    /// As [`Broker::separate`]; while Redis is away it tries to connect at least that often. For beats: a lease may be about
    /// to end.
    #[must_use]
    pub fn with_own_connection_retrying_every(&self, longest_pause: Duration) -> Self {
        let separate = self.with_own_connection();
        Self { link: separate.link.clone().trying_every(longest_pause), ..separate }
    }

    /// Does not use this broker's connection any more: another one to the same Redis was found dead, and a network that
    /// forgot one has mostly forgotten all. The next call makes a new one; those under way go on.
    pub fn reset_connection(&self) {
        self.link.forget();
    }

    /// Every partition of the key space.
    pub fn partitions(&self) -> impl Iterator<Item = Partition> + use<> {
        self.settings.partitions()
    }

    /// Makes sure there is a connection to a Redis that can serve us: reachable, functions loaded, our layout, no eviction,
    /// accepting writes, and able to be as durable as this broker min_durability on.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it is away, [`Error::Rejected`] if it accepts no writes or the functions are missing,
    /// [`Error::Refused`] if a person must act.
    pub async fn open(&self) -> Result<(), Error> {
        self.link.open().await?;
        // A function that may write: Redis answers a ping, and reads, while it refuses every write for want of replicas.
        // Without memory it still serves this one, as it serves everything that makes room.
        self.probe().await?;
        self.check_durability().await
    }

    /// The same broker, whose every submission is at least as durable as `config` says.
    #[must_use]
    pub fn with_min_durability(self, config: &DurabilityConfig) -> Self {
        let submitters = Submitters::new(&self.settings, &self.client, config.replicas);
        Self { min_durability: *config, submitters: submitters.into(), ..self }
    }
}
