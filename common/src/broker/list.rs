//! Walking all jobs, a page at a time.
//!
//! The walk goes through statuses in the order of a job's life, inside each through partitions and queues by name, and
//! inside a queue newest first. A cursor names the next place: a jump in cost never depends on what lies before it. Jobs
//! that do not move appear exactly once; those that move meanwhile may repeat or be missed. A page looks at a bounded
//! number of jobs, so it may be short; only a missing cursor ends the list.

mod cursor;
mod place;

use std::collections::BTreeSet;

use super::error::Error;
use super::record::{JobRecord, Lookup};
use super::{Broker, reply};
use crate::job::{Partition, Status};
use crate::queue::QueueName;
use crate::task::TaskName;
use crate::time::Timestamp;

use cursor::Place;
pub use cursor::{Cursor, InvalidCursor};
use place::Reading;

/// One page looks at no more jobs than this.
const LOOKS: usize = 1000;

/// Which jobs are wanted.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// Only those that stand there.
    pub status: Option<Status>,
    /// Only those of that task.
    pub task: Option<TaskName>,
    /// Only those of that queue.
    pub queue: Option<QueueName>,
    /// Only those of these queues.
    pub among: Option<BTreeSet<QueueName>>,
    /// Only those whose id was made then or later.
    pub created_after: Option<Timestamp>,
    /// Only those whose id was made before.
    pub created_before: Option<Timestamp>,
    /// How many at most.
    pub limit: usize,
    /// Where an earlier page of the same list ended; another list's is taken for none.
    pub cursor: Option<Cursor>,
}

/// Some jobs, and where to go on.
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
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn list(&self, query: &ListQuery) -> Result<Page, Error> {
        if query.queue.as_ref().is_some_and(|queue| !query.may_show(queue)) {
            return Ok(Page { items: Vec::new(), next: None });
        }
        let first = query.status.unwrap_or(Status::ALL[0]);
        let mut items = Vec::new();
        let mut looks = 0;
        let given = query.cursor.clone().filter(|cursor| query.fits(cursor));
        let mut next = Some(given.unwrap_or_else(|| Cursor::start_of(first)));
        while let Some(cursor) = next.take() {
            let Some(queue) = self.queue_at(query, &cursor).await? else {
                next = self.after_partition(query, &cursor);
                continue;
            };
            let here = Cursor { queue: Some(queue.clone()), ..cursor };
            let reading = self.read_place(&here, &queue).await?;
            let taken = self.take(query, &here, &reading, &mut items).await?;
            looks += reading.ids.len().max(1);
            next = match taken {
                Some(place) => Some(Cursor { place, ..here }),
                None => match reading.end {
                    Some(place) => Some(Cursor { place, ..here }),
                    None => self.after_queue(query, here).await?,
                },
            };
            if items.len() == query.limit || looks >= LOOKS {
                break;
            }
        }
        Ok(Page { items, next })
    }

    /// Adds what matches. Returns the place to go on if the page became full before the end of the reading.
    async fn take(
        &self,
        query: &ListQuery,
        here: &Cursor,
        reading: &Reading,
        items: &mut Vec<JobRecord>,
    ) -> Result<Option<Place>, Error> {
        let jobs = self.jobs(&reading.ids).await?;
        for (at, job) in jobs.into_iter().enumerate() {
            if let Lookup::Found(job) = job
                && job.status == here.status
                && query.matches(&job)
            {
                items.push(job);
                if items.len() == query.limit && at + 1 < reading.ids.len() {
                    return Ok(Some(reading.places[at].clone()));
                }
            }
        }
        Ok(None)
    }

    /// The queue the cursor stands in, or the first one behind it that exists.
    async fn queue_at(
        &self,
        query: &ListQuery,
        cursor: &Cursor,
    ) -> Result<Option<QueueName>, Error> {
        if let Some(only) = &query.queue {
            return Ok(Some(only.clone()));
        }
        match &cursor.queue {
            Some(queue) => Ok(Some(queue.clone())),
            None => {
                let mut names = self.queue_names(cursor.partition).await?.into_iter();
                Ok(names.find(|name| query.may_show(name)))
            }
        }
    }

    async fn after_queue(&self, query: &ListQuery, here: Cursor) -> Result<Option<Cursor>, Error> {
        if query.queue.is_none() {
            let names = self.queue_names(here.partition).await?;
            let next = |name: &QueueName| Some(name) > here.queue.as_ref() && query.may_show(name);
            if let Some(queue) = names.into_iter().find(next) {
                return Ok(Some(Cursor {
                    queue: Some(queue),
                    place: Place::first(here.status),
                    ..here
                }));
            }
        }
        Ok(self.after_partition(query, &here))
    }

    fn after_partition(&self, query: &ListQuery, here: &Cursor) -> Option<Cursor> {
        let start = Cursor::start_of(here.status);
        let next = Partition::new(here.partition.number() + 1);
        if let Some(partition) = next.filter(|next| next.number() < self.settings.partitions) {
            return Some(Cursor { partition, ..start });
        }
        let status = Status::ALL.into_iter().skip_while(|&status| status != here.status).nth(1);
        status.filter(|_| query.status.is_none()).map(Cursor::start_of)
    }

    async fn queue_names(&self, partition: Partition) -> Result<Vec<QueueName>, Error> {
        let mut ask = redis::pipe();
        ask.cmd("ZRANGE").arg(self.settings.keys(partition).queues()).arg(0).arg(-1);
        let names = reply::array(self.pooled(&ask).await?.swap_remove(0))?;
        let mut names: Vec<QueueName> =
            names.into_iter().map(reply::parsed).collect::<Result<_, _>>()?;
        names.sort();
        Ok(names)
    }
}

impl ListQuery {
    /// Whether the cursor came from a list of the same status and queue. One that stands at the start of a status names no
    /// queue yet.
    #[must_use]
    pub fn fits(&self, cursor: &Cursor) -> bool {
        self.status.is_none_or(|status| status == cursor.status)
            && cursor.queue.as_ref().is_none_or(|queue| self.may_show(queue))
            && (self.queue.is_none() || cursor.queue.is_none() || cursor.queue == self.queue)
    }

    fn may_show(&self, queue: &QueueName) -> bool {
        self.among.as_ref().is_none_or(|among| among.contains(queue))
    }

    fn matches(&self, job: &JobRecord) -> bool {
        self.task.as_ref().is_none_or(|task| *task == job.task)
            && self.created_after.is_none_or(|time| job.id.created_at() >= time)
            && self.created_before.is_none_or(|time| job.id.created_at() < time)
    }
}
