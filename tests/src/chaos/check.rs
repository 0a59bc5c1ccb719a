//! The judgement: four accounts of one run, compared. Pure set algebra: it knows nothing of how they came about, so it can
//! be tested with accounts that were made up.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use super::client::Submission;
use super::faults::{Kind, Suffered, Target};
use super::orders::Order;
use super::survey::{Ended, Job, Past};
use crate::{Entry, Moment};
use crunch_common::time::whole_ms;

/// How long after a fault its consequences may show, beyond three leases: the lease itself, the grace that sweeps give
/// after an outage, and what a frozen worker had in hand; here what connecting again takes.
const AFTERMATH_MS: u64 = 10_000;
/// Redis' clock and the clocks of processes on this machine are the same, but not read at the same moment.
const TOLERANCE_MS: u64 = 50;
/// A history forgets older attempts than so many.
const HISTORY: usize = 10;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which promise it breaks.
    pub promise: &'static str,
    /// What was found.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.what)
    }
}

/// Everything that is known of a run.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// What the client was told, by the numbers of its orders.
    pub(super) submissions: BTreeMap<u64, Submission>,
    /// What ran, by the handlers' own account, in the order of writing.
    pub(super) runs: Vec<Entry>,
    /// What Redis holds at the end.
    pub(super) jobs: HashMap<String, Job>,
    /// How jobs were seen to have ended while the run went on.
    pub(super) seen_ended: HashMap<String, Ended>,
    /// What lies about in Redis.
    pub(super) leftovers: Vec<String>,
    /// What went wrong on the way.
    pub(super) troubles: Vec<String>,
    /// What was broken on purpose.
    pub(super) faults: Vec<Suffered>,
    pub(super) lease: Duration,
}

/// Why a run was not the last one of its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    Lost,
    Released,
    Unheard,
    Failed,
    Unexplained,
}

/// One claim of one job that was run, and where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) epoch: u64,
    pub(super) pid: u32,
    pub(super) started_at_ms: u64,
    pub(super) has_ended: bool,
}

impl Evidence {
    pub(super) fn violations(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        let mut note = |promise, what| found.push(Violation { promise, what });
        self.every_acknowledged_job_has_ended(&mut note);
        self.nobody_else_is_there(&mut note);
        self.what_has_ended_stays(&mut note);
        let runs = self.runs_of_jobs(&mut note);
        for (id, runs) in &runs {
            self.runs_are_explained(id, runs, &mut note);
            self.results_are_of_the_last_claim(id, runs, &mut note);
        }
        for what in &self.leftovers {
            note("nothing is left lying about", what.clone());
        }
        for what in &self.troubles {
            note("everybody works", what.clone());
        }
        found
    }

    fn every_acknowledged_job_has_ended(&self, note: &mut impl FnMut(&'static str, String)) {
        for (number, known) in &self.submissions {
            let [id] = &known.ids[..] else {
                note("one order is one job", format!("order {number} is {:?}", known.ids));
                continue;
            };
            let Some(job) = self.jobs.get(id) else {
                note("nothing acknowledged is lost", format!("{id}, order {number}, is gone"));
                continue;
            };
            if !job.is_terminal() {
                note("every job ends", format!("{id} is {}", job.status));
            }
            if known.cancel == Some(200) && job.status != "canceled" {
                note("what was canceled does not run on", format!("{id} is {}", job.status));
            }
            let expected = known.order.result(*number, job.epoch);
            if job.status == "succeeded" && job.result != expected {
                note("the result is of the last claim", format!("{id}, order {number}: {job:?}"));
            }
        }
    }

    fn nobody_else_is_there(&self, note: &mut impl FnMut(&'static str, String)) {
        let acknowledged: std::collections::HashSet<_> =
            self.submissions.values().flat_map(|known| &known.ids).collect();
        for id in self.jobs.keys().filter(|id| !acknowledged.contains(id)) {
            note("one order is one job", format!("nobody was told of {id}"));
        }
    }

    fn what_has_ended_stays(&self, note: &mut impl FnMut(&'static str, String)) {
        for (id, seen) in &self.seen_ended {
            let now = self.jobs.get(id).and_then(Job::ended);
            if now.as_ref() != Some(seen) {
                note("a job ends once", format!("{id} was {seen:?} and is {now:?}"));
            }
        }
        let order = |known: &'_ Submission| (known.ids.first().cloned(), known.order.clone());
        let orders: HashMap<_, _> = self.submissions.values().map(order).collect();
        for (id, job) in &self.jobs {
            let Some(order) = orders.get(&Some(id.clone())) else { continue };
            let expected = changes(job, order.is_delayed());
            if expected.is_some_and(|expected| !is_explained(order, expected, job.version)) {
                note(
                    "a job ends once",
                    format!("{id} changed {} times, not {expected:?}: {job:?}", job.version),
                );
            }
        }
    }

    /// The runs of each job by their claims; no claim may run twice.
    pub(super) fn runs_of_jobs(
        &self,
        note: &mut impl FnMut(&'static str, String),
    ) -> BTreeMap<&str, Vec<Run>> {
        let mut runs: BTreeMap<&str, Vec<Run>> = BTreeMap::new();
        for entry in &self.runs {
            let of_job = runs.entry(&entry.id).or_default();
            let known = of_job.iter_mut().find(|run| run.epoch == entry.epoch);
            match (entry.moment, known) {
                (Moment::Start, None) => of_job.push(Run {
                    epoch: entry.epoch,
                    pid: entry.pid,
                    started_at_ms: entry.at_ms,
                    has_ended: false,
                }),
                (Moment::End, Some(run)) => run.has_ended = true,
                (Moment::Start, Some(_)) => {
                    note(
                        "a claim runs once",
                        format!("{} under {} started twice", entry.id, entry.epoch),
                    );
                }
                (Moment::End, None) => {
                    note("a claim runs once", format!("{} ended and never started", entry.id))
                }
            }
        }
        runs.values_mut().for_each(|runs| runs.sort_by_key(|run| run.epoch));
        runs
    }

    fn runs_are_explained(
        &self,
        id: &str,
        runs: &[Run],
        note: &mut impl FnMut(&'static str, String),
    ) {
        for run in self.earlier(id, runs) {
            if self.cause(id, run) == Cause::Unexplained {
                let history = self.jobs.get(id).map(|job| &job.history);
                note(
                    "every second run has a cause",
                    format!("{id}: {run:?}, {runs:?}, {history:?}"),
                );
            }
        }
    }

    /// Runs of a job that were not its last claim.
    pub(super) fn earlier<'a>(
        &self,
        id: &str,
        runs: &'a [Run],
    ) -> impl Iterator<Item = &'a Run> + use<'a> {
        let last = self.jobs.get(id).map_or(u64::MAX, |job| job.epoch);
        runs.iter().filter(move |run| run.epoch < last)
    }

    /// Why that run was not the last.
    pub(super) fn cause(&self, id: &str, run: &Run) -> Cause {
        let Some(job) = self.jobs.get(id) else { return Cause::Unexplained };
        // A claim's epoch is the time at which it was made, or a little more. Two claims may be only milliseconds apart.
        let distance = |past: &&Past| run.epoch.abs_diff(past.started_at_ms);
        let nearest = job.history.iter().min_by_key(distance);
        let Some(past) = nearest.filter(|past| distance(past) <= TOLERANCE_MS) else {
            return if job.history.len() < HISTORY { Cause::Unexplained } else { Cause::Lost };
        };
        let recorded = match past.outcome.as_str() {
            "failed" => return Cause::Failed,
            "lost" => Cause::Lost,
            "unheard" => Cause::Unheard,
            "shutdown" | "released" => Cause::Released,
            _ => return Cause::Unexplained,
        };
        match self.faults.iter().any(|fault| self.explains(fault, recorded, run, past)) {
            true => recorded,
            false => Cause::Unexplained,
        }
    }

    fn explains(&self, fault: &Suffered, cause: Cause, run: &Run, past: &Past) -> bool {
        let is_near = fault.from_ms <= past.finished_at_ms + TOLERANCE_MS
            && past.finished_at_ms <= self.aftermath_ends(fault);
        let is_its_worker = fault.pid == Some(run.pid);
        let is_matching = match cause {
            Cause::Released => {
                is_its_worker
                    && matches!(fault.kind, Kind::TerminateWorker | Kind::WorkerWithoutTask)
            }
            // Whatever happens to Redis alone must not look like the death of a worker.
            Cause::Lost => is_its_worker,
            Cause::Unheard => is_its_worker || fault.target == Target::Redis,
            Cause::Failed | Cause::Unexplained => false,
        };
        is_near && is_matching
    }

    /// Until when the consequences of a fault may show. Each outage of Redis puts them off: by itself, and by the lease of
    /// grace that follows it.
    fn aftermath_ends(&self, fault: &Suffered) -> u64 {
        let lease_ms = whole_ms(self.lease);
        let outages = self.faults.iter().filter(|other| other.target == Target::Redis);
        let mut outages: Vec<_> = outages.map(|other| (other.from_ms, other.to_ms)).collect();
        outages.sort_unstable();
        let end = fault.to_ms + 3 * lease_ms + AFTERMATH_MS;
        outages.into_iter().fold(end, |end, (from_ms, to_ms)| {
            match from_ms <= end && to_ms > fault.to_ms {
                true => end + (to_ms - from_ms) + lease_ms,
                false => end,
            }
        })
    }

    fn results_are_of_the_last_claim(
        &self,
        id: &str,
        runs: &[Run],
        note: &mut impl FnMut(&'static str, String),
    ) {
        let Some(job) = self.jobs.get(id).filter(|job| job.status == "succeeded") else { return };
        let last = runs.last();
        if !last.is_some_and(|last| last.epoch == job.epoch && last.has_ended) {
            note("the accepted claim is the last", format!("{id}: {job:?}, {runs:?}"));
        }
    }
}

/// Whether a job may have changed that often: one that a worker may have given back was each time claimed and parked, or claimed,
/// put off and promoted, beside what is expected.
fn is_explained(order: &Order, expected: u64, version: u64) -> bool {
    let more = version.checked_sub(expected);
    more.is_some_and(|more| more == 0 || (order.may_be_given_back() && more > 1))
}

/// How often a job must have changed, if that can be told: taken, promoted, claimed and ended for each attempt, and asked
/// to stop.
fn changes(job: &Job, was_delayed: bool) -> Option<u64> {
    if job.status == "canceled" || !job.is_terminal() || job.history.len() >= HISTORY {
        return None;
    }
    let failed = job.history.iter().filter(|past| past.outcome == "failed").count() as u64;
    let attempts = job.history.len() as u64 + 1;
    Some(1 + u64::from(was_delayed) + failed + 2 * attempts + u64::from(job.cancel_requested))
}
