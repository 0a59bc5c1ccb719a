//! The operations on a key space, as values that a generator can draw and shrink.
//!
//! Jobs and leases are numbers modulo how many there are, so every operation is always possible.

use crunch_common::broker::{GroupId, LockId};
use crunch_common::job::{OnConflict, Until};
use proptest::prelude::*;

/// The queues and the number of workers of the random histories.
pub(crate) const QUEUES: [&str; 3] = ["alpha", "beta", "gamma"];
pub(crate) const WORKERS: usize = 3;
/// Tasks, sorted by name, and which of them each worker can run.
pub(crate) const TASKS: [&str; 2] = ["other", "simulated"];
pub(crate) const CAN_RUN: [&[usize]; WORKERS] = [&[1], &[0, 1], &[0]];
/// Labels of jobs, of which the indexes list those that have them; as bits of a number.
pub(crate) const LABELS: [(&str, &str); 2] = [("customer", "acme"), ("region", "north")];
/// A group of jobs, and its rule.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) weight: u32,
    /// How many of its jobs may run.
    pub(crate) concurrency: Option<usize>,
    /// The time from one start to the next, and how many may start at once.
    pub(crate) rate: Option<(u32, u32)>,
}

pub(crate) const GROUPS: [Group; 4] = [
    Group { name: "north", weight: 1, concurrency: None, rate: None },
    Group { name: "south", weight: 2, concurrency: Some(1), rate: None },
    Group { name: "west", weight: 3, concurrency: None, rate: Some((1500, 2)) },
    Group { name: "east", weight: 1, concurrency: Some(2), rate: Some((700, 1)) },
];

impl Group {
    /// Its rule as `lua/groups.lua` reads it.
    pub(crate) fn rule(&self) -> String {
        let concurrency = self.concurrency.map_or("-".to_owned(), |it| it.to_string());
        let rate = self.rate.map_or("- -".to_owned(), |(gap, burst)| format!("1/{gap} {burst}"));
        format!("{} {concurrency} {rate} - {}", self.weight, self.name)
    }
}

/// A limit: how many jobs may run, the time from one start to the next, and how many may start at once.
pub(crate) type Limit = (usize, u32, u32);

/// The limit of the second queue, and the one that it shares with the third. The first has none.
pub(crate) const LIMIT: Limit = (4, 400, 3);
pub(crate) const LIMITED: usize = 1;
pub(crate) const SHARED: Limit = (5, 300, 4);
pub(crate) const SHARED_NAME: &str = "both";
pub(crate) const SHARING: [usize; 2] = [LIMITED, 2];

/// A limit as `lua/limits.lua` reads it.
fn text((concurrency, gap, burst): Limit, names: &str) -> String {
    format!("1 {concurrency} 1/{gap} {burst} - {names}")
}

/// What limits a queue.
pub(crate) fn limit_of(queue: usize) -> Option<String> {
    match queue {
        LIMITED => Some(text(LIMIT, SHARED_NAME)),
        sharing if SHARING.contains(&sharing) => Some(format!("1 - - - - {SHARED_NAME}")),
        _ => None,
    }
}

/// The limit that queues share.
pub(crate) fn shared() -> String {
    text(SHARED, &SHARING.map(|queue| QUEUES[queue]).join(","))
}

/// The group of a queue as keys name it.
pub(crate) fn group_id(group: usize) -> GroupId {
    GroupId::of(&GROUPS[group].name.parse().unwrap())
}

pub(crate) const LEASE_MS: u64 = 60_000;

/// When a job starts, and until when: milliseconds from its submission, those of `start_within_ms` from the end of its delay.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    /// 0 starts it now.
    pub(crate) delay_ms: u64,
    pub(crate) deadline_ms: Option<u64>,
    pub(crate) start_within_ms: Option<u64>,
}

/// The locks of each queue.
pub(crate) const LOCKS: usize = 2;
/// How long a replaced job may wait, and for how long a lock is held: longer than any history, because Redis' own clock, by which
/// it expires, is not simulated.
pub(crate) const MAX_WAIT_MS: u64 = 3000;
pub(crate) const HELD_MS: u64 = 3_600_000;

/// What a job is unique by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Unique {
    /// Which of the queue's locks.
    pub(crate) lock: usize,
    pub(crate) until: Until,
    pub(crate) on_conflict: OnConflict,
}

/// A lock of a queue. Of jobs of different tasks and groups too, so that there are more conflicts.
pub(crate) fn lock_id(queue: usize, lock: usize) -> LockId {
    let of = (TASKS[0].parse().unwrap(), QUEUES[queue].parse().unwrap());
    LockId::new(&of.0, &of.1, None, &[&[u8::try_from(lock).unwrap()]])
}

#[derive(Debug, Clone)]
pub(crate) enum Operation {
    /// Submits `count` jobs.
    Enqueue {
        queue: usize,
        task: usize,
        priority: usize,
        count: usize,
        times: Times,
        /// Which of `LABELS` each job has.
        labels: usize,
        /// The place of their group in `GROUPS`.
        group: Option<usize>,
        unique: Option<Unique>,
    },
    /// Submits the last batch again, as after a lost reply.
    EnqueueAgain,
    /// A worker settles some of the leases that it has by its own knowledge, and claims.
    Exchange {
        worker: usize,
        settle: Vec<(usize, Ending)>,
        want: usize,
    },
    /// A worker sends its last exchange again, as after a lost reply.
    ExchangeAgain {
        worker: usize,
    },
    /// A worker sends a heartbeat for the leases that it has by its own knowledge, without the first `skip`.
    Heartbeat {
        worker: usize,
        skip: usize,
    },
    /// A worker dies: a new one with another id and no leases replaces it.
    Die {
        worker: usize,
    },
    /// A worker dies, and its supervisor reclaims its jobs.
    Reclaim {
        worker: usize,
    },
    Report {
        worker: usize,
        lease: usize,
    },
    Cancel {
        job: usize,
    },
    Retry {
        job: usize,
    },
    Delete {
        job: usize,
    },
    Redrive {
        queue: usize,
        limit: u64,
    },
    Pause {
        queue: usize,
    },
    Resume {
        queue: usize,
    },
    /// Advances the clock and sweeps.
    Sweep {
        after_ms: u64,
    },
    /// Sweeps at intervals for longer than a lease, without heartbeats, so that leases expire.
    SweepThroughLease,
    /// Advances the clock without a sweep.
    AdvanceClock {
        ms: u64,
    },
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Ending {
    Complete,
    Retry { delay_ms: u64 },
    Fail,
    Cancel,
    Release,
    Unroutable,
    Machine,
    Snooze { delay_ms: u64 },
}

fn ending() -> impl Strategy<Value = Ending> {
    prop_oneof![
        3 => Just(Ending::Complete),
        2 => (0..5000_u64).prop_map(|delay_ms| Ending::Retry { delay_ms }),
        2 => Just(Ending::Fail),
        1 => Just(Ending::Cancel),
        2 => Just(Ending::Release),
        2 => Just(Ending::Unroutable),
        1 => Just(Ending::Machine),
        2 => (0..5000_u64).prop_map(|delay_ms| Ending::Snooze { delay_ms }),
    ]
}

fn delay() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0_u64), 1 => 1..5000_u64]
}

/// Most jobs have none, so that the fast paths are taken.
fn labels() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(0_usize), 2 => 1..1_usize << LABELS.len()]
}

/// The labels that a number stands for, by their places in `LABELS`.
pub(crate) fn labels_of(number: usize) -> impl Iterator<Item = usize> {
    (0..LABELS.len()).filter(move |label| number >> label & 1 == 1)
}

/// Half of the jobs have none, so that both kinds take turns.
fn group() -> impl Strategy<Value = Option<usize>> {
    prop_oneof![1 => Just(None), 1 => (0..GROUPS.len()).prop_map(Some)]
}

/// A quarter of the jobs is unique.
fn unique() -> impl Strategy<Value = Option<Unique>> {
    let held = Until::Time(std::time::Duration::from_millis(HELD_MS));
    let is = prop_oneof![
        2 => Just((Until::End, OnConflict::Existing)),
        1 => Just((Until::Start, OnConflict::Reject)),
        1 => Just((held, OnConflict::Existing)),
        2 => Just((Until::Start, OnConflict::Replace)),
        4 => Just((Until::End, OnConflict::KeepLatest)),
    ];
    let unique = (0..LOCKS, is);
    let unique =
        unique.prop_map(|(lock, (until, on_conflict))| Unique { lock, until, on_conflict });
    prop_oneof![3 => Just(None), 1 => unique.prop_map(Some)]
}

fn times() -> impl Strategy<Value = Times> {
    let most = |ms: u64| prop_oneof![4 => Just(None), 1 => (1..ms).prop_map(Some)];
    (delay(), most(100_000), most(20_000)).prop_map(|(delay_ms, deadline_ms, start_within_ms)| {
        Times { delay_ms, deadline_ms, start_within_ms }
    })
}

pub(crate) fn operation() -> impl Strategy<Value = Operation> {
    let queue = 0..QUEUES.len();
    let worker = 0..WORKERS;
    let job = 0..50_usize;
    prop_oneof![
        5 => (queue.clone(), 0..TASKS.len(), 0..4_usize, 1..4_usize, times(), labels(), (group(), unique()))
            .prop_map(|(queue, task, priority, count, times, labels, (group, unique))|
                Operation::Enqueue { queue, task, priority, count, times, labels, group, unique }),
        1 => Just(Operation::EnqueueAgain),
        8 => (worker.clone(), prop::collection::vec((0..8_usize, ending()), 0..4), 0..4_usize)
            .prop_map(|(worker, settle, want)| Operation::Exchange { worker, settle, want }),
        2 => worker.clone().prop_map(|worker| Operation::ExchangeAgain { worker }),
        3 => (worker.clone(), 0..3_usize).prop_map(|(worker, skip)| Operation::Heartbeat { worker, skip }),
        2 => worker.clone().prop_map(|worker| Operation::Die { worker }),
        2 => worker.clone().prop_map(|worker| Operation::Reclaim { worker }),
        1 => (worker, 0..8_usize).prop_map(|(worker, lease)| Operation::Report { worker, lease }),
        3 => job.clone().prop_map(|job| Operation::Cancel { job }),
        2 => job.clone().prop_map(|job| Operation::Retry { job }),
        1 => job.prop_map(|job| Operation::Delete { job }),
        1 => (queue.clone(), 1..4_u64).prop_map(|(queue, limit)| Operation::Redrive { queue, limit }),
        1 => queue.clone().prop_map(|queue| Operation::Pause { queue }),
        1 => queue.prop_map(|queue| Operation::Resume { queue }),
        4 => prop_oneof![3 => 0..2000_u64, 1 => Just(40_000), 1 => Just(61_000)]
            .prop_map(|after_ms| Operation::Sweep { after_ms }),
        3 => Just(Operation::SweepThroughLease),
        2 => (0..3000_u64).prop_map(|ms| Operation::AdvanceClock { ms }),
    ]
}
