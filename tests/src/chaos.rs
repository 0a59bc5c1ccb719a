//! The chaos run: very many jobs while every kind of fault is injected, and a check of the ledgers at the end, as in
//! Jepsen's tests.
//!
//! A client submits jobs and records the responses; handlers record what they ran; a seeded scheduler breaks processes,
//! Redis and the network, and records what it broke and when. After a quiet end the state of Redis is read back, and
//! `check` compares the four records: pure set algebra, independent of how they were made.

mod check;
mod children;
mod client;
mod faults;
mod fleet;
mod inject;
mod orders;
mod report;
mod survey;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use parking_lot::Mutex;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use tokio::task::JoinSet;

pub use check::Violation;
pub use report::Report;

use crate::Ledger;
use check::Evidence;
use client::Client;
use faults::{Fault, Injected};
use fleet::Fleet;
pub(crate) use orders::{rare_task, task};

/// The parameters of a run. The same plan injects the same faults in the same order.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The number of jobs.
    pub jobs: u64,
    /// The number of faults.
    pub faults: u64,
    /// The seed of all random choices.
    pub seed: u64,
    /// The lease of the workers.
    pub lease: Duration,
    /// The number of workers without a server.
    pub workers: usize,
    /// The number of workers that have a server too, at least 1.
    pub server_workers: usize,
    /// The number of APIs.
    pub apis: usize,
    /// The number of partitions.
    pub partitions: u16,
    /// The number of nodes of a Redis Cluster; 0 for a Redis that is none.
    pub nodes: usize,
    /// The directory of logs and ledgers. They are kept if there are violations.
    pub directory: PathBuf,
}

/// This many faults may be active at once; each has its own target.
const CONCURRENT_FAULTS: usize = 3;
/// This many clients submit concurrently.
const CLIENTS: usize = 4;
/// This many jobs may be waiting or running: enough that every worker has work, few enough that each fault affects jobs
/// in progress.
const BACKLOG: u64 = 4000;
/// How long no job may end, once no more faults are injected.
const QUIET_END: Duration = Duration::from_secs(60);

/// The progress of jobs and faults, which must be spread evenly over each other.
#[derive(Debug)]
struct Progress {
    acknowledged: AtomicU64,
    /// How many jobs were waiting or running at the last count.
    live: AtomicU64,
    injected: AtomicU64,
    jobs: u64,
    faults: u64,
}

impl Progress {
    fn shares(&self) -> (f64, f64) {
        let share =
            |done: &AtomicU64, all: u64| done.load(Ordering::Relaxed) as f64 / all.max(1) as f64;
        (share(&self.acknowledged, self.jobs), share(&self.injected, self.faults))
    }

    /// How far jobs may be ahead of faults, or faults of jobs: always one step of either, and little more, so that jobs
    /// are in progress at every fault.
    fn lead(&self) -> f64 {
        CONCURRENT_FAULTS as f64 / self.faults.max(1) as f64
            + CLIENTS as f64 * self.batch() as f64 / self.jobs.max(1) as f64
    }

    /// How many jobs a client submits in one batch: several batches a fault.
    fn batch(&self) -> u64 {
        (self.jobs / self.faults.max(1) / (2 * CLIENTS as u64)).clamp(1, 200)
    }

    /// Waits while the jobs are far ahead of the faults, or of the workers.
    async fn wait_for_jobs_turn(&self) {
        let has_room = || self.live.load(Ordering::Relaxed) < BACKLOG;
        self.wait(|jobs, faults, lead| has_room() && jobs <= faults + lead).await;
    }

    /// Waits while the faults are far ahead of the jobs.
    async fn wait_for_faults_turn(&self) {
        self.wait(|jobs, faults, lead| faults <= jobs + lead).await;
    }

    async fn wait(&self, may_continue: impl Fn(f64, f64, f64) -> bool) {
        loop {
            let (jobs, faults) = self.shares();
            if may_continue(jobs, faults, self.lead()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Runs the plan. Prints nothing.
///
/// # Errors
/// If the run fails for a reason that is not a violation: a binary is not built, the disk is full.
pub async fn run(plan: Plan) -> anyhow::Result<Report> {
    let start = Instant::now();
    let progress = Arc::new(Progress {
        acknowledged: AtomicU64::new(0),
        live: AtomicU64::new(0),
        injected: AtomicU64::new(0),
        jobs: plan.jobs,
        faults: plan.faults,
    });
    let fleet = Arc::new(Fleet::start(&plan).await?);
    let client = Arc::new(Client::new(&plan, fleet.clone(), progress.clone())?);
    client.wait_until_tasks_are_known().await;
    client.set_rules().await?;
    let watcher = tokio::spawn(survey::watch(fleet.clone(), client.clone(), progress.clone()));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(client.clone().submit());
    }
    let faults = inject_all(&plan, &fleet, &progress).await;
    clients.join_all().await;
    fleet.heal_all().await;
    survey::wait_until_all_ended(&fleet, QUIET_END).await;
    fleet.check_all_work(&client).await;
    survey::wait_until_all_ended(&fleet, QUIET_END).await;
    watcher.abort();
    fleet.audit().await;
    let jobs = survey::read_jobs(&fleet).await?;
    client.check_some(&jobs).await;
    let evidence = Evidence {
        submissions: client.submissions(),
        runs: Ledger::read(&fleet.ledger()),
        jobs,
        leftovers: survey::leftovers(&fleet).await?,
        seen_ended: client.seen_ended(),
        problems: fleet.problems(),
        faults,
        lease: plan.lease,
    };
    let stale = fleet.count_in_worker_logs("stale outcome dropped: another attempt holds the job");
    Ok(Report::new(&plan, &evidence, stale, start.elapsed()))
}

/// Injects every fault of the plan, a few at a time, spread over the jobs.
async fn inject_all(plan: &Plan, fleet: &Fleet, progress: &Progress) -> Vec<Injected> {
    let mut faults = faults::draw(&mut Pcg64Mcg::seed_from_u64(plan.seed), plan);
    faults.reverse();
    let faults = Mutex::new(faults);
    let injectors = (0..CONCURRENT_FAULTS).map(|_| inject(&faults, fleet, progress));
    join_all(injectors).await.concat()
}

async fn inject(faults: &Mutex<Vec<Fault>>, fleet: &Fleet, progress: &Progress) -> Vec<Injected> {
    let mut injected = Vec::new();
    loop {
        progress.wait_for_faults_turn().await;
        let next = faults.lock().pop();
        let Some(fault) = next else { return injected };
        tokio::time::sleep(fault.pause).await;
        injected.push(fleet.inject(&fault).await);
        progress.injected.fetch_add(1, Ordering::Relaxed);
    }
}
