//! What the jobs of a list have in common: how many failed with which errors, by a label too, and which ran longest.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use crunch_common::broker::JobRecord;
use crunch_common::job::Status;
use crunch_common::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::failures::{FailureCount, FailureCounts};
use super::job::JobDocument;

/// How many values of a label, jobs that ran long, and jobs that lost a worker a summary has.
const MAX_VALUES: usize = 100;
const MAX_SLOWEST: usize = 20;
const MAX_LOST: usize = 20;

/// A summary of the jobs of a list.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobSummary)]
pub(crate) struct SummaryDocument {
    /// How many jobs were read: the first ones of the list.
    pub(crate) jobs: u64,
    /// Whether the list may have more.
    pub(crate) more: bool,
    /// With which errors those that failed did: the five most frequent kinds.
    pub(crate) failures: Vec<FailureCount>,
    /// The jobs by the value of the label `by`: the hundred values with most jobs. Empty without `by`.
    pub(crate) values: Vec<ValueDocument>,
    /// The twenty jobs whose last attempt took longest, or has run longest.
    pub(crate) slowest: Vec<JobDocument>,
    /// The first twenty jobs whose worker died or was silent while it ran them: their attempts have the worker.
    pub(crate) lost: Vec<JobDocument>,
}

/// The jobs with a value of a label.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LabelValue)]
pub(crate) struct ValueDocument {
    /// Null for jobs without the label.
    pub(crate) value: Option<String>,
    pub(crate) jobs: u64,
    /// With which errors those that failed did.
    pub(crate) failures: Vec<FailureCount>,
}

/// A summary, while jobs are read.
#[derive(Debug)]
pub(crate) struct Summary {
    by: Option<String>,
    now: Timestamp,
    jobs: u64,
    failures: FailureCounts,
    values: BTreeMap<Option<String>, (u64, FailureCounts)>,
    slowest: Vec<(Duration, JobRecord)>,
    lost: Vec<JobRecord>,
}

impl Summary {
    /// Begins a summary, by the values of a label if one is given.
    pub(crate) fn new(by: Option<String>) -> Self {
        Self {
            by,
            now: Timestamp::now(),
            jobs: 0,
            failures: FailureCounts::default(),
            values: BTreeMap::new(),
            slowest: Vec::new(),
            lost: Vec::new(),
        }
    }

    pub(crate) const fn jobs(&self) -> u64 {
        self.jobs
    }

    /// Adds the jobs of a page.
    pub(crate) fn add(&mut self, page: Vec<JobRecord>) {
        for job in page {
            self.jobs += 1;
            self.failures.add(&job);
            if let Some(label) = &self.by {
                let value = job.options.metadata.get(label).map(ToOwned::to_owned);
                let (jobs, failures) = self.values.entry(value).or_default();
                *jobs += 1;
                failures.add(&job);
            }
            if job.losses > 0 && self.lost.len() < MAX_LOST {
                self.lost.push(job.clone());
            }
            if let Some(took) = self.run_time(&job) {
                self.slowest.push((took, job));
            }
        }
        self.slowest.sort_by_key(|(took, _)| Reverse(*took));
        self.slowest.truncate(MAX_SLOWEST);
    }

    /// How long the last attempt of a job took, or has run. A waiting job may have been claimed by a worker that could not
    /// run it.
    fn run_time(&self, job: &JobRecord) -> Option<Duration> {
        let started = job.started_at?;
        match job.status {
            Status::Running => Some(started.until(self.now)),
            status if status.is_terminal() => Some(started.until(job.finished_at?)),
            _ => None,
        }
    }

    /// Returns the counts, and the jobs that ran longest.
    pub(crate) fn finish(self, more: bool) -> (SummaryDocument, Vec<JobRecord>) {
        let mut values: Vec<_> = self.values.into_iter().collect();
        values.sort_by_key(|(_, (jobs, _))| Reverse(*jobs));
        values.truncate(MAX_VALUES);
        let value = |(value, (jobs, failures)): (_, (_, FailureCounts))| ValueDocument {
            value,
            jobs,
            failures: failures.most(),
        };
        let document = SummaryDocument {
            jobs: self.jobs,
            more,
            failures: self.failures.most(),
            values: values.into_iter().map(value).collect(),
            slowest: Vec::new(),
            lost: self.lost.into_iter().map(JobDocument::listed).collect(),
        };
        (document, self.slowest.into_iter().map(|(_, job)| job).collect())
    }
}
