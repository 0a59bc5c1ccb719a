//! How many jobs of the queues are in which state: cheap enough to query every few seconds, whatever the queues
//! contain.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::{Pipeline, Value};

use super::error::Error;
use super::keys::{Keys, Lane};
use super::names::NAME_BYTES;
use super::transfer::MinRate;
use super::{Broker, reply};
use crate::job::JobId;
use crate::queue::QueueName;
use crate::task::TaskName;

/// How many jobs of a queue are in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Jobs that could be claimed now.
    pub queued: u64,
    /// Jobs that wait for their due time or their next attempt.
    pub delayed: u64,
    /// Jobs that are running.
    pub running: u64,
    /// Failed jobs (dead letters).
    pub failed: u64,
    /// Age of the oldest job that could be claimed now.
    pub oldest_age: Option<Duration>,
}

impl Depth {
    /// Whether any job waits or runs.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.queued + self.delayed + self.running > 0
    }

    /// Number of replies to [`Depth::ask`].
    pub(crate) const REPLIES: usize = 2 * Lane::ALL.len() + 5;

    /// Adds the commands for one queue of a partition.
    pub(crate) fn ask(pipeline: &mut Pipeline, keys: &Keys, name: &QueueName) {
        Lane::ALL.iter().for_each(|lane| ask_lane(pipeline, keys, name, lane));
        pipeline.cmd("SCARD").arg(keys.ghosts(name)).cmd("ZCARD").arg(keys.delayed(name));
        pipeline.cmd("ZCARD").arg(keys.running(name)).cmd("ZCARD").arg(keys.failed(name));
        pipeline.cmd("SMEMBERS").arg(keys.parked(name));
    }

    /// Parses these replies, and those about the lanes of parked jobs.
    fn read(replies: &[Value], parked: &[Value], now_ms: u64) -> Result<Self, Error> {
        let (lanes, sets) = replies.split_at(2 * Lane::ALL.len());
        let mut depth = Self {
            delayed: reply::unsigned(&sets[1])?,
            running: reply::unsigned(&sets[2])?,
            failed: reply::unsigned(&sets[3])?,
            ..Self::default()
        };
        let mut lanes = lanes.chunks_exact(2).chain(parked.chunks_exact(2));
        lanes.try_for_each(|lane| depth.add_lane(lane, now_ms))?;
        depth.queued = depth.queued.saturating_sub(reply::unsigned(&sets[0])?);
        Ok(depth)
    }

    /// Adds the replies of [`ask_lane`].
    fn add_lane(&mut self, lane: &[Value], now_ms: u64) -> Result<(), Error> {
        self.queued += reply::unsigned(&lane[0])?;
        if let Ok(id) = reply::parsed::<JobId>(lane[1].clone()) {
            let age = Duration::from_millis(now_ms.saturating_sub(id.created_at().unix_ms()));
            self.oldest_age = self.oldest_age.max(Some(age));
        }
        Ok(())
    }

    pub(crate) fn add(&mut self, part: &Self) {
        self.queued += part.queued;
        self.delayed += part.delayed;
        self.running += part.running;
        self.failed += part.failed;
        self.oldest_age = self.oldest_age.max(part.oldest_age);
    }
}

/// The tasks whose jobs are parked: the last reply to [`Depth::ask`].
fn parked(replies: &[Value]) -> Result<Vec<TaskName>, Error> {
    reply::array(replies[Depth::REPLIES - 1].clone())?.into_iter().map(reply::parsed).collect()
}

fn ask_lane(pipeline: &mut Pipeline, keys: &Keys, name: &QueueName, lane: &Lane) {
    pipeline.cmd("LLEN").arg(keys.ready(name, lane));
    pipeline.cmd("LINDEX").arg(keys.ready(name, lane)).arg(-1);
}

/// Number of queues per round trip.
pub(crate) const QUEUES_A_TRIP: usize = 100;

impl Broker {
    /// Returns the depths of up to `max` queues that were used in the last hour or contain anything, by name.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn depths(&self, max: usize) -> Result<BTreeMap<QueueName, Depth>, Error> {
        let mut depths: BTreeMap<QueueName, Depth> = BTreeMap::new();
        for partition in self.partitions() {
            let keys = self.settings.keys(partition);
            let mut index = redis::pipe();
            // The most recently used queues are the relevant ones.
            index.cmd("ZRANGE").arg(keys.queues()).arg(0).arg(max - 1).arg("REV").cmd("TIME");
            let bytes = max as u64 * NAME_BYTES;
            let replies = self.pages.read(partition, &index, bytes, MinRate::ForCaller).await?;
            let [names, time] = reply::fields(Value::Array(replies))?;
            let now = reply::time_ms(time)?;
            let names = reply::array(names)?.into_iter().map(reply::parsed);
            let names: Vec<QueueName> = names.collect::<Result<_, _>>()?;
            for names in names.chunks(QUEUES_A_TRIP) {
                let mut pipeline = redis::pipe();
                names.iter().for_each(|name| Depth::ask(&mut pipeline, keys, name));
                let replies = self.pooled(partition, &pipeline).await?;
                for (name, replies) in names.iter().zip(replies.chunks_exact(Depth::REPLIES)) {
                    let part = self.depth(keys, name, replies, now).await?;
                    depths.entry(name.clone()).or_default().add(&part);
                }
            }
        }
        Ok(depths)
    }

    /// Parses the replies to [`Depth::ask`]. Parked jobs, which few queues have, are counted in another round trip.
    pub(crate) async fn depth(
        &self,
        keys: &Keys,
        name: &QueueName,
        replies: &[Value],
        now_ms: u64,
    ) -> Result<Depth, Error> {
        let mut pipeline = redis::pipe();
        for task in parked(replies)? {
            ask_lane(&mut pipeline, keys, name, &Lane::Parked(task));
        }
        let parked = self.pooled(keys.partition(), &pipeline).await?;
        Depth::read(replies, &parked, now_ms)
    }
}
