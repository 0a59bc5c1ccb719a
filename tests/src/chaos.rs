//! The chaos run: very many jobs, everything that can break breaks meanwhile, and at the end a ledger decides, as in
//! Jepsen's tests.
//!
//! A client submits and writes down what it was told; handlers write down what they ran; a scheduler, seeded, breaks
//! processes, Redis and the network, and writes down what it broke and when. After a quiet end everything is read back,
//! and `check` compares the four accounts: pure set algebra, which knows nothing of how they came about.

mod check;
mod client;
mod faults;
mod fleet;
mod inject;
mod orders;
mod report;
mod survey;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use tokio::task::JoinSet;

pub use check::Violation;
pub use report::Report;

use crate::Ledger;
use check::Evidence;
use client::Client;
use faults::{Fault, Suffered};
use fleet::Fleet;
pub(crate) use orders::{rare_task, task};

/// What a run consists of. The same plan breaks the same things in the same order.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many jobs.
    pub jobs: u64,
    /// How many faults.
    pub faults: u64,
    /// What chance starts from.
    pub seed: u64,
    /// The lease of the workers.
    pub lease: Duration,
    /// How many workers.
    pub workers: usize,
    /// How many APIs.
    pub apis: usize,
    /// Where logs and ledgers go. They are left there if something is wrong.
    pub directory: PathBuf,
}

/// So many faults may be going on at once; each has a target of its own.
const LANES: usize = 3;
/// So many clients submit at once.
const CLIENTS: usize = 4;
/// So many jobs may wait: enough that every worker has work, few enough that each fault meets jobs that are on their way.
const BACKLOG: u64 = 4000;
/// How long nothing may get on, once nothing breaks any more.
const QUIET_END: Duration = Duration::from_secs(60);

/// How far both sides are: jobs and faults are to be spread over one another.
#[derive(Debug)]
struct Progress {
    acknowledged: AtomicU64,
    /// How many jobs wait or run, when last seen.
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

    /// How far one side may be ahead of the other: always one step of either, and little more, so that there is work
    /// whenever something breaks.
    fn lead(&self) -> f64 {
        LANES as f64 / self.faults.max(1) as f64
            + CLIENTS as f64 * self.batch() as f64 / self.jobs.max(1) as f64
    }

    /// How many jobs a client submits at once: several batches a fault.
    fn batch(&self) -> u64 {
        (self.jobs / self.faults.max(1) / (2 * CLIENTS as u64)).clamp(1, 200)
    }

    /// Waits while the jobs are far ahead of the faults, or of the workers.
    async fn jobs_may_go_on(&self) {
        let bearable = || self.live.load(Ordering::Relaxed) < BACKLOG;
        self.wait(|jobs, faults, lead| bearable() && jobs <= faults + lead).await;
    }

    /// Waits while the faults are far ahead of the jobs.
    async fn faults_may_go_on(&self) {
        self.wait(|jobs, faults, lead| faults <= jobs + lead).await;
    }

    async fn wait(&self, may: impl Fn(f64, f64, f64) -> bool) {
        loop {
            let (jobs, faults) = self.shares();
            if may(jobs, faults, self.lead()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Does all of it. Prints nothing.
///
/// # Errors
/// If something stands in the way that is no finding: a binary that is not built, no room on the disk.
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
    client.every_api_knows_the_tasks().await;
    let watcher = tokio::spawn(survey::watch(fleet.clone(), client.clone(), progress.clone()));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(client.clone().submit());
    }
    let faults = break_everything(&plan, &fleet, &progress).await;
    clients.join_all().await;
    fleet.calm_down().await;
    survey::wait_until_all_ended(&fleet, QUIET_END).await;
    fleet.everybody_works(&client).await;
    survey::wait_until_all_ended(&fleet, QUIET_END).await;
    watcher.abort();
    fleet.is_audited().await;
    let jobs = survey::read_jobs(&fleet).await?;
    client.ask_for_some(&jobs).await;
    let evidence = Evidence {
        submissions: client.submissions(),
        runs: Ledger::read(&fleet.ledger()),
        jobs,
        leftovers: survey::leftovers(&fleet).await?,
        seen_ended: client.seen_ended(),
        troubles: fleet.troubles(),
        faults,
        lease: plan.lease,
    };
    let stale = fleet.count_in_worker_logs("stale: another attempt holds the job");
    Ok(Report::new(&plan, &evidence, stale, start.elapsed()))
}

/// Injects every fault of the plan, a few at a time, spread over the jobs.
async fn break_everything(plan: &Plan, fleet: &Fleet, progress: &Progress) -> Vec<Suffered> {
    let mut faults = faults::draw(&mut Pcg64Mcg::seed_from_u64(plan.seed), plan);
    faults.reverse();
    let faults = Mutex::new(faults);
    let lanes = (0..LANES).map(|_| lane(&faults, fleet, progress));
    join_all(lanes).await.concat()
}

async fn lane(faults: &Mutex<Vec<Fault>>, fleet: &Fleet, progress: &Progress) -> Vec<Suffered> {
    let mut suffered = Vec::new();
    loop {
        progress.faults_may_go_on().await;
        let next = faults.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some(fault) = next else { return suffered };
        tokio::time::sleep(fault.pause).await;
        suffered.push(fleet.suffer(&fault).await);
        progress.injected.fetch_add(1, Ordering::Relaxed);
    }
}
