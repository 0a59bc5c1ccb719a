//! Lists all jobs, one page at a time.
//!
//! The walk goes through statuses in the order of a job's lifecycle, in each through partitions and queues by name, and
//! in a queue newest first. A cursor names the next position, so the cost of a page does not depend on what precedes
//! it. Jobs that do not move appear exactly once; those that move meanwhile may be repeated or missed. A page reads a
//! limited number of jobs and queues, so it may be short; only a missing cursor ends the list.

mod cursor;
mod place;
mod walk;

use std::collections::BTreeSet;

use super::Broker;
use super::error::Error;
use super::record::JobRecord;
use crate::job::Status;
use crate::queue::QueueName;
use crate::task::TaskName;
use crate::time::Timestamp;

pub use cursor::{Cursor, InvalidCursor};
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
        let first = query.status.unwrap_or(Status::ALL[0]);
        let given = query.cursor.clone().filter(|cursor| query.fits(cursor));
        let mut next = Some(given.unwrap_or_else(|| Cursor::start_of(first)));
        let mut walk = Walk::new(self, query);
        while let Some(cursor) = next.take() {
            next = walk.step(cursor).await?;
            if walk.is_over() {
                break;
            }
        }
        Ok(Page { items: walk.items, next })
    }
}

impl ListQuery {
    /// Whether the cursor is from a list of the same status and queue. One at the start of a status names no queue yet.
    #[must_use]
    pub fn fits(&self, cursor: &Cursor) -> bool {
        self.status.is_none_or(|status| status == cursor.status)
            && cursor.queue.as_ref().is_none_or(|queue| self.includes_queue(queue))
            && (self.queue.is_none() || cursor.queue.is_none() || cursor.queue == self.queue)
    }

    fn includes_queue(&self, queue: &QueueName) -> bool {
        self.among.as_ref().is_none_or(|among| among.contains(queue))
    }

    /// Whether it filters jobs by more than status and queue.
    fn is_choosy(&self) -> bool {
        self.task.is_some() || self.created_after.is_some() || self.created_before.is_some()
    }

    fn matches(&self, job: &JobRecord) -> bool {
        self.task.as_ref().is_none_or(|task| *task == job.task)
            && self.created_after.is_none_or(|time| job.id.created_at() >= time)
            && self.created_before.is_none_or(|time| job.id.created_at() < time)
    }
}
