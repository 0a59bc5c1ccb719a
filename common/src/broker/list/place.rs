//! Reads the ids at positions of the walk: a range of a sorted set, or of a ready list.

use super::cursor::{LanePlace, Place, Position, SetPlace};
use crate::broker::error::Error;
use crate::broker::keys::Lane;
use crate::broker::{Broker, ErrorGroupId, Keys, reply};
use crate::job::{JobId, Status};
use crate::queue::QueueName;
use crate::task::TaskName;

/// Maximum number of ids read from one place at once.
pub(super) const STRIDE: usize = 100;
/// How far after its old index a cursor's job is searched in a ready list.
const SEARCHED: usize = 10_000;

/// Ids read at a place, and where to continue.
#[derive(Default)]
pub(super) struct Reading {
    pub(super) ids: Vec<JobId>,
    /// The place after each id, in case the page ends there.
    pub(super) places: Vec<Place>,
    /// The place after all of them; `None` at the end of the queue.
    pub(super) end: Option<Place>,
}

impl Reading {
    /// Returns the place after this many of its ids; `None` after the last of them.
    pub(super) fn after(&self, consumed: usize) -> Option<Place> {
        if consumed < self.ids.len() { self.places.get(consumed - 1).cloned() } else { None }
    }

    /// Truncates it to what a step reads.
    fn truncated_to(mut self, window: usize) -> Self {
        if self.ids.len() > window {
            self.ids.truncate(window);
            self.places.truncate(window);
            self.end = self.places.last().cloned();
        }
        self
    }
}

/// A set or lane that contains jobs, with the place of its start.
pub(super) struct Source {
    pub(super) queue: QueueName,
    pub(super) place: Place,
    pub(super) length: usize,
    key: String,
}

impl Broker {
    /// Returns the sets or lanes of the queues that contain jobs of the cursor's status, in order. One round trip, or
    /// two for ready jobs.
    pub(super) async fn sources(
        &self,
        cursor: &Position,
        names: &[QueueName],
        group: Option<&ErrorGroupId>,
    ) -> Result<Vec<Source>, Error> {
        let keys = self.settings.keys(cursor.partition);
        let mut sources: Vec<_> = match cursor.status {
            Status::Queued => self.lanes_of(keys, names).await?,
            status => names.iter().map(|name| set_source(keys, name, status, group)).collect(),
        };
        let mut pipeline = redis::pipe();
        for source in &sources {
            let lane = matches!(source.place, Place::Lane(_));
            pipeline.cmd(if lane { "LLEN" } else { "ZCARD" }).arg(&source.key);
        }
        let lengths = self.pooled(cursor.partition, &pipeline).await?;
        for (source, length) in sources.iter_mut().zip(lengths) {
            source.length = usize::try_from(reply::unsigned(&length)?).unwrap_or(usize::MAX);
        }
        sources.retain(|source| source.length > 0);
        Ok(sources)
    }

    /// Reads up to `window` ids from the start of each source. One round trip.
    pub(super) async fn read_sources(
        &self,
        cursor: &Position,
        sources: &[Source],
        window: usize,
    ) -> Result<Vec<Reading>, Error> {
        let status = cursor.status;
        let mut pipeline = redis::pipe();
        for source in sources {
            match &source.place {
                Place::Set(place) => {
                    let count = members(status, window);
                    ask_set(&mut pipeline, &source.key, place.score, 0, count);
                }
                Place::Lane(_) => ask_lane(&mut pipeline, &source.key, 0, window),
                Place::Grouped(_) => ask_grouped(&mut pipeline, &source.key, None, window),
            }
        }
        let replies = self.pooled(cursor.partition, &pipeline).await?;
        let read = |(source, reply): (&Source, redis::Value)| match &source.place {
            Place::Set(_) => Ok(match SetWindow::read(reply, members(status, window), status)? {
                Ok(jobs) => jobs.reading().truncated_to(window),
                // Read again from there, as a whole.
                Err(score) => {
                    let end = Some(Place::Set(SetPlace { score, below: None }));
                    Reading { end, ..Reading::default() }
                }
            }),
            Place::Grouped(_) => Ok(grouped(read_ids(reply)?, window)),
            Place::Lane(place) => {
                let ids = read_ids(reply)?;
                let place = |(index, &id)| {
                    Place::Lane(LanePlace { index, after: Some(id), ..place.clone() })
                };
                let places: Vec<_> = ids.iter().enumerate().map(place).collect();
                let end = places.last().filter(|_| ids.len() == window).cloned();
                Ok(Reading { ids, places, end })
            }
        };
        sources.iter().zip(replies).map(read).collect()
    }

    /// Reads up to `window` ids from a place in a queue.
    pub(super) async fn read_place(
        &self,
        cursor: &Position,
        queue: &QueueName,
        (group, window): (Option<&ErrorGroupId>, usize),
    ) -> Result<Reading, Error> {
        let keys = self.settings.keys(cursor.partition);
        let reading = match &cursor.place {
            Place::Set(place) => {
                let name = set_of(keys, queue, cursor.status, group);
                self.read_set(cursor, &name, *place).await
            }
            Place::Lane(place) => self.read_lane(keys, queue, place).await,
            Place::Grouped(below) => self.read_grouped(keys, queue, *below).await,
        };
        Ok(reading?.truncated_to(window))
    }

    /// Reads a sorted set from its highest score down; ids of one score in descending order.
    async fn read_set(
        &self,
        cursor: &Position,
        name: &str,
        mut from: SetPlace,
    ) -> Result<Reading, Error> {
        let status = cursor.status;
        let (mut skip, mut width) = (0, STRIDE);
        // Many jobs may share one score: those at or above the cursor's id were already returned.
        loop {
            let mut pipeline = redis::pipe();
            ask_set(&mut pipeline, name, from.score, skip, width);
            let reply = self.pooled(cursor.partition, &pipeline).await?.swap_remove(0);
            let window = match SetWindow::read(reply, width, status)? {
                Ok(window) => window,
                Err(_) => {
                    width *= 2;
                    continue;
                }
            };
            let is_last = window.is_last;
            let lowest = window.jobs.last().map(|&(_, score)| score);
            let unread = window.after(from).reading();
            if is_last || !unread.ids.is_empty() {
                return Ok(unread);
            }
            match lowest {
                Some(lowest) if is_grouped(status) => {
                    from = SetPlace { score: lowest.saturating_sub(1), below: None };
                }
                _ => skip += STRIDE,
            }
        }
    }

    /// Reads a ready list from its newest end. Newer jobs may have shifted the cursor's job, so it is searched from its
    /// old index on; if it is not found it was claimed, and everything older with it.
    async fn read_lane(
        &self,
        keys: &Keys,
        queue: &QueueName,
        from: &LanePlace,
    ) -> Result<Reading, Error> {
        let name = keys.ready(queue, &from.lane);
        for start in (from.index..from.index + SEARCHED).step_by(STRIDE) {
            let ids = self.lane_window(keys, &name, start).await?;
            let full = ids.len() == STRIDE;
            let first = match from.after {
                None => Some(0),
                Some(after) => ids.iter().position(|&id| id == after).map(|index| index + 1),
            };
            if let Some(first) = first {
                let place = |(offset, &id): (usize, &JobId)| {
                    Place::Lane(LanePlace {
                        index: start + offset,
                        after: Some(id),
                        ..from.clone()
                    })
                };
                let places: Vec<_> = ids.iter().enumerate().map(place).collect();
                let end = match full {
                    true => places.last().cloned(),
                    false => self.next_lane(keys, queue, &from.lane).await?,
                };
                return Ok(Reading {
                    ids: ids[first..].to_vec(),
                    places: places[first..].to_vec(),
                    end,
                });
            }
            if !full {
                break;
            }
        }
        let end = self.next_lane(keys, queue, &from.lane).await?;
        Ok(Reading { end, ..Reading::default() })
    }

    /// Reads the jobs that wait in groups, from the newest down.
    async fn read_grouped(
        &self,
        keys: &Keys,
        queue: &QueueName,
        below: Option<JobId>,
    ) -> Result<Reading, Error> {
        let mut pipeline = redis::pipe();
        ask_grouped(&mut pipeline, &keys.grouped(queue), below, STRIDE);
        let ids = read_ids(self.pooled(keys.partition(), &pipeline).await?.swap_remove(0))?;
        Ok(grouped(ids, STRIDE))
    }

    /// Returns the start of the lane after this one, in the order of the walk; that of the jobs in groups after the last.
    async fn next_lane(
        &self,
        keys: &Keys,
        queue: &QueueName,
        lane: &Lane,
    ) -> Result<Option<Place>, Error> {
        let lanes = self.lanes_of(keys, std::slice::from_ref(queue)).await?;
        let follows = |source: &Source| match &source.place {
            Place::Lane(place) => order(&place.lane) > order(lane),
            Place::Grouped(_) => true,
            Place::Set(_) => false,
        };
        Ok(lanes.into_iter().find(follows).map(|source| source.place))
    }

    /// Returns all lanes of the queues, including empty ones, and after those of each queue its jobs in groups. One round
    /// trip.
    async fn lanes_of(&self, keys: &Keys, names: &[QueueName]) -> Result<Vec<Source>, Error> {
        let mut pipeline = redis::pipe();
        names.iter().for_each(|name| {
            pipeline.cmd("SMEMBERS").arg(keys.parked(name));
        });
        let mut sources = Vec::new();
        let parked = self.pooled(keys.partition(), &pipeline).await?;
        for (name, parked) in names.iter().zip(parked) {
            let parked = reply::array(parked)?.into_iter().map(reply::parsed);
            let mut parked: Vec<TaskName> = parked.collect::<Result<_, _>>()?;
            parked.sort();
            let lanes = Lane::ALL.into_iter().chain(parked.into_iter().map(Lane::Parked));
            sources.extend(lanes.map(|lane| lane_source(keys, name, lane)));
            let (place, key) = (Place::Grouped(None), keys.grouped(name));
            sources.push(Source { queue: name.clone(), place, length: 0, key });
        }
        Ok(sources)
    }

    async fn lane_window(
        &self,
        keys: &Keys,
        name: &str,
        start: usize,
    ) -> Result<Vec<JobId>, Error> {
        let mut pipeline = redis::pipe();
        ask_lane(&mut pipeline, name, start, STRIDE);
        read_ids(self.pooled(keys.partition(), &pipeline).await?.swap_remove(0))
    }
}

/// The order of lanes in the walk over a queue.
fn order(lane: &Lane) -> (usize, Option<&TaskName>) {
    let index = Lane::ALL.iter().position(|known| known == lane);
    match lane {
        Lane::Parked(task) => (Lane::ALL.len(), Some(task)),
        _ => (index.unwrap_or(0), None),
    }
}

fn lane_source(keys: &Keys, queue: &QueueName, lane: Lane) -> Source {
    let key = keys.ready(queue, &lane);
    Source { queue: queue.clone(), place: Place::Lane(LanePlace::start_of(lane)), length: 0, key }
}

fn set_source(
    keys: &Keys,
    queue: &QueueName,
    status: Status,
    group: Option<&ErrorGroupId>,
) -> Source {
    let (place, key) = (Place::first(status), set_of(keys, queue, status, group));
    Source { queue: queue.clone(), place, length: 0, key }
}

fn ask_set(pipeline: &mut redis::Pipeline, name: &str, top: u64, skip: usize, count: usize) {
    let top = if top == u64::MAX { "+inf".to_owned() } else { top.to_string() };
    pipeline.cmd("ZRANGE").arg(name).arg(top).arg("-inf").arg("BYSCORE").arg("REV");
    pipeline.arg("LIMIT").arg(skip).arg(count).arg("WITHSCORES");
}

/// Whether the members of a status' set are several ids each: those of `finished`.
const fn is_grouped(status: Status) -> bool {
    matches!(status, Status::Succeeded | Status::Canceled)
}

/// How many members to read for that many jobs. Of the last one of `finished` others of the same score may follow.
const fn members(status: Status, jobs: usize) -> usize {
    if is_grouped(status) { jobs + 1 } else { jobs }
}

/// Jobs of a sorted set from a score down, with their scores; those of one score in descending order.
struct SetWindow {
    jobs: Vec<(JobId, u64)>,
    /// Whether nothing follows.
    is_last: bool,
}

impl SetWindow {
    /// Reads a reply to a query for that many members. Where members are several ids, only scores of which all members
    /// were read are complete: the last one is left out unless nothing follows. If there is no other, returns it.
    fn read(reply: redis::Value, count: usize, status: Status) -> Result<Result<Self, u64>, Error> {
        let members = reply::array(reply)?;
        let is_last = members.len() < 2 * count;
        let mut jobs = Vec::new();
        for member in members.chunks_exact(2) {
            let (ids, score) = (reply::text(member[0].clone())?, reply::unsigned(&member[1])?);
            for id in ids.split(' ') {
                let id = id.parse().map_err(|_| Error::unreadable("not the id of a job"))?;
                jobs.push((id, score));
            }
        }
        jobs.sort_unstable_by_key(|&(id, score)| std::cmp::Reverse((score, id)));
        if let Some(&(_, lowest)) = jobs.last().filter(|_| is_grouped(status) && !is_last) {
            jobs.retain(|&(_, score)| score != lowest);
            if jobs.is_empty() {
                return Ok(Err(lowest));
            }
        }
        Ok(Ok(Self { jobs, is_last }))
    }

    fn after(mut self, place: SetPlace) -> Self {
        let is_after = |&(id, score): &(JobId, u64)| {
            score < place.score || place.below.is_none_or(|below| id < below)
        };
        self.jobs.retain(is_after);
        self
    }

    fn reading(self) -> Reading {
        let place = |(id, score)| (id, Place::Set(SetPlace { score, below: Some(id) }));
        let (ids, places): (Vec<_>, Vec<_>) = self.jobs.into_iter().map(place).unzip();
        let end = places.last().filter(|_| !self.is_last).cloned();
        Reading { ids, places, end }
    }
}

fn ask_lane(pipeline: &mut redis::Pipeline, name: &str, start: usize, count: usize) {
    pipeline.cmd("LRANGE").arg(name).arg(start).arg(start + count - 1);
}

fn ask_grouped(pipeline: &mut redis::Pipeline, name: &str, below: Option<JobId>, count: usize) {
    let top = below.map_or_else(|| "+".to_owned(), |id| format!("({id}"));
    pipeline.cmd("ZRANGE").arg(name).arg(top).arg("-").arg("BYLEX").arg("REV");
    pipeline.arg("LIMIT").arg(0).arg(count);
}

/// The reply to a query for that many jobs in groups.
fn grouped(ids: Vec<JobId>, count: usize) -> Reading {
    let places: Vec<_> = ids.iter().map(|&id| Place::Grouped(Some(id))).collect();
    let end = places.last().filter(|_| ids.len() == count).cloned();
    Reading { ids, places, end }
}

fn read_ids(reply: redis::Value) -> Result<Vec<JobId>, Error> {
    reply::array(reply)?.into_iter().map(reply::parsed).collect()
}

/// Returns the set that contains the jobs of a status; several statuses share one.
fn set_of(keys: &Keys, queue: &QueueName, status: Status, group: Option<&ErrorGroupId>) -> String {
    if let Some(group) = group {
        return keys.error_jobs(group);
    }
    match status {
        Status::Scheduled | Status::Retrying => keys.delayed(queue),
        Status::Queued | Status::Running => keys.running(queue),
        Status::Failed => keys.failed(queue),
        Status::Succeeded | Status::Canceled => keys.finished(queue),
    }
}
