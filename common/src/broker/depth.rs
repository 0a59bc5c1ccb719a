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
use crate::job::{JobId, Priority};
use crate::queue::QueueName;

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

    /// Adds the replies of [`ask_lane`].
    fn add_lane(&mut self, lane: &[Value], now_ms: u64) -> Result<(), Error> {
        self.queued += reply::unsigned(&lane[0])?;
        if let Ok(id) = reply::parsed::<JobId>(lane[1].clone()) {
            let age = Duration::from_millis(now_ms.saturating_sub(id.created_at().unix_ms()));
            self.oldest_age = self.oldest_age.max(Some(age));
        }
        Ok(())
    }

    /// Leaves out jobs that ended while they waited. A queue with nothing else has no oldest job; elsewhere such a job may
    /// be the oldest until a claim or a sweep drops it.
    fn leave_out_ghosts(&mut self, ghosts: u64) {
        self.queued = self.queued.saturating_sub(ghosts);
        self.oldest_age = self.oldest_age.filter(|_| self.queued > 0);
    }

    pub(crate) fn add(&mut self, part: &Self) {
        self.queued += part.queued;
        self.delayed += part.delayed;
        self.running += part.running;
        self.failed += part.failed;
        self.oldest_age = self.oldest_age.max(part.oldest_age);
    }
}

/// The depth of a queue, and whether it is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueDepth {
    /// How many of its jobs are in which state.
    pub depth: Depth,
    /// Whether none of its jobs are claimed.
    pub paused: bool,
}

impl QueueDepth {
    fn add(&mut self, part: &Self) {
        self.depth.add(&part.depth);
        self.paused |= part.paused;
    }
}

/// The lane of most jobs.
const NORMAL: Lane = Lane::Of(Priority::Normal);

fn other_lanes() -> impl Iterator<Item = &'static Lane> {
    Lane::ALL.iter().filter(|lane| **lane != NORMAL)
}

fn ask_lane(pipeline: &mut Pipeline, keys: &Keys, name: &QueueName, lane: &Lane) {
    pipeline.cmd("LLEN").arg(keys.ready(name, lane));
    pipeline.cmd("LINDEX").arg(keys.ready(name, lane)).arg(-1);
}

/// Asks whether any of some queues has this key.
fn ask_any(pipeline: &mut Pipeline, names: &[QueueName], key: impl Fn(&QueueName) -> String) {
    for names in names.chunks(QUEUES_A_QUESTION) {
        pipeline.cmd("EXISTS").arg(names.iter().map(&key).collect::<Vec<_>>());
    }
}

/// A queue, and what was read of it so far.
struct Reading<'a> {
    name: &'a QueueName,
    it: QueueDepth,
    /// Whether jobs may run: only then a sweep must visit it.
    may_run: bool,
    /// Whether it may have jobs outside its normal lane.
    may_have_side: bool,
    may_have_failed: bool,
    may_have_ghosts: bool,
    ghosts: u64,
}

/// Number of queues per round trip.
pub(crate) const QUEUES_A_TRIP: usize = 100;
/// Of this many queues one command finds out whether any of them has a set that few have.
const QUEUES_A_QUESTION: usize = 10;

impl Broker {
    /// Returns the depths of up to `max` queues of each partition that were used in the last hour or contain anything, by
    /// name: the most recently used ones.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn depths(&self, max: usize) -> Result<BTreeMap<QueueName, QueueDepth>, Error> {
        let mut depths: BTreeMap<QueueName, QueueDepth> = BTreeMap::new();
        for partition in self.partitions() {
            let keys = self.settings.keys(partition);
            let mut index = redis::pipe();
            index.cmd("ZRANGE").arg(keys.queues()).arg(0).arg(max - 1).arg("REV").cmd("TIME");
            let bytes = max as u64 * NAME_BYTES;
            let replies = self.pages.read(partition, &index, bytes, MinRate::ForCaller).await?;
            let [names, time] = reply::fields(Value::Array(replies))?;
            let now = reply::time_ms(time)?;
            let names = reply::array(names)?.into_iter().map(reply::parsed);
            let names: Vec<QueueName> = names.collect::<Result<_, _>>()?;
            for names in names.chunks(QUEUES_A_TRIP) {
                let parts = self.depths_of(keys, names, now).await?;
                for (name, part) in names.iter().zip(&parts) {
                    depths.entry(name.clone()).or_default().add(part);
                }
            }
        }
        Ok(depths)
    }

    /// Returns the depths of some queues in a partition, a hundred at most. One round trip, and one or two more for what
    /// only some queues have.
    ///
    /// A command costs Redis several times what its work does. So of each queue only what most queues have is read one by
    /// one, and few commands about all of them find those that have more.
    pub(crate) async fn depths_of(
        &self,
        keys: &Keys,
        names: &[QueueName],
        now_ms: u64,
    ) -> Result<Vec<QueueDepth>, Error> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut queues = self.read_normal_lanes(keys, names, now_ms).await?;
        let lanes = self.read_rare_sets(keys, &mut queues).await?;
        self.read_lanes(keys, &mut queues, &lanes, now_ms).await?;
        let all = queues.into_iter().map(|mut queue| {
            queue.it.depth.leave_out_ghosts(queue.ghosts);
            queue.it
        });
        Ok(all.collect())
    }

    /// The first round trip.
    async fn read_normal_lanes<'a>(
        &self,
        keys: &Keys,
        names: &'a [QueueName],
        now_ms: u64,
    ) -> Result<Vec<Reading<'a>>, Error> {
        let texts: Vec<_> = names.iter().map(QueueName::as_str).collect();
        let mut pipeline = redis::pipe();
        pipeline.cmd("SMISMEMBER").arg(keys.paused()).arg(&texts);
        pipeline.cmd("SMISMEMBER").arg(keys.side_queues()).arg(&texts);
        pipeline.cmd("ZMSCORE").arg(keys.due()).arg(&texts);
        ask_any(&mut pipeline, names, |name| keys.failed(name));
        ask_any(&mut pipeline, names, |name| keys.ghosts(name));
        names.iter().for_each(|name| ask_lane(&mut pipeline, keys, name, &NORMAL));
        let mut replies = self.pooled(keys.partition(), &pipeline).await?;
        let questions = names.len().div_ceil(QUEUES_A_QUESTION);
        let lanes = replies.split_off(3 + 2 * questions);
        let any = replies.split_off(3);
        let any = any.iter().map(|count| Ok(reply::integer(count)? > 0));
        let any = any.collect::<Result<Vec<_>, Error>>()?;
        let (failed, ghosts) = any.split_at(questions);
        let [paused, side, due] = reply::fields(Value::Array(replies))?;
        let (side, due) = (reply::array(side)?, reply::array(due)?);
        let mut queues = Vec::with_capacity(names.len());
        for (at, paused) in reply::array(paused)?.into_iter().enumerate() {
            let mut it =
                QueueDepth { paused: reply::integer(&paused)? == 1, ..QueueDepth::default() };
            it.depth.add_lane(&lanes[2 * at..2 * at + 2], now_ms)?;
            queues.push(Reading {
                name: &names[at],
                it,
                may_run: due[at] != Value::Nil,
                may_have_side: reply::integer(&side[at])? == 1,
                may_have_failed: failed[at / QUEUES_A_QUESTION],
                may_have_ghosts: ghosts[at / QUEUES_A_QUESTION],
                ghosts: 0,
            });
        }
        Ok(queues)
    }

    /// The second round trip, if any of the queues may have something else. Returns the further lanes that have jobs, each
    /// with the index of its queue.
    async fn read_rare_sets(
        &self,
        keys: &Keys,
        queues: &mut [Reading<'_>],
    ) -> Result<Vec<(usize, Lane)>, Error> {
        let mut pipeline = redis::pipe();
        for queue in &*queues {
            let name = queue.name;
            if queue.may_have_failed {
                pipeline.cmd("ZCARD").arg(keys.failed(name));
            }
            if queue.may_have_ghosts {
                pipeline.cmd("SCARD").arg(keys.ghosts(name));
            }
            if queue.may_run {
                pipeline.cmd("ZCARD").arg(keys.running(name));
            }
            if queue.may_have_side {
                pipeline.cmd("ZCARD").arg(keys.delayed(name));
                for lane in other_lanes() {
                    pipeline.cmd("EXISTS").arg(keys.ready(name, lane));
                }
                pipeline.cmd("SMEMBERS").arg(keys.parked(name));
            }
        }
        let mut replies = self.pooled(keys.partition(), &pipeline).await?.into_iter();
        let mut next = || replies.next().ok_or_else(|| Error::unreadable("too few replies"));
        let mut lanes = Vec::new();
        for (at, queue) in queues.iter_mut().enumerate() {
            if queue.may_have_failed {
                queue.it.depth.failed = reply::unsigned(&next()?)?;
            }
            if queue.may_have_ghosts {
                queue.ghosts = reply::unsigned(&next()?)?;
            }
            if queue.may_run {
                queue.it.depth.running = reply::unsigned(&next()?)?;
            }
            if queue.may_have_side {
                queue.it.depth.delayed = reply::unsigned(&next()?)?;
                for lane in other_lanes() {
                    if reply::integer(&next()?)? > 0 {
                        lanes.push((at, lane.clone()));
                    }
                }
                for task in reply::array(next()?)? {
                    lanes.push((at, Lane::Parked(reply::parsed(task)?)));
                }
            }
        }
        Ok(lanes)
    }

    /// The third round trip, if there are further lanes.
    async fn read_lanes(
        &self,
        keys: &Keys,
        queues: &mut [Reading<'_>],
        lanes: &[(usize, Lane)],
        now_ms: u64,
    ) -> Result<(), Error> {
        let mut pipeline = redis::pipe();
        lanes.iter().for_each(|(at, lane)| ask_lane(&mut pipeline, keys, queues[*at].name, lane));
        let replies = self.pooled(keys.partition(), &pipeline).await?;
        let mut lanes = lanes.iter().zip(replies.chunks_exact(2));
        lanes.try_for_each(|((at, _), lane)| queues[*at].it.depth.add_lane(lane, now_ms))
    }
}
