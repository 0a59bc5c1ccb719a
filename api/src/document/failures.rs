//! Of which kinds the failures of many jobs are.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crunch_common::broker::{ErrorGroup, ErrorGroupId, JobRecord};
use crunch_common::job::JobError;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How many kinds a report has: a reader decides by the first ones.
const MAX_SHOWN: usize = 5;
/// How many kinds are counted: a partition has no more.
const MAX_COUNTED: usize = 1000;

/// A kind of error, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ErrorKind)]
pub(crate) struct KindDocument {
    /// As `id` of an error group.
    pub(crate) id: String,
    /// The task of its jobs; null for the group of all other kinds.
    pub(crate) task: Option<String>,
    pub(crate) code: String,
    /// The end of the message, in which numbers, ids and quoted texts are replaced.
    pub(crate) message: String,
}

impl KindDocument {
    fn new(id: &ErrorGroupId, task: Option<&impl ToString>, error: &JobError) -> Self {
        Self {
            id: id.to_string(),
            task: task.map(ToString::to_string).filter(|_| !id.is_other()),
            code: error.code.to_string(),
            message: error.pattern(),
        }
    }

    pub(crate) fn of(group: &ErrorGroup) -> Self {
        Self::new(&group.id, group.task.as_ref(), &group.error)
    }
}

/// How many of the jobs failed with an error of that kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FailureCount {
    pub(crate) error: KindDocument,
    pub(crate) jobs: u64,
}

/// Counts failed jobs by the kinds of their errors.
#[derive(Debug, Default)]
pub(crate) struct FailureCounts(BTreeMap<ErrorGroupId, FailureCount>);

impl FailureCounts {
    /// Counts a job, if it failed.
    pub(crate) fn add(&mut self, job: &JobRecord) {
        let (Some(id), Some(error)) = (&job.error_group, &job.error) else { return };
        if let Some(count) = self.0.get_mut(id) {
            count.jobs += 1;
        } else if self.0.len() < MAX_COUNTED {
            let error = KindDocument::new(id, Some(&job.task), error);
            self.0.insert(id.clone(), FailureCount { error, jobs: 1 });
        }
    }

    /// Returns the kinds with most jobs.
    pub(crate) fn most(self) -> Vec<FailureCount> {
        most(self.0.into_values().collect())
    }
}

/// Returns the groups with most failed jobs.
pub(crate) fn most_failed(groups: &[ErrorGroup]) -> Vec<FailureCount> {
    let count = |group: &ErrorGroup| FailureCount {
        error: KindDocument::of(group),
        jobs: group.failed_jobs,
    };
    most(groups.iter().map(count).collect())
}

fn most(mut counts: Vec<FailureCount>) -> Vec<FailureCount> {
    counts.sort_by_key(|count| Reverse(count.jobs));
    counts.truncate(MAX_SHOWN);
    counts
}
