//! The operations on a key space, as values that a generator can draw and shrink.
//!
//! Jobs and leases are numbers modulo how many there are, so every operation is always possible.

use proptest::prelude::*;

/// The queues and the number of workers of the random histories.
pub(crate) const QUEUES: [&str; 2] = ["alpha", "beta"];
pub(crate) const WORKERS: usize = 3;
/// Tasks, sorted by name, and which of them each worker can run.
pub(crate) const TASKS: [&str; 2] = ["other", "simulated"];
pub(crate) const CAN_RUN: [&[usize]; WORKERS] = [&[1], &[0, 1], &[0]];
/// Labels of jobs, of which the indexes list those that have them; as bits of a number.
pub(crate) const LABELS: [(&str, &str); 2] = [("customer", "acme"), ("region", "north")];
pub(crate) const LEASE_MS: u64 = 60_000;

#[derive(Debug, Clone)]
pub(crate) enum Operation {
    /// Submits `count` jobs; `delay_ms` 0 starts them now.
    Enqueue {
        queue: usize,
        task: usize,
        deadline_ms: Option<u64>,
        priority: usize,
        count: usize,
        delay_ms: u64,
        /// Which of `LABELS` each job has.
        labels: usize,
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

fn deadline() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![4 => Just(None), 1 => (1..100_000_u64).prop_map(Some)]
}

pub(crate) fn operation() -> impl Strategy<Value = Operation> {
    let queue = 0..QUEUES.len();
    let worker = 0..WORKERS;
    let job = 0..50_usize;
    prop_oneof![
        5 => (queue.clone(), 0..TASKS.len(), deadline(), 0..4_usize, 1..4_usize, delay(), labels())
            .prop_map(|(queue, task, deadline_ms, priority, count, delay_ms, labels)|
                Operation::Enqueue { queue, task, deadline_ms, priority, count, delay_ms, labels }),
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
