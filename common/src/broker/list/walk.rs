//! One page's way through the queues: what it has found, and what that has cost so far.
//!
//! Most queues of a large key space hold nothing of the status that is walked. So the walk asks many queues at once whether
//! they do, and then reads as many of those that do as the page still needs. It never asks queue by queue.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::ListQuery;
use super::cursor::{Cursor, Place};
use super::place::{STRIDE, Spot};
use crate::broker::Broker;
use crate::broker::error::Error;
use crate::broker::record::{JobRecord, Lookup};
use crate::job::{JobId, Partition, Status};
use crate::queue::QueueName;

/// One page looks at no more jobs than this: about 5 ms of Redis' time.
const LOOKS: usize = 1000;
/// One page asks no more queues than this whether they hold anything; it takes about as long as that many jobs.
const ASKS: usize = 5000;
/// Queues asked in one round trip: at five commands each about a millisecond.
const ASKED_AT_ONCE: usize = 500;
/// Names read in one round trip: what a step asks, and where the next one begins.
const NAMES_AT_ONCE: usize = ASKED_AT_ONCE + 1;
/// To read names counts as much as to ask so many queues: it is a round trip of its own.
const ASKS_A_STRETCH: usize = 10;

pub(super) struct Walk<'a> {
    broker: &'a Broker,
    query: &'a ListQuery,
    /// The names that this page has read last, by partition.
    names: BTreeMap<Partition, Stretch>,
    pub(super) items: Vec<JobRecord>,
    looks: usize,
    asks: usize,
    /// How many jobs the next step reads: no more than the page needs, then twice as many each time, so that a page that
    /// finds little is not read job by job.
    window: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(broker: &'a Broker, query: &'a ListQuery) -> Self {
        let window = if query.is_choosy() { STRIDE } else { query.limit.clamp(1, STRIDE) };
        Self { broker, query, names: BTreeMap::new(), items: Vec::new(), looks: 0, asks: 0, window }
    }

    /// Whether the page is full, or has cost enough.
    pub(super) fn is_over(&self) -> bool {
        self.is_full() || self.looks >= LOOKS || self.asks >= ASKS
    }

    fn is_full(&self) -> bool {
        self.items.len() == self.query.limit
    }

    /// Goes on from there. Returns where to go on next; `None` at the end of the list.
    pub(super) async fn step(&mut self, cursor: Cursor) -> Result<Option<Cursor>, Error> {
        let names = self.names(&cursor).await?;
        let next = match &cursor.queue {
            Some(queue) if cursor.place != Place::first(cursor.status) => {
                let queue = queue.clone();
                self.go_on_in(&cursor, queue, &names).await
            }
            _ => self.cross(&cursor, &names).await,
        };
        self.window = (2 * self.window).min(STRIDE);
        next
    }

    /// Goes on inside a queue.
    async fn go_on_in(
        &mut self,
        here: &Cursor,
        queue: QueueName,
        names: &[QueueName],
    ) -> Result<Option<Cursor>, Error> {
        let reading = self.broker.read_place(here, &queue, self.window).await?;
        let at = |place| Cursor { queue: Some(queue.clone()), place, ..here.clone() };
        let mut jobs = self.jobs(&reading.ids).await?.into_iter();
        let full = self.take(here.status, &mut jobs);
        Ok(match full.and_then(|taken| reading.behind(taken)).or(reading.end) {
            Some(place) => Some(at(place)),
            None => self.behind(here, names.partition_point(|name| *name <= queue), names),
        })
    }

    /// Goes through the next queues, each from its beginning.
    async fn cross(&mut self, here: &Cursor, names: &[QueueName]) -> Result<Option<Cursor>, Error> {
        let first = here.queue.as_ref();
        let first = first.map_or(0, |queue| names.partition_point(|name| name < queue));
        let last = names.len().min(first + ASKED_AT_ONCE);
        self.asks += last - first;
        let spots = self.broker.spots(here, &names[first..last]).await?;
        let chosen = self.enough(&spots);
        let readings = self.broker.read_spots(&spots[..chosen], self.window).await?;
        let ids: Vec<JobId> =
            readings.iter().flat_map(|reading| reading.ids.iter().copied()).collect();
        let mut jobs = self.jobs(&ids).await?.into_iter();
        for (at, reading) in readings.into_iter().enumerate() {
            let stands =
                |place| Cursor { queue: Some(spots[at].queue.clone()), place, ..here.clone() };
            let full = self.take(here.status, &mut jobs.by_ref().take(reading.ids.len()));
            if let Some(place) = full.and_then(|taken| reading.behind(taken)).or(reading.end) {
                return Ok(Some(stands(place)));
            }
            if let Some(next) = spots.get(at + 1).filter(|_| full.is_some() || at + 1 == chosen) {
                let same = next.queue == spots[at].queue;
                let place = if same { next.place.clone() } else { Place::first(here.status) };
                return Ok(Some(Cursor { queue: Some(next.queue.clone()), place, ..here.clone() }));
            }
        }
        Ok(self.behind(here, last, names))
    }

    /// How many of those spots hold as many jobs as this step is to read.
    fn enough(&self, spots: &[Spot]) -> usize {
        let mut jobs = 0;
        let more = |spot: &&Spot| {
            let goes_on = jobs < self.window;
            jobs += spot.length;
            goes_on
        };
        spots.iter().take_while(more).count()
    }

    /// Adds what matches. Returns how many were taken when the page became full.
    fn take(
        &mut self,
        status: Status,
        jobs: &mut impl Iterator<Item = Lookup<JobRecord>>,
    ) -> Option<usize> {
        let mut full = None;
        // All of them are taken, whether or not there is room: what follows belongs to the next spot.
        for (at, job) in jobs.enumerate() {
            if full.is_none()
                && let Lookup::Found(job) = job
                && job.status == status
                && self.query.matches(&job)
            {
                self.items.push(job);
                full = self.is_full().then_some(at + 1);
            }
        }
        full
    }

    async fn jobs(&mut self, ids: &[JobId]) -> Result<Vec<Lookup<JobRecord>>, Error> {
        self.looks += ids.len().max(1);
        self.broker.listed(ids).await
    }

    /// The beginning of the queue of that number, or of the next partition or status.
    fn behind(&self, here: &Cursor, number: usize, names: &[QueueName]) -> Option<Cursor> {
        let Some(queue) = names.get(number) else { return self.after_partition(here) };
        Some(Cursor {
            queue: Some(queue.clone()),
            place: Place::first(here.status),
            ..here.clone()
        })
    }

    fn after_partition(&self, here: &Cursor) -> Option<Cursor> {
        let start = Cursor::start_of(here.status);
        let next = Partition::new(here.partition.number() + 1);
        let partitions = self.broker.settings.partitions;
        if let Some(partition) = next.filter(|next| next.number() < partitions) {
            return Some(Cursor { partition, ..start });
        }
        let status = Status::ALL.into_iter().skip_while(|&status| status != here.status).nth(1);
        status.filter(|_| self.query.status.is_none()).map(Cursor::start_of)
    }

    /// The queues to walk through in a partition, sorted: from where the walk stands on so many as a step may ask, and the next
    /// one. They are read by ranges, and not at all if the list is for some queues.
    async fn names(&mut self, here: &Cursor) -> Result<Arc<[QueueName]>, Error> {
        let from = here.queue.as_ref();
        if let Some(stretch) = self.names.get(&here.partition).filter(|known| known.serves(from)) {
            return Ok(stretch.names.clone());
        }
        let stretch = match (&self.query.queue, &self.query.among) {
            (Some(only), _) => Stretch::all([only.clone()]),
            (None, Some(among)) => Stretch::all(among.iter().cloned()),
            (None, None) => {
                let bound = from.map_or(Bound::Unbounded, Bound::Included);
                let names = self.broker.queue_names(here.partition, bound, NAMES_AT_ONCE).await?;
                let whole = names.len() < NAMES_AT_ONCE;
                Stretch { names: names.into(), from: from.cloned(), whole }
            }
        };
        self.asks += ASKS_A_STRETCH;
        let names = stretch.names.clone();
        self.names.insert(here.partition, stretch);
        Ok(names)
    }
}

/// Names of a partition's queues that follow one another.
struct Stretch {
    names: Arc<[QueueName]>,
    /// Where it begins; `None` at the first of all.
    from: Option<QueueName>,
    /// No name follows.
    whole: bool,
}

impl Stretch {
    fn all(names: impl IntoIterator<Item = QueueName>) -> Self {
        Self { names: names.into_iter().collect(), from: None, whole: true }
    }

    /// Whether a step from there on finds all names that it needs.
    fn serves(&self, from: Option<&QueueName>) -> bool {
        let begins = self.from.as_ref().is_none_or(|first| from.is_some_and(|from| first <= from));
        let at = from.map_or(0, |from| self.names.partition_point(|name| name < from));
        begins && (self.whole || self.names.len() - at >= NAMES_AT_ONCE)
    }
}
