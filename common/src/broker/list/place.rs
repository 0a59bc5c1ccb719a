//! Reading the ids at places of the walk: a stretch of a sorted set, or of a ready list.

use super::cursor::{Cursor, LanePlace, Place, SetPlace};
use crate::broker::error::Error;
use crate::broker::keys::Lane;
use crate::broker::{Broker, Keys, reply};
use crate::job::{JobId, Status};
use crate::queue::QueueName;
use crate::task::TaskName;

/// Ids read from one place at once, at most.
pub(super) const STRIDE: usize = 100;
/// How far behind its old place a cursor's job is searched in a ready list.
const SEARCHED: usize = 10_000;

/// Ids read at a place, and where to go on.
#[derive(Default)]
pub(super) struct Reading {
    pub(super) ids: Vec<JobId>,
    /// The place behind each id, in case the page ends there.
    pub(super) places: Vec<Place>,
    /// The place behind all of them; `None` at the end of the queue.
    pub(super) end: Option<Place>,
}

impl Reading {
    /// The place behind so many of its ids; `None` behind the last of them.
    pub(super) fn behind(&self, taken: usize) -> Option<Place> {
        if taken < self.ids.len() { self.places.get(taken - 1).cloned() } else { None }
    }

    /// As much of it as a step reads.
    fn cut_to(mut self, window: usize) -> Self {
        if self.ids.len() > window {
            self.ids.truncate(window);
            self.places.truncate(window);
            self.end = self.places.last().cloned();
        }
        self
    }
}

/// The beginning of a set or lane that holds jobs.
pub(super) struct Spot {
    pub(super) queue: QueueName,
    pub(super) place: Place,
    pub(super) length: usize,
    key: String,
}

impl Broker {
    /// Where those queues hold jobs of the status that is walked, in their order. One round trip, or two for ready jobs.
    pub(super) async fn spots(
        &self,
        here: &Cursor,
        names: &[QueueName],
    ) -> Result<Vec<Spot>, Error> {
        let keys = self.settings.keys(here.partition);
        let mut spots: Vec<_> = match here.status {
            Status::Queued => self.lanes_of(&keys, names).await?,
            status => names.iter().map(|name| spot_of_set(&keys, name, status)).collect(),
        };
        let mut ask = redis::pipe();
        for spot in &spots {
            let lane = matches!(spot.place, Place::Lane(_));
            ask.cmd(if lane { "LLEN" } else { "ZCARD" }).arg(&spot.key);
        }
        for (spot, length) in spots.iter_mut().zip(self.pooled(&ask).await?) {
            spot.length = usize::try_from(reply::unsigned(&length)?).unwrap_or(usize::MAX);
        }
        spots.retain(|spot| spot.length > 0);
        Ok(spots)
    }

    /// Reads up to `window` ids from the beginning of each of those spots. One round trip.
    pub(super) async fn read_spots(
        &self,
        spots: &[Spot],
        window: usize,
    ) -> Result<Vec<Reading>, Error> {
        let mut ask = redis::pipe();
        for spot in spots {
            match &spot.place {
                Place::Set(place) => ask_set(&mut ask, &spot.key, place.score, 0, window),
                Place::Lane(_) => ask_lane(&mut ask, &spot.key, 0, window),
            }
        }
        let replies = self.pooled(&ask).await?;
        let read = |(spot, reply): (&Spot, redis::Value)| {
            let places: Vec<(JobId, Place)> = match &spot.place {
                Place::Set(_) => read_set_reply(reply)?
                    .into_iter()
                    .map(|(id, score)| (id, Place::Set(SetPlace { score, below: Some(id) })))
                    .collect(),
                Place::Lane(place) => read_lane_reply(reply)?
                    .into_iter()
                    .enumerate()
                    .map(|(index, id)| {
                        (id, Place::Lane(LanePlace { index, behind: Some(id), ..place.clone() }))
                    })
                    .collect(),
            };
            let (ids, places): (Vec<_>, Vec<_>) = places.into_iter().unzip();
            let end = places.last().filter(|_| ids.len() == window).cloned();
            Ok(Reading { ids, places, end })
        };
        spots.iter().zip(replies).map(read).collect()
    }

    /// Reads up to `window` ids from a place inside a queue.
    pub(super) async fn read_place(
        &self,
        here: &Cursor,
        queue: &QueueName,
        window: usize,
    ) -> Result<Reading, Error> {
        let keys = self.settings.keys(here.partition);
        let reading = match &here.place {
            Place::Set(place) => self.read_set(&set_of(&keys, queue, here.status), *place).await,
            Place::Lane(place) => self.read_lane(&keys, queue, place).await,
        };
        Ok(reading?.cut_to(window))
    }

    /// Reads a sorted set from its highest score down; ids of one score in falling order.
    async fn read_set(&self, name: &str, from: SetPlace) -> Result<Reading, Error> {
        let mut skip = 0;
        // Many jobs may share one score: those at or above the cursor's id were seen before.
        loop {
            let window = self.set_window(name, from.score, skip).await?;
            let full = window.len() == STRIDE;
            let new = |(id, score): &(JobId, u64)| {
                *score < from.score || from.below.is_none_or(|below| *id < below)
            };
            let seen = window.into_iter().filter(new);
            let (ids, places): (Vec<_>, Vec<_>) = seen
                .map(|(id, score)| (id, Place::Set(SetPlace { score, below: Some(id) })))
                .unzip();
            if !full || !ids.is_empty() {
                let end = places.last().filter(|_| full).cloned();
                return Ok(Reading { ids, places, end });
            }
            skip += STRIDE;
        }
    }

    async fn set_window(
        &self,
        name: &str,
        top: u64,
        skip: usize,
    ) -> Result<Vec<(JobId, u64)>, Error> {
        let mut ask = redis::pipe();
        ask_set(&mut ask, name, top, skip, STRIDE);
        read_set_reply(self.pooled(&ask).await?.swap_remove(0))
    }

    /// Reads a ready list from its newest end. The cursor's job may have been pushed along by newer
    /// ones, so it is searched from where it stood; if it is gone it was claimed, and everything
    /// older with it.
    async fn read_lane(
        &self,
        keys: &Keys,
        queue: &QueueName,
        from: &LanePlace,
    ) -> Result<Reading, Error> {
        let name = keys.ready(queue, &from.lane);
        for start in (from.index..from.index + SEARCHED).step_by(STRIDE) {
            let ids = self.lane_window(&name, start).await?;
            let full = ids.len() == STRIDE;
            let first = match from.behind {
                None => Some(0),
                Some(behind) => ids.iter().position(|&id| id == behind).map(|at| at + 1),
            };
            if let Some(first) = first {
                let place = |(at, &id): (usize, &JobId)| {
                    Place::Lane(LanePlace { index: start + at, behind: Some(id), ..from.clone() })
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

    /// The beginning of the lane behind that one, in the order of the walk.
    async fn next_lane(
        &self,
        keys: &Keys,
        queue: &QueueName,
        lane: &Lane,
    ) -> Result<Option<Place>, Error> {
        let lanes = self.lanes_of(keys, std::slice::from_ref(queue)).await?;
        let behind = |spot: &Spot| match &spot.place {
            Place::Lane(place) => order(&place.lane) > order(lane),
            Place::Set(_) => false,
        };
        Ok(lanes.into_iter().find(behind).map(|spot| spot.place))
    }

    /// All lanes of those queues, whether or not they hold anything. One round trip.
    async fn lanes_of(&self, keys: &Keys, names: &[QueueName]) -> Result<Vec<Spot>, Error> {
        let mut ask = redis::pipe();
        names.iter().for_each(|name| {
            ask.cmd("SMEMBERS").arg(keys.parked(name));
        });
        let mut spots = Vec::new();
        for (name, parked) in names.iter().zip(self.pooled(&ask).await?) {
            let parked = reply::array(parked)?.into_iter().map(reply::parsed);
            let mut parked: Vec<TaskName> = parked.collect::<Result<_, _>>()?;
            parked.sort();
            let lanes = Lane::ALL.into_iter().chain(parked.into_iter().map(Lane::Parked));
            spots.extend(lanes.map(|lane| spot_of_lane(keys, name, lane)));
        }
        Ok(spots)
    }

    async fn lane_window(&self, name: &str, start: usize) -> Result<Vec<JobId>, Error> {
        let mut ask = redis::pipe();
        ask_lane(&mut ask, name, start, STRIDE);
        read_lane_reply(self.pooled(&ask).await?.swap_remove(0))
    }
}

/// Where a lane stands in the walk through a queue.
fn order(lane: &Lane) -> (usize, Option<&TaskName>) {
    let at = Lane::ALL.iter().position(|known| known == lane);
    match lane {
        Lane::Parked(task) => (Lane::ALL.len(), Some(task)),
        _ => (at.unwrap_or(0), None),
    }
}

fn spot_of_lane(keys: &Keys, queue: &QueueName, lane: Lane) -> Spot {
    let key = keys.ready(queue, &lane);
    Spot { queue: queue.clone(), place: Place::Lane(LanePlace::start_of(lane)), length: 0, key }
}

fn spot_of_set(keys: &Keys, queue: &QueueName, status: Status) -> Spot {
    let (place, key) = (Place::first(status), set_of(keys, queue, status));
    Spot { queue: queue.clone(), place, length: 0, key }
}

fn ask_set(ask: &mut redis::Pipeline, name: &str, top: u64, skip: usize, count: usize) {
    let top = if top == u64::MAX { "+inf".to_owned() } else { top.to_string() };
    ask.cmd("ZRANGE").arg(name).arg(top).arg("-inf").arg("BYSCORE").arg("REV");
    ask.arg("LIMIT").arg(skip).arg(count).arg("WITHSCORES");
}

fn read_set_reply(reply: redis::Value) -> Result<Vec<(JobId, u64)>, Error> {
    let pair =
        |pair: &[redis::Value]| Ok((reply::parsed(pair[0].clone())?, reply::unsigned(&pair[1])?));
    reply::array(reply)?.chunks_exact(2).map(pair).collect()
}

fn ask_lane(ask: &mut redis::Pipeline, name: &str, start: usize, count: usize) {
    ask.cmd("LRANGE").arg(name).arg(start).arg(start + count - 1);
}

fn read_lane_reply(reply: redis::Value) -> Result<Vec<JobId>, Error> {
    reply::array(reply)?.into_iter().map(reply::parsed).collect()
}

/// The set in which jobs of a status stand; several statuses share one.
fn set_of(keys: &Keys, queue: &QueueName, status: Status) -> String {
    match status {
        Status::Scheduled | Status::Retrying => keys.delayed(queue),
        Status::Queued | Status::Running => keys.running(queue),
        Status::Failed => keys.failed(queue),
        Status::Succeeded | Status::Canceled => keys.finished(queue),
    }
}
