//! The check: compares four records of one run. Pure set algebra, independent of how the records were made, so it can
//! be tested with invented ones.

mod locks;
mod rules;
#[cfg(test)]
mod tests;
mod waits;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use super::client::Submission;
use super::faults::{Injected, Kind};
use super::orders::Order;
use super::survey::{Ended, Job, PastAttempt};
use crate::{Entry, Moment};
use crunch_common::time::whole_ms;

/// How long after a fault it may have consequences, in addition to three leases: the lease itself, the grace period of
/// sweeps after an outage, and the jobs of a frozen worker. This is for reconnecting.
const AFTERMATH_MS: u64 = 10_000;
/// Redis and the processes on this machine share a clock, but do not read it at the same moment.
const TOLERANCE_MS: u64 = 50;
/// The code of an attempt whose child died.
const CHILD_DIED: &str = "child_died";
/// A history keeps this many attempts.
const HISTORY: usize = 10;

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The promise that is broken.
    pub promise: &'static str,
    /// What was found.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.what)
    }
}

/// The records of a run.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// The responses to the client, by order number.
    pub(super) submissions: BTreeMap<u64, Submission>,
    /// The ledger of the handlers, in the order of writing.
    pub(super) runs: Vec<Entry>,
    /// The jobs in Redis at the end.
    pub(super) jobs: HashMap<String, Job>,
    /// How jobs had ended, as read during the run.
    pub(super) seen_ended: HashMap<String, Ended>,
    /// Leftovers in Redis.
    pub(super) leftovers: Vec<String>,
    /// Problems found during the run.
    pub(super) problems: Vec<String>,
    /// The injected faults.
    pub(super) faults: Vec<Injected>,
    pub(super) lease: Duration,
}

/// Why a run was not the last one of its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    Lost,
    Released,
    Unheard,
    Failed,
    /// Its handler put the job off.
    Snoozed,
    /// A child of a server died.
    ChildDied,
    Unexplained,
}

/// A run: one claim of one job, and the process that ran it.
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
        let mut report = |promise, what| found.push(Violation { promise, what });
        self.every_acknowledged_job_has_ended(&mut report);
        self.every_job_is_acknowledged(&mut report);
        self.what_has_ended_stays(&mut report);
        self.attempts_in_children_fail_for_a_reason(&mut report);
        self.rules_of_groups_are_kept(&mut report);
        self.limits_are_kept(&mut report);
        self.jobs_start_in_time_or_expire(&mut report);
        self.locks_are_kept(&mut report);
        let runs = self.runs_of_jobs(&mut report);
        for (id, runs) in &runs {
            self.runs_are_explained(id, runs, &mut report);
            self.results_are_of_the_last_claim(id, runs, &mut report);
        }
        for what in &self.leftovers {
            report("nothing is left over", what.clone());
        }
        for what in &self.problems {
            report("every process works", what.clone());
        }
        found
    }

    fn every_acknowledged_job_has_ended(&self, report: &mut impl FnMut(&'static str, String)) {
        for (number, submission) in &self.submissions {
            // An order with a lock gets the job of another one while that is live: then another one if it is repeated.
            let is_one = submission.ids.len() == 1 || submission.order.lock().is_some();
            if submission.ids.is_empty() || !is_one {
                report("one order is one job", format!("order {number} is {:?}", submission.ids));
                continue;
            }
            for id in &submission.ids {
                self.acknowledged_job_has_ended((*number, submission), id, report);
            }
        }
    }

    fn acknowledged_job_has_ended(
        &self,
        (number, submission): (u64, &Submission),
        id: &str,
        report: &mut impl FnMut(&'static str, String),
    ) {
        let Some(job) = self.jobs.get(id) else {
            report("nothing acknowledged is lost", format!("{id}, order {number}, is missing"));
            return;
        };
        if !job.is_terminal() {
            report("every job ends", format!("{id} is {}", job.status));
        }
        if job.status == "failed" && !job.error.contains("worker_lost") {
            report("a job is tried until it succeeds", format!("{id} failed: {}", job.error));
        }
        if submission.cancel == Some(200) && job.status != "canceled" {
            report("what was canceled does not run on", format!("{id} is {}", job.status));
        }
        let is_expected = || match submission.order.lock() {
            Some(lock) => self.is_result_of_an_order(id, lock),
            None => job.result == submission.order.result(number, job.epoch),
        };
        if job.status == "succeeded" && !is_expected() {
            report("the result is of the last claim", format!("{id}, order {number}: {job:?}"));
        }
    }

    fn every_job_is_acknowledged(&self, report: &mut impl FnMut(&'static str, String)) {
        let acknowledged: std::collections::HashSet<_> =
            self.submissions.values().flat_map(|submission| &submission.ids).collect();
        for id in self.jobs.keys().filter(|id| !acknowledged.contains(id)) {
            report("one order is one job", format!("no response contained {id}"));
        }
    }

    fn what_has_ended_stays(&self, report: &mut impl FnMut(&'static str, String)) {
        for (id, seen) in &self.seen_ended {
            let now = self.jobs.get(id).and_then(Job::ended);
            if now.as_ref() != Some(seen) {
                report("a job ends once", format!("{id} was {seen:?} and is {now:?}"));
            }
        }
        let order = |submission: &'_ Submission| {
            (submission.ids.first().cloned(), submission.order.clone())
        };
        // A job with a lock changes with each order for which it stands.
        let alone = self.submissions.values().filter(|it| it.order.lock().is_none());
        let orders: HashMap<_, _> = alone.map(order).collect();
        for (id, job) in &self.jobs {
            let Some(order) = orders.get(&Some(id.clone())) else { continue };
            let expected = changes(job, order.is_delayed());
            if expected.is_some_and(|expected| !is_explained(order, expected, job.version)) {
                report(
                    "a job ends once",
                    format!("{id} changed {} times, not {expected:?}: {job:?}", job.version),
                );
            }
        }
    }

    /// A job in a child fails as ordered, or because of a fault of a child: also if the child died before it ran the job.
    fn attempts_in_children_fail_for_a_reason(
        &self,
        report: &mut impl FnMut(&'static str, String),
    ) {
        let of_server = self.submissions.values().filter(|it| it.order.is_of_server());
        for id in of_server.flat_map(|submission| &submission.ids) {
            let history = self.jobs.get(id).map(|job| &job.history[..]).unwrap_or_default();
            for past in history.iter().filter(|past| past.outcome == "failed") {
                let is_explained = match past.error_code() {
                    CHILD_DIED => self
                        .faults
                        .iter()
                        .any(|fault| fault.kind.may_end_child() && self.is_near(fault, past)),
                    code => code == "task_failed",
                };
                if !is_explained {
                    report("a child dies of a fault", format!("{id}: {past:?}"));
                }
            }
        }
    }

    /// Groups the runs by job, each in the order of claims; no claim may run twice.
    pub(super) fn runs_of_jobs(
        &self,
        report: &mut impl FnMut(&'static str, String),
    ) -> BTreeMap<&str, Vec<Run>> {
        let mut runs: BTreeMap<&str, Vec<Run>> = BTreeMap::new();
        for entry in &self.runs {
            let job_runs = runs.entry(&entry.id).or_default();
            let found = job_runs.iter_mut().find(|run| run.epoch == entry.epoch);
            match (entry.moment, found) {
                (Moment::Start, None) => job_runs.push(Run {
                    epoch: entry.epoch,
                    pid: entry.pid,
                    started_at_ms: entry.at_ms,
                    has_ended: false,
                }),
                (Moment::End, Some(run)) => run.has_ended = true,
                (Moment::Start, Some(_)) => {
                    report(
                        "a claim runs once",
                        format!("{} under {} started twice", entry.id, entry.epoch),
                    );
                }
                (Moment::End, None) => {
                    report("a claim runs once", format!("{} ended and never started", entry.id))
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
        report: &mut impl FnMut(&'static str, String),
    ) {
        for run in self.earlier(id, runs) {
            if self.cause(id, run) == Cause::Unexplained {
                let history = self.jobs.get(id).map(|job| &job.history);
                report(
                    "every second run has a cause",
                    format!("{id}: {run:?}, {runs:?}, {history:?}"),
                );
            }
        }
    }

    /// Returns the runs of a job that were not its last claim.
    pub(super) fn earlier<'a>(
        &self,
        id: &str,
        runs: &'a [Run],
    ) -> impl Iterator<Item = &'a Run> + use<'a> {
        let last = self.jobs.get(id).map_or(u64::MAX, |job| job.epoch);
        runs.iter().filter(move |run| run.epoch < last)
    }

    /// Returns why a run was not the last.
    pub(super) fn cause(&self, id: &str, run: &Run) -> Cause {
        let Some(job) = self.jobs.get(id) else { return Cause::Unexplained };
        // The epoch of a claim is its time, or a little more. Two claims may be only milliseconds apart.
        let distance = |past: &&PastAttempt| run.epoch.abs_diff(past.started_at_ms);
        let nearest = job.history.iter().min_by_key(distance);
        let Some(past) = nearest.filter(|past| distance(past) <= TOLERANCE_MS) else {
            return if job.history.len() < HISTORY { Cause::Unexplained } else { Cause::Lost };
        };
        let recorded = match past.outcome.as_str() {
            "failed" if past.error_code() == CHILD_DIED => Cause::ChildDied,
            "failed" => return Cause::Failed,
            "snoozed" => return Cause::Snoozed,
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

    fn explains(&self, fault: &Injected, cause: Cause, run: &Run, past: &PastAttempt) -> bool {
        let is_its_worker = fault.pid == Some(run.pid);
        let is_matching = match cause {
            Cause::Released => {
                is_its_worker
                    && matches!(fault.kind, Kind::TerminateWorker | Kind::WorkerWithoutTask)
            }
            // A fault of Redis alone must not count as the death of a worker.
            Cause::Lost => is_its_worker && !fault.kind.is_of_child(),
            Cause::ChildDied => is_its_worker && fault.kind.may_end_child(),
            Cause::Unheard => {
                (is_its_worker && !fault.kind.is_of_child()) || fault.target.is_redis()
            }
            Cause::Failed | Cause::Snoozed | Cause::Unexplained => false,
        };
        is_matching && self.is_near(fault, past)
    }

    /// Whether an attempt ended while a fault may have had consequences.
    fn is_near(&self, fault: &Injected, past: &PastAttempt) -> bool {
        fault.from_ms <= past.finished_at_ms + TOLERANCE_MS
            && past.finished_at_ms <= self.aftermath_ends(fault)
    }

    /// Until when a fault may have consequences. Each outage of Redis delays them by its length and by the lease of
    /// grace that follows it.
    fn aftermath_ends(&self, fault: &Injected) -> u64 {
        let lease_ms = whole_ms(self.lease);
        let outages = self.faults.iter().filter(|other| other.target.is_redis());
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
        report: &mut impl FnMut(&'static str, String),
    ) {
        let Some(job) = self.jobs.get(id).filter(|job| job.status == "succeeded") else { return };
        let last = runs.last();
        if !last.is_some_and(|last| last.epoch == job.epoch && last.has_ended) {
            report("the accepted claim is the last", format!("{id}: {job:?}, {runs:?}"));
        }
    }
}

/// Whether the version of a job is possible: a job that a worker may release was, for each release, claimed and parked,
/// or claimed, delayed and promoted, in addition to the expected changes.
fn is_explained(order: &Order, expected: u64, version: u64) -> bool {
    let more = version.checked_sub(expected);
    more.is_some_and(|more| more == 0 || (order.may_be_released() && more > 1))
}

/// How often a job must have changed, if that is known: accepted, promoted, claimed and ended for each attempt, and
/// asked to stop.
fn changes(job: &Job, was_delayed: bool) -> Option<u64> {
    if job.status == "canceled" || !job.is_terminal() || job.history.len() >= HISTORY {
        return None;
    }
    let waits = |past: &&PastAttempt| ["failed", "snoozed"].contains(&past.outcome.as_str());
    let failed = job.history.iter().filter(waits).count() as u64;
    let attempts = job.history.len() as u64 + 1;
    Some(1 + u64::from(was_delayed) + failed + 2 * attempts + u64::from(job.cancel_requested))
}
