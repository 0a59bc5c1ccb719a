//! The report of a run, as text.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::Plan;
use super::check::{Cause, Evidence, Run, Violation};
use super::faults::{Injected, Kind};
use crate::Moment;

/// The figures of a run, and the violations found.
#[derive(Debug)]
pub struct Report {
    plan: Plan,
    took: Duration,
    /// The number of acknowledged jobs.
    pub acknowledged: usize,
    /// How many of them had a payload or a result above 64 KiB.
    pub large: usize,
    /// How many of them were for a server.
    pub in_servers: usize,
    /// The number of faults.
    pub faults: usize,
    by_kind: BTreeMap<Kind, usize>,
    refused: u64,
    unknown: u64,
    by_status: BTreeMap<String, usize>,
    worker_lost: usize,
    /// The number of acknowledged jobs that were lost.
    pub lost: usize,
    runs: usize,
    /// Runs that were followed by another, by cause.
    again: BTreeMap<Cause, usize>,
    /// The number of late settlements that were refused.
    pub stale: usize,
    restarts: Vec<u64>,
    resumes: Vec<u64>,
    /// All violations.
    pub violations: Vec<Violation>,
}

impl Report {
    pub(super) fn new(plan: &Plan, evidence: &Evidence, stale: usize, took: Duration) -> Self {
        let runs = evidence.runs_of_jobs(&mut |_, _| {});
        let mut again: BTreeMap<_, usize> = BTreeMap::new();
        for (id, runs) in &runs {
            for run in evidence.earlier(id, runs) {
                *again.entry(evidence.cause(id, run)).or_default() += 1;
            }
        }
        let submissions = || evidence.submissions.values();
        let mut report = Self {
            plan: plan.clone(),
            took,
            acknowledged: submissions().filter(|submission| !submission.ids.is_empty()).count(),
            large: submissions().filter(|submission| submission.order.is_large()).count(),
            in_servers: submissions().filter(|submission| submission.order.is_of_server()).count(),
            faults: evidence.faults.len(),
            by_kind: count(evidence.faults.iter().map(|fault| fault.kind)),
            refused: submissions().map(|submission| u64::from(submission.refused)).sum(),
            unknown: submissions().map(|submission| u64::from(submission.unknown)).sum(),
            by_status: count(evidence.jobs.values().map(|job| job.status.clone())),
            worker_lost: evidence
                .jobs
                .values()
                .filter(|job| job.error.contains("worker_lost"))
                .count(),
            lost: submissions()
                .flat_map(|submission| &submission.ids)
                .filter(|id| !evidence.jobs.contains_key(*id))
                .count(),
            runs: runs.values().map(Vec::len).sum(),
            again,
            stale,
            restarts: evidence
                .faults
                .iter()
                .flat_map(|fault| restarts(fault, evidence, &runs))
                .collect(),
            resumes: evidence.faults.iter().filter_map(|fault| resume(fault, evidence)).collect(),
            violations: evidence.violations(),
        };
        report.restarts.sort_unstable();
        report.resumes.sort_unstable();
        report
    }

    /// Returns the number of runs that no fault explains.
    #[must_use]
    pub fn unexplained(&self) -> usize {
        self.again.get(&Cause::Unexplained).copied().unwrap_or(0)
    }

    /// Returns the directory of logs and ledgers.
    #[must_use]
    pub fn directory(&self) -> &PathBuf {
        &self.plan.directory
    }
}

fn count<T: Ord>(things: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    things.fold(BTreeMap::new(), |mut counts, thing| {
        *counts.entry(thing).or_default() += 1;
        counts
    })
}

/// For each job that a killed worker was running: how long after the kill it ran again, if Redis was available
/// meanwhile.
fn restarts(fault: &Injected, evidence: &Evidence, jobs: &BTreeMap<&str, Vec<Run>>) -> Vec<u64> {
    if fault.kind != Kind::KillWorker {
        return Vec::new();
    }
    let pairs = jobs.iter().flat_map(|(id, runs)| runs.windows(2).map(move |pair| (*id, pair)));
    pairs
        .filter(|(id, pair)| {
            fault.pid == Some(pair[0].pid) && evidence.cause(id, &pair[0]) == Cause::Lost
        })
        .filter(|(_, pair)| is_redis_available(evidence, fault.from_ms, pair[1].started_at_ms))
        .filter_map(|(_, pair)| pair[1].started_at_ms.checked_sub(fault.from_ms))
        .collect()
}

/// How long after the end of an outage of Redis the first job started, if no other outage began before.
fn resume(fault: &Injected, evidence: &Evidence) -> Option<u64> {
    let is_outage = fault.target.is_redis() && fault.kind != Kind::FlushFunctions;
    let starts = evidence.runs.iter().filter(|entry| entry.moment == Moment::Start);
    let starts = starts.map(|entry| entry.at_ms);
    let first = starts.filter(|&at_ms| is_outage && at_ms >= fault.to_ms).min()?;
    is_redis_available(evidence, fault.to_ms + 1, first).then(|| first - fault.to_ms)
}

fn is_redis_available(evidence: &Evidence, from_ms: u64, to_ms: u64) -> bool {
    let outages = evidence.faults.iter().filter(|fault| fault.target.is_redis());
    !outages.into_iter().any(|outage| outage.from_ms <= to_ms && outage.to_ms >= from_ms)
}

fn percentiles(sorted: &[u64]) -> String {
    let at =
        |share: usize| sorted.get((sorted.len() * share / 100).min(sorted.len().saturating_sub(1)));
    match (at(50), at(99), sorted.last()) {
        (Some(p50), Some(p99), Some(max)) => {
            format!("p50 {p50} ms, p99 {p99} ms, longest {max} ms, of {}", sorted.len())
        }
        _ => "none".to_owned(),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { seed, workers, server_workers, apis, partitions, nodes, lease, .. } = &self.plan;
        writeln!(
            f,
            "seed {seed}, {workers} workers, {server_workers} with a server, {apis} APIs, {partitions} partitions, {nodes} nodes of a cluster, lease {lease:?}, took {:.0?}",
            self.took
        )?;
        writeln!(
            f,
            "acknowledged jobs  {}, {} of them large, {} for servers",
            self.acknowledged, self.large, self.in_servers
        )?;
        writeln!(
            f,
            "  ended as         {:?}; failed as worker_lost {}",
            self.by_status, self.worker_lost
        )?;
        writeln!(
            f,
            "  answers before   {} refused, {} unknown, asked again with the same key",
            self.refused, self.unknown
        )?;
        writeln!(f, "faults             {}", self.faults)?;
        for (kind, times) in &self.by_kind {
            writeln!(f, "  {times:>5} {kind:?}")?;
        }
        writeln!(f, "lost               {}", self.lost)?;
        let again: usize = self.again.values().sum();
        writeln!(f, "runs               {}, {again} of them replaced by a later one", self.runs)?;
        writeln!(f, "  because          {:?}", self.again)?;
        writeln!(f, "  unexplained      {}", self.unexplained())?;
        writeln!(f, "late, refused      {}", self.stale)?;
        writeln!(f, "killed, run again  {}", percentiles(&self.restarts))?;
        writeln!(f, "redis back, works  {}", percentiles(&self.resumes))?;
        writeln!(f, "violations         {}", self.violations.len())?;
        self.violations.iter().take(50).try_for_each(|violation| writeln!(f, "  {violation}"))
    }
}
