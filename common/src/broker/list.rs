//! Lists all jobs, one page at a time.
//!
//! A list of no status and no queue begins with the newest jobs over all queues (`newest.rs`), and goes on with a walk over
//! the others. The walk goes through statuses in the order of a job's lifecycle, in each through partitions and queues by name, and
//! in a queue newest first. A cursor names the next position, so the cost of a page does not depend on what precedes
//! it. Jobs that do not move appear exactly once; those that move meanwhile may be repeated or missed. A page reads a
//! limited number of jobs and queues, so it may be short; only a missing cursor ends the list.

mod cursor;
mod newest;
mod place;
mod walk;

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::error::Error;
use super::record::JobRecord;
use super::{Broker, ErrorGroupId};
use crate::job::Status;
use crate::queue::QueueName;
use crate::task::TaskName;
use crate::time::Timestamp;

pub use cursor::{Cursor, InvalidCursor};
use cursor::{Ended, Position};
use newest::Newest;
use walk::Walk;

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
    /// Only jobs of these queues.
    pub among: Option<BTreeSet<QueueName>>,
    /// Only jobs whose id was created at this time or later.
    pub created_after: Option<Timestamp>,
    /// Only jobs whose id was created before this time.
    pub created_before: Option<Timestamp>,
    /// Maximum number of jobs.
    pub limit: usize,
    /// Where an earlier page of the same list ended; a cursor of another list is ignored.
    pub cursor: Option<Cursor>,
}

/// Some jobs, and where the next page starts.
#[derive(Debug, Clone)]
pub struct Page {
    /// The jobs.
    pub items: Vec<JobRecord>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<Cursor>,
}

impl Broker {
    /// Reads a page of jobs.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn list(&self, query: &ListQuery) -> Result<Page, Error> {
        if query.queue.as_ref().is_some_and(|queue| !query.includes_queue(queue)) {
            return Ok(Page { items: Vec::new(), next: None });
        }
        let Some(query) = &self.narrowed(query).await? else {
            return Ok(Page { items: Vec::new(), next: None });
        };
        let start = Position::start_of(query.status.unwrap_or(Status::ALL[0]));
        let given = query.cursor.clone().filter(|cursor| query.fits(cursor));
        let (newest, position) = match given.map(|cursor| cursor.0) {
            Some(Ended::Walk(position, below)) => (Newest::listed_before(below), position),
            Some(Ended::Newest(after)) => (self.newest(query, Some(after)).await?, start),
            None if query.begins_with_newest() => (self.newest(query, None).await?, start),
            None => (Newest::listed_before(None), start),
        };
        match newest.last {
            Some(last) if !newest.is_over => {
                Ok(Page { items: newest.items, next: Some(Cursor(Ended::Newest(last))) })
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
        Ok(Page { items: walk.items, next })
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
    /// Whether the cursor is from a list of the same status and queue. One at the start of a status names no queue yet.
    #[must_use]
    pub fn fits(&self, cursor: &Cursor) -> bool {
        let Ended::Walk(cursor, _) = &cursor.0 else { return self.begins_with_newest() };
        self.status.is_none_or(|status| status == cursor.status)
            && cursor.queue.as_ref().is_none_or(|queue| self.includes_queue(queue))
            && (self.queue.is_none() || cursor.queue.is_none() || cursor.queue == self.queue)
    }

    /// Whether it begins with the newest jobs over all queues. Not if only some may be seen: a cursor names a job.
    const fn begins_with_newest(&self) -> bool {
        self.status.is_none() && self.queue.is_none() && self.among.is_none()
    }

    fn includes_queue(&self, queue: &QueueName) -> bool {
        self.among.as_ref().is_none_or(|among| among.contains(queue))
    }

    /// The error group whose jobs are to be read, if they are in a set of their own.
    fn group(&self) -> Option<&ErrorGroupId> {
        self.error.as_ref().filter(|group| !group.is_other())
    }

    /// Whether it filters jobs by more than status and queue, or group.
    fn is_choosy(&self) -> bool {
        self.task.is_some() || self.created_after.is_some() || self.created_before.is_some()
    }

    fn matches(&self, job: &JobRecord) -> bool {
        self.task.as_ref().is_none_or(|task| *task == job.task)
            && (self.error.is_none() || self.error == job.error_group)
            && self.created_after.is_none_or(|time| job.id.created_at() >= time)
            && self.created_before.is_none_or(|time| job.id.created_at() < time)
    }
}
