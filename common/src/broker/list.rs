//! Walking all jobs, a page at a time.
//!
//! The walk goes through statuses in the order of a job's life, inside each through partitions and queues by name, and
//! inside a queue newest first. A cursor names the next place: a jump in cost never depends on what lies before it. Jobs
//! that do not move appear exactly once; those that move meanwhile may repeat or be missed. A page looks at a bounded
//! number of jobs, so it may be short; only a missing cursor ends the list.

use std::fmt;
use std::str::FromStr;

use super::error::Error;
use super::keys::Lane;
use super::record::{JobRecord, Lookup};
use super::{Broker, Keys, reply};
use crate::job::{JobId, Partition, Status};
use crate::queue::QueueName;
use crate::task::TaskName;
use crate::time::Timestamp;

/// One page looks at no more jobs than this.
const LOOKS: usize = 1000;
/// Ids read from one place at once.
const STRIDE: usize = 100;
/// How far behind its old place a cursor's job is searched in a ready list.
const SEARCHED: isize = 10_000;

/// Which jobs are wanted.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// Only those that stand there.
    pub status: Option<Status>,
    /// Only those of that task.
    pub task: Option<TaskName>,
    /// Only those of that queue.
    pub queue: Option<QueueName>,
    /// Only those whose id was made then or later.
    pub created_after: Option<Timestamp>,
    /// Only those whose id was made before.
    pub created_before: Option<Timestamp>,
    /// How many at most.
    pub limit: usize,
    /// Where an earlier page ended.
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

/// A place in the walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    status: Status,
    partition: Partition,
    /// The queue the walk is in; the first one if unsaid.
    queue: Option<QueueName>,
    place: Place,
}

/// A place inside a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// In a sorted set: below that score, or at it below that id.
    Below { score: u64, id: Option<JobId> },
    /// In a ready list: behind that id, which stood at that index.
    Behind {
        lane: usize,
        index: isize,
        id: Option<JobId>,
    },
}

impl Place {
    fn first(status: Status) -> Self {
        match status {
            Status::Queued => Self::Behind {
                lane: 0,
                index: 0,
                id: None,
            },
            _ => Self::Below {
                score: u64::MAX,
                id: None,
            },
        }
    }
}

/// Ids read at a place, and the place behind them; `None` at the end of the queue.
struct Reading {
    ids: Vec<JobId>,
    /// The place behind each id, in case the page ends there.
    places: Vec<Place>,
    end: Option<Place>,
}

impl Broker {
    /// Reads a page of jobs.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn list(&self, query: &ListQuery) -> Result<Page, Error> {
        let first = query.status.unwrap_or(Status::ALL[0]);
        let mut items = Vec::new();
        let mut looks = 0;
        let mut next = Some(
            query
                .cursor
                .clone()
                .unwrap_or_else(|| Cursor::start_of(first)),
        );
        while let Some(cursor) = next.take() {
            let Some(queue) = self.queue_at(query, &cursor).await? else {
                next = self.after_partition(query, &cursor);
                continue;
            };
            let here = Cursor {
                queue: Some(queue.clone()),
                ..cursor
            };
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
            None => Ok(self.queue_names(cursor.partition).await?.into_iter().next()),
        }
    }

    async fn after_queue(&self, query: &ListQuery, here: Cursor) -> Result<Option<Cursor>, Error> {
        if query.queue.is_none() {
            let names = self.queue_names(here.partition).await?;
            if let Some(queue) = names
                .into_iter()
                .find(|name| Some(name) > here.queue.as_ref())
            {
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
        let status = Status::ALL
            .into_iter()
            .skip_while(|&status| status != here.status)
            .nth(1);
        status
            .filter(|_| query.status.is_none())
            .map(Cursor::start_of)
    }

    async fn queue_names(&self, partition: Partition) -> Result<Vec<QueueName>, Error> {
        let mut ask = redis::pipe();
        ask.cmd("ZRANGE")
            .arg(self.settings.keys(partition).queues())
            .arg(0)
            .arg(-1);
        let names = reply::array(self.pooled(&ask).await?.swap_remove(0))?;
        let mut names: Vec<QueueName> = names
            .into_iter()
            .map(reply::parsed)
            .collect::<Result<_, _>>()?;
        names.sort();
        Ok(names)
    }

    async fn read_place(&self, here: &Cursor, queue: &QueueName) -> Result<Reading, Error> {
        let keys = self.settings.keys(here.partition);
        match &here.place {
            Place::Below { score, id } => {
                self.read_set(&set_of(&keys, queue, here.status), *score, *id)
                    .await
            }
            Place::Behind { lane, index, id } => {
                self.read_lane(&keys, queue, *lane, *index, *id).await
            }
        }
    }

    /// Reads a sorted set from its highest score down; ids of one score in falling order.
    async fn read_set(
        &self,
        name: &str,
        score: u64,
        below: Option<JobId>,
    ) -> Result<Reading, Error> {
        let top = if score == u64::MAX {
            "+inf".to_owned()
        } else {
            score.to_string()
        };
        let (mut skip, mut reading) = (
            0,
            Reading {
                ids: Vec::new(),
                places: Vec::new(),
                end: None,
            },
        );
        // Many jobs may share one score: those at or above `below` were seen before.
        loop {
            let mut ask = redis::pipe();
            ask.cmd("ZRANGE")
                .arg(name)
                .arg(&top)
                .arg("-inf")
                .arg("BYSCORE")
                .arg("REV");
            ask.arg("LIMIT").arg(skip).arg(STRIDE).arg("WITHSCORES");
            let values = reply::array(self.pooled(&ask).await?.swap_remove(0))?;
            let full = values.len() == 2 * STRIDE;
            for pair in values.chunks_exact(2) {
                let (Ok(id), Ok(at)) = (
                    reply::parsed::<JobId>(pair[0].clone()),
                    reply::unsigned(&pair[1]),
                ) else {
                    continue;
                };
                if at < score || below.is_none_or(|below| id < below) {
                    reading.ids.push(id);
                    reading.places.push(Place::Below {
                        score: at,
                        id: Some(id),
                    });
                }
            }
            skip += STRIDE;
            if !full || !reading.ids.is_empty() {
                reading.end = reading.places.last().filter(|_| full).cloned();
                return Ok(reading);
            }
        }
    }

    /// Reads a ready list from its newest end. The cursor's job may have been pushed along by newer ones, so it is
    /// searched from where it stood; if it is gone it was claimed, and everything older with it.
    async fn read_lane(
        &self,
        keys: &Keys,
        queue: &QueueName,
        lane: usize,
        index: isize,
        behind: Option<JobId>,
    ) -> Result<Reading, Error> {
        let name = keys.ready(queue, Lane::ALL[lane]);
        let next_lane = (lane + 1 < Lane::ALL.len()).then(|| Place::Behind {
            lane: lane + 1,
            index: 0,
            id: None,
        });
        let mut start = index;
        while start - index <= SEARCHED {
            let ids = self.lane_window(&name, start).await?;
            let full = ids.len() == STRIDE;
            let seen = behind.map(|behind| ids.iter().position(|&id| id == behind));
            if seen != Some(None) {
                let first = seen.flatten().map_or(0, |at| at + 1);
                let place = |(at, &id): (usize, &JobId)| Place::Behind {
                    lane,
                    index: start + at as isize,
                    id: Some(id),
                };
                let places: Vec<_> = ids.iter().enumerate().skip(first).map(place).collect();
                let seen_at = start + first.saturating_sub(1) as isize;
                let last = places.last().cloned().or_else(|| {
                    Some(Place::Behind {
                        lane,
                        index: seen_at,
                        id: behind,
                    })
                });
                let end = if full { last } else { next_lane };
                return Ok(Reading {
                    ids: ids[first..].to_vec(),
                    places,
                    end,
                });
            }
            if !full {
                break;
            }
            start += STRIDE as isize;
        }
        Ok(Reading {
            ids: Vec::new(),
            places: Vec::new(),
            end: next_lane,
        })
    }

    async fn lane_window(&self, name: &str, start: isize) -> Result<Vec<JobId>, Error> {
        let mut ask = redis::pipe();
        ask.cmd("LRANGE")
            .arg(name)
            .arg(start)
            .arg(start + STRIDE as isize - 1);
        let values = reply::array(self.pooled(&ask).await?.swap_remove(0))?;
        values.into_iter().map(reply::parsed).collect()
    }
}

fn set_of(keys: &Keys, queue: &QueueName, status: Status) -> String {
    match status {
        Status::Scheduled | Status::Retrying => keys.delayed(queue),
        Status::Queued | Status::Running => keys.running(queue),
        Status::Failed => keys.failed(queue),
        Status::Succeeded | Status::Canceled => keys.finished(queue),
    }
}

impl ListQuery {
    fn matches(&self, job: &JobRecord) -> bool {
        self.task.as_ref().is_none_or(|task| *task == job.task)
            && self
                .created_after
                .is_none_or(|time| job.id.created_at() >= time)
            && self
                .created_before
                .is_none_or(|time| job.id.created_at() < time)
    }
}

impl Cursor {
    fn start_of(status: Status) -> Self {
        Self {
            status,
            partition: Partition::default(),
            queue: None,
            place: Place::first(status),
        }
    }
}

/// `<status>/<partition>/<queue or ->/<lane or ->/<score or index>/<id or ->`
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}/{}/",
            self.status,
            self.partition,
            self.queue.as_ref().map_or("", QueueName::as_str)
        )?;
        let id = match self.place {
            Place::Below { score, id } => {
                write!(f, "/{score}/")?;
                id
            }
            Place::Behind { lane, index, id } => {
                write!(f, "{lane}/{index}/")?;
                id
            }
        };
        id.map_or(Ok(()), |id| id.fmt(f))
    }
}

/// Text that no page ended with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor that a page of this list ended with")]
pub struct InvalidCursor;

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<_> = text.split('/').collect();
        let [status, partition, queue, lane, number, id] = parts[..] else {
            return Err(InvalidCursor);
        };
        fn optional<T: FromStr>(text: &str) -> Result<Option<T>, InvalidCursor> {
            if text.is_empty() {
                Ok(None)
            } else {
                text.parse().map(Some).map_err(|_| InvalidCursor)
            }
        }
        let id = optional(id)?;
        let place = match optional::<usize>(lane)? {
            Some(lane) if lane < Lane::ALL.len() => {
                let index = optional(number)?
                    .filter(|&index| index >= 0)
                    .ok_or(InvalidCursor)?;
                Place::Behind { lane, index, id }
            }
            Some(_) => return Err(InvalidCursor),
            None => Place::Below {
                score: optional(number)?.ok_or(InvalidCursor)?,
                id,
            },
        };
        let status = status.parse().map_err(|_| InvalidCursor)?;
        if (status == Status::Queued) != matches!(place, Place::Behind { .. }) {
            return Err(InvalidCursor);
        }
        let partition = optional(partition)?
            .and_then(Partition::new)
            .ok_or(InvalidCursor)?;
        Ok(Self {
            status,
            partition,
            queue: optional(queue)?,
            place,
        })
    }
}
