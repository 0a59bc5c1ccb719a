//! The faults of a run and their order, drawn from a seed before the run begins.

use std::fmt;
use std::time::Duration;

use rand::seq::SliceRandom;
use rand::{Rng, RngExt};

use super::Plan;

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    KillWorker,
    TerminateWorker,
    /// Suspended for less than its lease.
    FreezeWorker,
    /// Suspended for longer than its lease: its jobs continue elsewhere, and it settles too late.
    OversleepWorker,
    /// A worker can open no more descriptors: neither for a connection nor for a command.
    ExhaustDescriptors,
    KillApi,
    TerminateApi,
    KillRedis,
    RestartRedis,
    FreezeRedis,
    PauseRedis,
    FlushFunctions,
    Refuse,
    Reset,
    BlackHole,
    SwallowCommands,
    SwallowReplies,
    Delay,
    /// All workers, or all APIs, share one link that carries 1, 4 or 12 MiB a second.
    Throttle,
    LoseReplies,
    SilenceReplies,
    Sequence,
    /// For a while one more worker, without one of the tasks, serves the same queues.
    WorkerWithoutTask,
    /// A child of a server, which may run several jobs.
    KillChild,
    /// The launcher of a child: the worker ends the child.
    KillLauncher,
    /// A child is suspended: its jobs take longer. One that is asked to stop meanwhile costs the child.
    FreezeChild,
    /// A child exits during its next job.
    ExitChild,
    /// A child answers every job three times, first for an older epoch.
    RepeatAnswers,
}

impl Kind {
    pub(super) const ALL: [Self; 28] = [
        Self::KillWorker,
        Self::TerminateWorker,
        Self::FreezeWorker,
        Self::OversleepWorker,
        Self::ExhaustDescriptors,
        Self::KillApi,
        Self::TerminateApi,
        Self::KillRedis,
        Self::RestartRedis,
        Self::FreezeRedis,
        Self::PauseRedis,
        Self::FlushFunctions,
        Self::Refuse,
        Self::Reset,
        Self::BlackHole,
        Self::SwallowCommands,
        Self::SwallowReplies,
        Self::Delay,
        Self::Throttle,
        Self::LoseReplies,
        Self::SilenceReplies,
        Self::Sequence,
        Self::WorkerWithoutTask,
        Self::KillChild,
        Self::KillLauncher,
        Self::FreezeChild,
        Self::ExitChild,
        Self::RepeatAnswers,
    ];

    /// Whether it affects a child of a worker, and not the worker.
    pub(super) fn is_of_child(self) -> bool {
        self.may_end_child() || self == Self::RepeatAnswers
    }

    /// Whether a child may die of it.
    pub(super) fn may_end_child(self) -> bool {
        matches!(self, Self::KillChild | Self::KillLauncher | Self::FreezeChild | Self::ExitChild)
    }

    fn draw_target(self, random: &mut impl Rng, plan: &Plan) -> Target {
        let all = plan.workers + plan.server_workers;
        let worker = Target::Worker(random.random_range(0..all));
        let api = Target::Api(random.random_range(0..plan.apis));
        match self {
            Self::KillWorker
            | Self::TerminateWorker
            | Self::FreezeWorker
            | Self::OversleepWorker
            | Self::ExhaustDescriptors => worker,
            Self::KillApi | Self::TerminateApi => api,
            Self::KillRedis
            | Self::RestartRedis
            | Self::FreezeRedis
            | Self::PauseRedis
            | Self::FlushFunctions => Target::Redis(draw_node(random, plan)),
            Self::Throttle if random.random_bool(0.5) => Target::Workers,
            Self::Throttle => Target::Apis,
            Self::WorkerWithoutTask => Target::ExtraWorker,
            _ if self.is_of_child() => Target::Worker(random.random_range(plan.workers..all)),
            // The links of either side.
            _ if random.random_bool(0.7) => worker,
            _ => api,
        }
    }

    /// Draws the duration, in leases.
    fn draw_leases(self, random: &mut impl Rng) -> f64 {
        match self {
            Self::FreezeWorker => random.random_range(0.1..0.7),
            Self::OversleepWorker => random.random_range(1.3..2.5),
            Self::FlushFunctions
            | Self::Reset
            | Self::Sequence
            | Self::KillChild
            | Self::KillLauncher
            | Self::RepeatAnswers => 0.0,
            Self::KillWorker | Self::KillApi | Self::KillRedis | Self::RestartRedis => {
                random.random_range(0.0..0.8)
            }
            Self::Throttle
            | Self::WorkerWithoutTask
            | Self::ExhaustDescriptors
            | Self::FreezeChild
            | Self::ExitChild => random.random_range(0.5..2.0),
            _ if random.random_bool(0.2) => random.random_range(1.0..2.0),
            _ => random.random_range(0.05..0.6),
        }
    }
}

/// Draws nothing where there is no choice: the same seed then injects the same faults as ever.
fn draw_node(random: &mut impl Rng, plan: &Plan) -> usize {
    if plan.nodes > 1 { random.random_range(0..plan.nodes) } else { 0 }
}

/// What a fault affects; a network fault affects the link of this process to Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Worker(usize),
    Api(usize),
    /// A Redis, or the node of a cluster with this number.
    Redis(usize),
    /// The link that all workers share.
    Workers,
    /// The link that all APIs share.
    Apis,
    /// A worker that is started for the fault and terminated after it.
    ExtraWorker,
}

impl Target {
    pub(super) fn is_redis(self) -> bool {
        matches!(self, Self::Redis(_))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker(number) => write!(f, "worker {number}"),
            Self::Api(number) => write!(f, "api {number}"),
            Self::Redis(number) => write!(f, "redis {number}"),
            Self::Workers => f.write_str("workers"),
            Self::Apis => f.write_str("apis"),
            Self::ExtraWorker => f.write_str("extra worker"),
        }
    }
}

/// A fault to inject.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    pub(super) target: Target,
    /// The pause before it begins.
    pub(super) pause: Duration,
    pub(super) length: Duration,
    /// A further parameter, by kind: how many replies are dropped, how slow the link is.
    pub(super) strength: u64,
}

/// A fault that was injected; times are Unix milliseconds.
#[derive(Debug, Clone)]
pub(super) struct Injected {
    pub(super) kind: Kind,
    pub(super) target: Target,
    /// The id of the affected process, if it was a worker; of the worker, if it was one of its children.
    pub(super) pid: Option<u32>,
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
}

/// Draws all faults of a run: every kind once, in random order, then random kinds.
pub(super) fn draw(random: &mut impl Rng, plan: &Plan) -> Vec<Fault> {
    let mut kinds = Kind::ALL.to_vec();
    kinds.shuffle(random);
    (0..plan.faults as usize)
        .map(|at| {
            let any = Kind::ALL[random.random_range(0..Kind::ALL.len())];
            let kind = kinds.get(at).copied().unwrap_or(any);
            Fault {
                kind,
                target: kind.draw_target(random, plan),
                pause: Duration::from_millis(random.random_range(0..400)),
                length: plan.lease.mul_f64(kind.draw_leases(random)),
                strength: random.random_range(1..=5),
            }
        })
        .collect()
}
