//! Lists all jobs, one page at a time.
//!
//! A list of no status and no queue begins with the newest jobs over all queues (`newest.rs`), and goes on with a walk over
//! the others. The walk goes through statuses in the order of a job's lifecycle, in each through partitions and queues by name, and
//! in a queue newest first. A cursor names the next position, so the cost of a page does not depend on what precedes
//! it. Jobs that do not move appear exactly once; those that move meanwhile may be repeated or missed. A page reads a
//! limited number of jobs and queues, so it may be short; only a missing cursor ends the list.
//!
//! A list of the jobs with a label reads an index (`indexed.rs`) if the query names it: then it is newest first over all
//! partitions. Otherwise it is such a walk, which looks at more jobs for a page, and says at how many.

mod cursor;
mod indexed;
mod newest;
mod place;
mod walk;

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::error::Error;
use super::record::JobRecord;
use super::{Broker, ErrorGroupId, IndexId};
use crate::job::{Metadata, Status};
use crate::queue::QueueName;
use crate::task::TaskName;
use crate::time::Timestamp;

pub use cursor::{Cursor, InvalidCursor};
use cursor::{Ended, Position};
use newest::Newest;
use walk::Walk;

/// How many jobs a page looks at: about 5 ms of Redis' time.
const LOOKS: usize = 1000;

/// Filter and position of a list of jobs.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// Only jobs with this status.
    pub status: Option<Status>,
    /// Only jobs of this task.
    pub task: Option<TaskName>,
    /// Only jobs of this queue.
    pub queue: Option<QueueName>,
    /// Only jobs that failed with an error of this group, and neither run again nor were deleted.
    pub error: Option<ErrorGroupId>,
    /// Only jobs with all of these labels.
    pub metadata: Metadata,
    /// Only jobs of this index, which is that of one of the labels; `None`: all jobs are looked at.
    pub index: Option<IndexId>,
    /// Only jobs of these queues.
    pub among: Option<BTreeSet<QueueName>>,
    /// Only jobs whose id was created at this time or later.
    pub created_after: Option<Timestamp>,
    /// Only jobs whose id was created before this time.
    pub created_before: Option<Timestamp>,
    /// Only jobs that ended at this time or later, by Redis' clock.
    pub finished_after: Option<Timestamp>,
    /// Only jobs that ended before this time.
    pub finished_before: Option<Timestamp>,
    /// Maximum number of jobs.
    pub limit: usize,
    /// Where an earlier page of the same list ended; a cursor of another list is ignored.
    pub cursor: Option<Cursor>,
}

/// Some jobs, and where the next page starts.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The jobs.
    pub items: Vec<JobRecord>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<Cursor>,
    /// How many jobs were looked at for this page.
    pub looked_at: u64,
    /// How many jobs the index has; `None` without an index, or if only some queues may be seen.
    pub of: Option<u64>,
}

/// How many jobs a page looks at if it is to find labels: about 50 ms of Redis' time, in steps of half a millisecond. Ten
/// times those of other pages, since few of them match.
const SEARCHED: usize = 10_000;

impl Broker {
    /// Reads a page of jobs.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn list(&self, query: &ListQuery) -> Result<Page, Error> {
        if query.queue.as_ref().is_some_and(|queue| !query.includes_queue(queue)) {
            return Ok(Page::default());
        }
        let Some(query) = &self.narrowed(query).await? else {
            return Ok(Page::default());
        };
        if let Some(index) = query.index {
            return self.list_index(query, index).await;
        }
        let start = Position::start_of(query.status.unwrap_or(Status::ALL[0]));
        let given = query.cursor.clone().filter(|cursor| query.fits(cursor));
        let (newest, position) = match given.map(|cursor| cursor.0) {
            Some(Ended::Walk(position, below)) => (Newest::listed_before(below), position),
            Some(Ended::Index(..)) => (Newest::listed_before(None), start),
            Some(Ended::Newest(after)) => (self.newest(query, Some(after)).await?, start),
            None if query.begins_with_newest() => (self.newest(query, None).await?, start),
            None => (Newest::listed_before(None), start),
        };
        match newest.last {
            Some(last) if !newest.is_over => {
                let next = Some(Cursor(Ended::Newest(last)));
                Ok(Page { items: newest.items, next, looked_at: newest.looked_at, of: None })
            }
            _ => self.walk(query, newest, position).await,
        }
    }

    /// Adds the jobs of the walk to a page that may have some of the newest.
    async fn walk(
        &self,
        query: &ListQuery,
        newest: Newest,
        position: Position,
    ) -> Result<Page, Error> {
        let (below, mut next) = (newest.last, Some(position));
        let mut walk = Walk::new(self, query, newest);
        while !walk.is_over()
            && let Some(position) = next.take()
        {
            next = walk.step(position).await?;
        }
        let next = next.map(|position| Cursor(Ended::Walk(position, below)));
        Ok(Page { next, looked_at: walk.looked_at, items: walk.items, of: None })
    }

    /// Returns the query with what its error group implies: only failed jobs, and the group's queue. `None` if no job can
    /// match.
    async fn narrowed<'a>(
        &self,
        query: &'a ListQuery,
    ) -> Result<Option<Cow<'a, ListQuery>>, Error> {
        let Some(id) = &query.error else { return Ok(Some(Cow::Borrowed(query))) };
        let Some(group) = self.error_group(id).await? else { return Ok(None) };
        if query.status.is_some_and(|status| status != Status::Failed) {
            return Ok(None);
        }
        let queue = match (&query.queue, group.queue) {
            (Some(queue), Some(own)) if *queue != own => return Ok(None),
            (_, Some(own)) if !query.includes_queue(&own) => return Ok(None),
            (queue, own) => queue.clone().or(own),
        };
        Ok(Some(Cow::Owned(ListQuery { status: Some(Status::Failed), queue, ..query.clone() })))
    }
}

impl ListQuery {
    /// Whether the cursor is from a list of the same status and queue. One at the start of a status names no queue yet. One
    /// in an index requires a label of that index.
    #[must_use]
    pub fn fits(&self, cursor: &Cursor) -> bool {
        let cursor = match &cursor.0 {
            Ended::Walk(cursor, _) => cursor,
            Ended::Newest(_) => return self.begins_with_newest(),
            Ended::Index(index, _) => return self.has_index(*index),
        };
        self.status.is_none_or(|status| status == cursor.status)
            && cursor.queue.as_ref().is_none_or(|queue| self.includes_queue(queue))
            && (self.queue.is_none() || cursor.queue.is_none() || cursor.queue == self.queue)
    }

    /// Whether it begins with the newest jobs over all queues. Not if only some may be seen: a cursor names a job.
    const fn begins_with_newest(&self) -> bool {
        self.status.is_none() && self.queue.is_none() && self.among.is_none()
    }

    fn has_index(&self, index: IndexId) -> bool {
        self.metadata.iter().any(|(name, value)| IndexId::of(name, value) == Some(index))
    }

    /// How many jobs a page may look at.
    fn looks(&self) -> usize {
        if self.metadata.is_empty() { LOOKS } else { SEARCHED }
    }

    fn includes_queue(&self, queue: &QueueName) -> bool {
        self.among.as_ref().is_none_or(|among| among.contains(queue))
    }

    /// The error group whose jobs are to be read, if they are in a set of their own.
    fn group(&self) -> Option<&ErrorGroupId> {
        self.error.as_ref().filter(|group| !group.is_other())
    }

    /// Whether it filters jobs by more than status and queue, or group.
    #[must_use]
    pub fn is_choosy(&self) -> bool {
        self.task.is_some()
            || self.created_after.is_some()
            || self.created_before.is_some()
            || self.has_end()
            || !self.metadata.is_empty()
    }

    /// Whether it filters jobs by when they ended.
    const fn has_end(&self) -> bool {
        self.finished_after.is_some() || self.finished_before.is_some()
    }

    /// Whether a job is to be listed, wherever it was found.
    fn selects(&self, job: &JobRecord) -> bool {
        self.status.is_none_or(|status| status == job.status)
            && self.queue.as_ref().is_none_or(|queue| *queue == job.queue)
            && self.matches(job)
    }

    fn matches(&self, job: &JobRecord) -> bool {
        self.task.as_ref().is_none_or(|task| *task == job.task)
            && (self.error.is_none() || self.error == job.error_group)
            && self.created_after.is_none_or(|time| job.id.created_at() >= time)
            && self.created_before.is_none_or(|time| job.id.created_at() < time)
            && (!self.has_end() || job.finished_at.is_some())
            && self.finished_after.is_none_or(|time| job.finished_at >= Some(time))
            && self.finished_before.is_none_or(|time| job.finished_at < Some(time))
            && self
                .metadata
                .iter()
                .all(|(name, value)| job.options.metadata.get(name) == Some(value))
    }
}
