//! The walk of one page over the queues: the jobs found and the cost so far.
//!
//! Most queues of a large key space contain no jobs of the requested status. So the walk checks many queues at once,
//! and then reads as many of those that contain any as the page still needs. It never checks queues one by one.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::ListQuery;
use super::cursor::{Place, Position};
use super::newest::Newest;
use super::place::STRIDE;
use crate::broker::Broker;
use crate::broker::error::Error;
use crate::broker::record::{JobRecord, Lookup};
use crate::job::{JobId, Partition, Status};
use crate::queue::QueueName;

/// Maximum number of queues checked for one page; it takes about as long as looking at 1000 jobs.
const ASKS: usize = 5000;
/// Number of queues checked per round trip: at five commands each about a millisecond.
const QUEUES_PER_STEP: usize = 500;
/// Number of names per round trip: those of a step, and the first one of the next step.
const NAMES_PER_RANGE: usize = QUEUES_PER_STEP + 1;
/// Reading names counts as much as checking this many queues: it is a separate round trip.
const ASKS_PER_RANGE: usize = 10;

pub(super) struct Walk<'a> {
    broker: &'a Broker,
    query: &'a ListQuery,
    /// Only jobs that are older than this one: the newest were listed before.
    below: Option<JobId>,
    /// The names that this page read last, by partition.
    names: BTreeMap<Partition, NameRange>,
    pub(super) items: Vec<JobRecord>,
    jobs_read: usize,
    /// How many jobs the page has considered, each once in all pages.
    pub(super) looked_at: u64,
    queues_checked: usize,
    /// How many jobs the next step reads: at first no more than the page needs, then twice as many each time, so that a
    /// page that finds few matches is not read job by job.
    window: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(broker: &'a Broker, query: &'a ListQuery, newest: Newest) -> Self {
        let window = if query.is_choosy() { STRIDE } else { query.limit.clamp(1, STRIDE) };
        Self {
            broker,
            query,
            below: newest.last,
            names: BTreeMap::new(),
            items: newest.items,
            jobs_read: newest.looks,
            looked_at: newest.looked_at,
            queues_checked: 0,
            window,
        }
    }

    /// Whether the page is full, or its budget is used up.
    pub(super) fn is_over(&self) -> bool {
        self.is_full() || self.jobs_read >= self.query.looks() || self.queues_checked >= ASKS
    }

    fn is_full(&self) -> bool {
        self.items.len() == self.query.limit
    }

    /// Continues at the cursor. Returns where to continue next; `None` at the end of the list.
    pub(super) async fn step(&mut self, cursor: Position) -> Result<Option<Position>, Error> {
        let names = self.names(&cursor).await?;
        let next = match &cursor.queue {
            Some(queue) if cursor.place != Place::first(cursor.status) => {
                let queue = queue.clone();
                self.continue_in(&cursor, queue, &names).await
            }
            _ => self.scan_queues(&cursor, &names).await,
        };
        self.window = (2 * self.window).min(STRIDE);
        next
    }

    /// Continues in a queue.
    async fn continue_in(
        &mut self,
        cursor: &Position,
        queue: QueueName,
        names: &[QueueName],
    ) -> Result<Option<Position>, Error> {
        let reading =
            self.broker.read_place(cursor, &queue, (self.query.group(), self.window)).await?;
        let at = |place| Position { queue: Some(queue.clone()), place, ..cursor.clone() };
        let mut jobs = self.jobs(&reading.ids).await?.into_iter();
        let full = self.take(cursor.status, &mut jobs);
        Ok(match full.and_then(|consumed| reading.after(consumed)).or(reading.end) {
            Some(place) => Some(at(place)),
            None => self.start_of(cursor, names.partition_point(|name| *name <= queue), names),
        })
    }

    /// Reads the next queues, each from its start.
    async fn scan_queues(
        &mut self,
        cursor: &Position,
        names: &[QueueName],
    ) -> Result<Option<Position>, Error> {
        let first = cursor.queue.as_ref();
        let first = first.map_or(0, |queue| names.partition_point(|name| name < queue));
        let last = names.len().min(first + QUEUES_PER_STEP);
        self.queues_checked += last - first;
        let sources = self.broker.sources(cursor, &names[first..last], self.query.group()).await?;
        let chosen = self.count_needed(sources.iter().map(|source| source.length));
        let mut readings =
            self.broker.read_sources(cursor, &sources[..chosen], self.window).await?;
        // An entry may be several jobs.
        let chosen = self.count_needed(readings.iter().map(|reading| reading.ids.len()));
        readings.truncate(chosen);
        let ids: Vec<JobId> =
            readings.iter().flat_map(|reading| reading.ids.iter().copied()).collect();
        let mut jobs = self.jobs(&ids).await?.into_iter();
        for (index, reading) in readings.into_iter().enumerate() {
            let at = |place| Position {
                queue: Some(sources[index].queue.clone()),
                place,
                ..cursor.clone()
            };
            let full = self.take(cursor.status, &mut jobs.by_ref().take(reading.ids.len()));
            if let Some(place) = full.and_then(|consumed| reading.after(consumed)).or(reading.end) {
                return Ok(Some(at(place)));
            }
            let more = full.is_some() || index + 1 == chosen;
            if let Some(next) = sources.get(index + 1).filter(|_| more) {
                let same = next.queue == sources[index].queue;
                let place = if same { next.place.clone() } else { Place::first(cursor.status) };
                return Ok(Some(Position {
                    queue: Some(next.queue.clone()),
                    place,
                    ..cursor.clone()
                }));
            }
        }
        Ok(self.start_of(cursor, last, names))
    }

    /// Returns how many sources to use in this step, given how many jobs each has: enough to fill its window.
    fn count_needed(&self, lengths: impl Iterator<Item = usize>) -> usize {
        let mut jobs = 0;
        let needed = |length: &usize| {
            let is_needed = jobs < self.window;
            jobs += length;
            is_needed
        };
        lengths.take_while(needed).count()
    }

    /// Adds the jobs that match. If the page becomes full, returns how many were consumed until then.
    fn take(
        &mut self,
        status: Status,
        jobs: &mut impl Iterator<Item = Lookup<JobRecord>>,
    ) -> Option<usize> {
        let mut full = None;
        // All of them are consumed, even if the page is full: the next ones belong to the next source.
        for (index, job) in jobs.enumerate() {
            // One of another status, or among the newest, is considered elsewhere.
            if full.is_none()
                && let Lookup::Found(job) = job
                && job.status == status
                && self.below.is_none_or(|below| job.id < below)
            {
                self.looked_at += 1;
                if self.query.matches(&job) {
                    self.items.push(job);
                    full = self.is_full().then_some(index + 1);
                }
            }
        }
        full
    }

    async fn jobs(&mut self, ids: &[JobId]) -> Result<Vec<Lookup<JobRecord>>, Error> {
        self.jobs_read += ids.len().max(1);
        self.broker.listed(ids).await
    }

    /// Returns the start of the queue with this index, or of the next partition or status.
    fn start_of(&self, cursor: &Position, index: usize, names: &[QueueName]) -> Option<Position> {
        let Some(queue) = names.get(index) else { return self.after_partition(cursor) };
        Some(Position {
            queue: Some(queue.clone()),
            place: Place::first(cursor.status),
            ..cursor.clone()
        })
    }

    fn after_partition(&self, cursor: &Position) -> Option<Position> {
        let start = Position::start_of(cursor.status);
        let next = Partition::new(cursor.partition.number() + 1);
        let partitions = self.broker.settings.space.len();
        if let Some(partition) = next.filter(|next| next.number() < partitions) {
            return Some(Position { partition, ..start });
        }
        let status = Status::ALL.into_iter().skip_while(|&status| status != cursor.status).nth(1);
        status.filter(|_| self.query.status.is_none()).map(Position::start_of)
    }

    /// Returns the queues to walk in a partition, sorted: from the cursor on as many as a step may check, and the next
    /// one. They are read by ranges, and not at all if the list is restricted to some queues.
    async fn names(&mut self, cursor: &Position) -> Result<Arc<[QueueName]>, Error> {
        let from = cursor.queue.as_ref();
        if let Some(range) = self.names.get(&cursor.partition).filter(|range| range.covers(from)) {
            return Ok(range.names.clone());
        }
        let range = match (&self.query.queue, &self.query.among) {
            (Some(only), _) => NameRange::all([only.clone()]),
            (None, Some(among)) => NameRange::all(among.iter().cloned()),
            (None, None) => {
                let bound = from.map_or(Bound::Unbounded, Bound::Included);
                let names =
                    self.broker.queue_names(cursor.partition, bound, NAMES_PER_RANGE).await?;
                let is_last = names.len() < NAMES_PER_RANGE;
                NameRange { names: names.into(), from: from.cloned(), is_last }
            }
        };
        self.queues_checked += ASKS_PER_RANGE;
        let names = range.names.clone();
        self.names.insert(cursor.partition, range);
        Ok(names)
    }
}

/// A contiguous range of the names of a partition's queues.
struct NameRange {
    names: Arc<[QueueName]>,
    /// Where it starts; `None` means the first name of all.
    from: Option<QueueName>,
    /// Whether no name follows.
    is_last: bool,
}

impl NameRange {
    fn all(names: impl IntoIterator<Item = QueueName>) -> Self {
        Self { names: names.into_iter().collect(), from: None, is_last: true }
    }

    /// Whether it contains all names that a step from there needs.
    fn covers(&self, from: Option<&QueueName>) -> bool {
        let includes_start =
            self.from.as_ref().is_none_or(|first| from.is_some_and(|from| first <= from));
        let index = from.map_or(0, |from| self.names.partition_point(|name| name < from));
        includes_start && (self.is_last || self.names.len() - index >= NAMES_PER_RANGE)
    }
}
