//! Reading the ids at one place of the walk: a stretch of a sorted set, or of a ready list.

use super::cursor::{Cursor, LanePlace, Place, SetPlace};
use crate::broker::error::Error;
use crate::broker::keys::Lane;
use crate::broker::{Broker, Keys, reply};
use crate::job::{JobId, Status};
use crate::queue::QueueName;

/// Ids read from one place at once.
const STRIDE: usize = 100;
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

impl Broker {
    pub(super) async fn read_place(
        &self,
        here: &Cursor,
        queue: &QueueName,
    ) -> Result<Reading, Error> {
        let keys = self.settings.keys(here.partition);
        match &here.place {
            Place::Set(place) => self.read_set(&set_of(&keys, queue, here.status), *place).await,
            Place::Lane(place) => {
                self.read_lane(&keys.ready(queue, Lane::ALL[place.lane]), *place).await
            }
        }
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
        let top = if top == u64::MAX { "+inf".to_owned() } else { top.to_string() };
        let mut ask = redis::pipe();
        ask.cmd("ZRANGE").arg(name).arg(top).arg("-inf").arg("BYSCORE").arg("REV");
        ask.arg("LIMIT").arg(skip).arg(STRIDE).arg("WITHSCORES");
        let values = reply::array(self.pooled(&ask).await?.swap_remove(0))?;
        let pair = |pair: &[redis::Value]| {
            Ok((reply::parsed(pair[0].clone())?, reply::unsigned(&pair[1])?))
        };
        values.chunks_exact(2).map(pair).collect()
    }

    /// Reads a ready list from its newest end. The cursor's job may have been pushed along by newer
    /// ones, so it is searched from where it stood; if it is gone it was claimed, and everything
    /// older with it.
    async fn read_lane(&self, name: &str, from: LanePlace) -> Result<Reading, Error> {
        let next_lane = from.next_lane().map(Place::Lane);
        for start in (from.index..from.index + SEARCHED).step_by(STRIDE) {
            let ids = self.lane_window(name, start).await?;
            let full = ids.len() == STRIDE;
            let first = match from.behind {
                None => Some(0),
                Some(behind) => ids.iter().position(|&id| id == behind).map(|at| at + 1),
            };
            if let Some(first) = first {
                let place = |(at, &id): (usize, &JobId)| {
                    Place::Lane(LanePlace { index: start + at, behind: Some(id), ..from })
                };
                let places: Vec<_> = ids.iter().enumerate().map(place).collect();
                let end = if full { places.last().cloned() } else { next_lane };
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
        Ok(Reading { end: next_lane, ..Reading::default() })
    }

    async fn lane_window(&self, name: &str, start: usize) -> Result<Vec<JobId>, Error> {
        let mut ask = redis::pipe();
        ask.cmd("LRANGE").arg(name).arg(start).arg(start + STRIDE - 1);
        let values = reply::array(self.pooled(&ask).await?.swap_remove(0))?;
        values.into_iter().map(reply::parsed).collect()
    }
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
