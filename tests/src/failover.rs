//! Failovers under load: masters that are killed or replaced, partitions that move, nodes that are added, links that are
//! cut, many times.
//!
//! One client for each partition submits jobs, each as durable as a replica makes it, and repeats a submission until it
//! is accepted. Workers run them. At the end every accepted job must have succeeded, and the audit must be clean. The
//! longest time for which no job was accepted is measured for each fault: for the partitions that it concerns, and for
//! the others.

mod client;
mod cluster_faults;
mod topology;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use tokio::time::Instant;

use client::{Clients, Gaps};
use topology::Topology;

use crate::Ledger;

/// What a run does again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// Sentinel: the master is killed, and is a replica when it is back.
    SentinelKill,
    /// Sentinel: the replica takes over as planned.
    SentinelPlanned,
    /// Cluster: a master is killed, and is a replica when it is back.
    Kill,
    /// Cluster: a replica takes over as planned.
    Planned,
    /// Cluster: a partition moves to another node, key by key.
    Move,
    /// Cluster: a master stops without closing its connections, and is a replica when it continues.
    Freeze,
    /// Cluster: clients cannot reach half of the nodes for a while, which reach each other; every other time connections
    /// are reset, else nothing arrives.
    Split,
    /// Cluster: a master cannot reach the other nodes, nor they it, until its replica has taken over; clients reach all.
    Isolate,
    /// Cluster: a node and its replica are added, get their share of the slots, and are removed again.
    Add,
}

impl Fault {
    const fn is_of_sentinel(self) -> bool {
        matches!(self, Self::SentinelKill | Self::SentinelPlanned)
    }

    /// Whether links are cut.
    const fn is_of_network(self) -> bool {
        matches!(self, Self::Split | Self::Isolate)
    }
}

/// The parameters of a run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What happens.
    pub fault: Fault,
    /// How often.
    pub times: u32,
    /// The number of partitions.
    pub partitions: u16,
    /// How long each client pauses after a job was accepted.
    pub pause: Duration,
    /// The directory of logs and ledgers.
    pub directory: PathBuf,
}

/// What was found.
#[derive(Debug)]
pub struct Report {
    plan: Plan,
    accepted: usize,
    runs: usize,
    /// Of the partitions that each fault concerned, and of the others.
    gaps: Vec<Gaps>,
    seconds: f64,
    /// Broken promises.
    pub violations: Vec<String>,
}

/// Runs the plan. Calls `injected` with the number of faults so far after each.
///
/// # Errors
/// If the run fails for a reason that is not a violation.
pub async fn run(plan: Plan, injected: impl Fn(u32)) -> anyhow::Result<Report> {
    let start = Instant::now();
    let mut topology = Topology::start(&plan).await?;
    let clients = Clients::start(&plan, &topology.broker()?);
    clients.wait_until_all_accepted().await;
    let mut gaps = Vec::new();
    for number in 0..plan.times {
        clients.begin();
        let concerned = topology.inject(plan.fault, number).await;
        clients.injected();
        clients.wait_until_all_accepted().await;
        gaps.push(clients.gaps(&concerned));
        topology.wait_until_whole().await;
        injected(number + 1);
    }
    let accepted = clients.end().await;
    let broker = topology.broker()?;
    let mut violations = client::check(&broker, &accepted).await;
    violations.extend(topology.problems());
    let audit = broker.audit(|_| ()).await?;
    if !audit.is_clean() {
        violations.push(format!("the audit is not clean: {:?}", audit.findings));
    }
    let runs = Ledger::read(&topology.ledger()).len() / 2;
    let seconds = start.elapsed().as_secs_f64();
    Ok(Report { plan, accepted: accepted.len(), runs, gaps, seconds, violations })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plan, accepted, runs, gaps, seconds, violations } = self;
        writeln!(
            f,
            "{:?}, {} times, {} partitions, {seconds:.0} s",
            plan.fault, plan.times, plan.partitions
        )?;
        writeln!(f, "{accepted} jobs accepted, {runs} runs (or starts that a kill ended)")?;
        let line = |f: &mut fmt::Formatter<'_>, name: &str, of: &dyn Fn(&Gaps) -> Duration| {
            let mut all: Vec<_> = gaps.iter().map(of).collect();
            all.sort_unstable();
            let at = |share: f64| all.get((all.len() as f64 * share) as usize).copied();
            let (median, most) =
                (at(0.5).unwrap_or_default(), all.last().copied().unwrap_or_default());
            writeln!(f, "{name}: median {median:.2?}, longest {most:.2?}")
        };
        line(f, "no job accepted, partitions concerned", &|gaps| gaps.concerned)?;
        line(f, "no job accepted, other partitions", &|gaps| gaps.others)?;
        writeln!(f, "{} violations", violations.len())?;
        violations.iter().take(20).try_for_each(|violation| writeln!(f, "  {violation}"))
    }
}
