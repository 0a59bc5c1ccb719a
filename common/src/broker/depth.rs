//! How many jobs of the queues are in which state: cheap enough to query every few seconds, whatever the queues
//! contain.

mod marks;

use std::collections::BTreeMap;
use std::time::Duration;

use redis::{Pipeline, Value};

use self::marks::{Listed, Marks, QUEUES_A_QUESTION, ask_any};
use super::error::Error;
use super::keys::{Keys, Lane};
use super::names::NAME_BYTES;
use super::queue_limit::{QueueLimit, WHOLE};
use super::transfer::MinRate;
use super::{Broker, reply};
use crate::job::{JobId, Priority};
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

/// The parked jobs of a task in a queue: only workers with the task claim them. Jobs that ended while they were parked may
/// be counted until a sweep drops them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Parked {
    /// How many there are.
    pub jobs: u64,
    /// Age of the oldest one.
    pub oldest_age: Option<Duration>,
}

/// How many groups of a queue have jobs that wait, by what they wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupCounts {
    /// They take turns.
    pub runnable: u64,
    /// Their rate allows the next start later.
    pub delayed: u64,
    /// As many of their jobs run as may.
    pub blocked: u64,
}

/// The depth of a queue, and whether it is paused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueDepth {
    /// How many of its jobs are in which state.
    pub depth: Depth,
    /// Whether none of its jobs are claimed.
    pub paused: bool,
    /// Those of its queued jobs that are parked, by task.
    pub parked: BTreeMap<TaskName, Parked>,
    /// Its groups with jobs that wait, if there are any.
    pub groups: Option<GroupCounts>,
    /// How many of its jobs may run, if its limit says so.
    pub concurrency: Option<u32>,
}

impl QueueDepth {
    fn add(&mut self, part: &Self) {
        self.depth.add(&part.depth);
        self.paused |= part.paused;
        add_parked(&mut self.parked, &part.parked);
        // Those of a queue are in one partition.
        self.groups = self.groups.or(part.groups);
        self.concurrency = self.concurrency.or(part.concurrency);
    }
}

/// Adds the parked jobs of a queue in one partition to those in others.
pub(crate) fn add_parked(sum: &mut BTreeMap<TaskName, Parked>, part: &BTreeMap<TaskName, Parked>) {
    for (task, part) in part {
        let sum = sum.entry(task.clone()).or_default();
        sum.jobs += part.jobs;
        sum.oldest_age = sum.oldest_age.max(part.oldest_age);
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

/// A queue, and what was read of it so far.
struct Reading<'a> {
    name: &'a QueueName,
    it: QueueDepth,
    has: Marks,
    ghosts: u64,
}

/// What only some queues may have, by the indexes of the queues.
#[derive(Default)]
struct Rare {
    /// Further lanes that may have jobs.
    lanes: Vec<(usize, Lane)>,
    /// Queues that may have jobs in groups.
    grouped: Vec<usize>,
    /// Queues that may have a limit.
    limited: Vec<usize>,
}

/// Number of queues per round trip.
pub(crate) const QUEUES_A_TRIP: usize = 100;

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
            Listed::ask_sizes(&mut index, keys);
            let bytes = max as u64 * NAME_BYTES;
            let mut replies = self.pages.read(partition, &index, bytes, MinRate::ForCaller).await?;
            let listed = self.listed_queues(keys, &replies.split_off(2)).await?;
            let [names, time] = reply::fields(Value::Array(replies))?;
            let now = reply::time_ms(time)?;
            let names = reply::array(names)?.into_iter().map(reply::parsed);
            let names: Vec<QueueName> = names.collect::<Result<_, _>>()?;
            let parts = Box::pin(self.depths_of(keys, &names, now, listed.as_ref())).await?;
            for (name, part) in names.into_iter().zip(&parts) {
                depths.entry(name).or_default().add(part);
            }
        }
        Ok(depths)
    }

    /// Returns the depths of some queues in a partition. A round trip for each hundred, and a few more for what only some
    /// queues have.
    ///
    /// A command costs Redis several times what its work does, and a key that does not exist as much as a command. So of
    /// each queue only what most queues have is read one by one, and few commands about all of them find those that have
    /// more.
    pub(crate) async fn depths_of(
        &self,
        keys: &Keys,
        names: &[QueueName],
        now_ms: u64,
        listed: Option<&Listed>,
    ) -> Result<Vec<QueueDepth>, Error> {
        let mut queues = Vec::with_capacity(names.len());
        for names in names.chunks(QUEUES_A_TRIP) {
            queues.extend(self.read_normal_lanes(keys, names, now_ms, listed).await?);
        }
        let Rare { lanes, grouped, limited } = self.read_rare_sets(keys, &mut queues).await?;
        self.add_grouped(keys, &mut queues, &grouped, now_ms).await?;
        self.add_limits(keys, &mut queues, &limited).await?;
        self.read_lanes(keys, &mut queues, &lanes, now_ms).await?;
        let all = queues.into_iter().map(|mut queue| {
            queue.it.depth.leave_out_ghosts(queue.ghosts);
            let is_empty = queue.it.depth.queued == 0;
            queue.it.parked.retain(|_, parked| parked.jobs > 0 && !is_empty);
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
        listed: Option<&Listed>,
    ) -> Result<Vec<Reading<'a>>, Error> {
        let mut pipeline = redis::pipe();
        names.iter().for_each(|name| ask_lane(&mut pipeline, keys, name, &NORMAL));
        if listed.is_none() {
            Marks::ask(&mut pipeline, keys, names);
        }
        let mut replies = self.pooled(keys.partition(), &pipeline).await?;
        let further = replies.split_off(2 * names.len());
        let marks = match listed {
            Some(listed) => names.iter().map(|name| listed.marks(name)).collect(),
            None => Marks::read(further, names.len())?,
        };
        let mut queues = Vec::with_capacity(names.len());
        for ((name, has), lane) in names.iter().zip(marks).zip(replies.chunks_exact(2)) {
            let mut it = QueueDepth { paused: has.paused, ..QueueDepth::default() };
            it.depth.add_lane(lane, now_ms)?;
            queues.push(Reading { name, it, has, ghosts: 0 });
        }
        Ok(queues)
    }

    /// The second round trip, for queues that may have something else.
    async fn read_rare_sets(&self, keys: &Keys, queues: &mut [Reading<'_>]) -> Result<Rare, Error> {
        let (mut found, mut parked) = (Rare::default(), Vec::new());
        let rare = queues.iter_mut().enumerate().filter(|(_, queue)| queue.has.anything());
        for queues in rare.collect::<Vec<_>>().chunks_mut(QUEUES_A_TRIP) {
            let mut pipeline = redis::pipe();
            queues.iter().for_each(|(_, queue)| ask_sets(&mut pipeline, keys, queue));
            let side: Vec<_> = queues.iter().filter(|(_, queue)| queue.has.side).collect();
            let side: Vec<_> = side.into_iter().map(|(at, queue)| (*at, queue.name)).collect();
            for groups in side.chunks(QUEUES_A_QUESTION) {
                for lane in other_lanes() {
                    ask_any(&mut pipeline, groups.iter().map(|(_, name)| keys.ready(name, lane)));
                }
                ask_any(&mut pipeline, groups.iter().map(|(_, name)| keys.parked(name)));
                ask_any(&mut pipeline, groups.iter().map(|(_, name)| keys.grouped(name)));
                ask_any(&mut pipeline, groups.iter().map(|(_, name)| keys.rules(name)));
            }
            let mut replies = self.pooled(keys.partition(), &pipeline).await?.into_iter();
            queues.iter_mut().try_for_each(|(_, queue)| queue.add_sets(&mut replies))?;
            for group in side.chunks(QUEUES_A_QUESTION) {
                for lane in other_lanes() {
                    if any(replies.next())? {
                        found.lanes.extend(group.iter().map(|(at, _)| (*at, lane.clone())));
                    }
                }
                if any(replies.next())? {
                    parked.extend_from_slice(group);
                }
                if any(replies.next())? {
                    found.grouped.extend(group.iter().map(|(at, _)| *at));
                }
                if any(replies.next())? {
                    found.limited.extend(group.iter().map(|(at, _)| *at));
                }
            }
        }
        found.lanes.extend(self.read_parked(keys, &parked).await?);
        Ok(found)
    }

    /// Adds what the limits of queues say.
    async fn add_limits(
        &self,
        keys: &Keys,
        queues: &mut [Reading<'_>],
        limited: &[usize],
    ) -> Result<(), Error> {
        for limited in limited.chunks(QUEUES_A_TRIP) {
            let mut pipeline = redis::pipe();
            for &at in limited {
                pipeline.cmd("HGET").arg(keys.rules(queues[at].name)).arg(WHOLE);
            }
            let rules = self.pooled(keys.partition(), &pipeline).await?;
            for (&at, rule) in limited.iter().zip(rules) {
                let limit = reply::text(rule).ok().and_then(|text| QueueLimit::read(&text));
                queues[at].it.concurrency = limit.and_then(|limit| limit.own.concurrency);
            }
        }
        Ok(())
    }

    /// Adds the jobs that wait in groups.
    async fn add_grouped(
        &self,
        keys: &Keys,
        queues: &mut [Reading<'_>],
        grouped: &[usize],
        now_ms: u64,
    ) -> Result<(), Error> {
        for grouped in grouped.chunks(QUEUES_A_TRIP) {
            let mut pipeline = redis::pipe();
            for &at in grouped {
                let name = queues[at].name;
                let key = keys.grouped(name);
                pipeline.cmd("ZCARD").arg(&key).cmd("ZRANGE").arg(&key).arg(0).arg(0);
                let states =
                    [keys.runnable(name), keys.delayed_groups(name), keys.blocked_groups(name)];
                for key in states {
                    pipeline.cmd("ZCARD").arg(key);
                }
            }
            let replies = self.pooled(keys.partition(), &pipeline).await?;
            for (&at, replies) in grouped.iter().zip(replies.chunks_exact(5)) {
                let counts = GroupCounts {
                    runnable: reply::unsigned(&replies[2])?,
                    delayed: reply::unsigned(&replies[3])?,
                    blocked: reply::unsigned(&replies[4])?,
                };
                queues[at].it.groups = Some(counts).filter(|it| *it != GroupCounts::default());
                let oldest = reply::array(replies[1].clone())?.pop().unwrap_or(Value::Nil);
                queues[at].it.depth.add_lane(&[replies[0].clone(), oldest], now_ms)?;
            }
        }
        Ok(())
    }

    /// Returns the lanes of parked jobs.
    async fn read_parked(
        &self,
        keys: &Keys,
        queues: &[(usize, &QueueName)],
    ) -> Result<Vec<(usize, Lane)>, Error> {
        let mut lanes = Vec::new();
        for queues in queues.chunks(QUEUES_A_TRIP) {
            let mut pipeline = redis::pipe();
            for (_, name) in queues {
                pipeline.cmd("SMEMBERS").arg(keys.parked(name));
            }
            let replies = self.pooled(keys.partition(), &pipeline).await?;
            for ((at, _), tasks) in queues.iter().zip(replies) {
                for task in reply::array(tasks)? {
                    lanes.push((*at, Lane::Parked(reply::parsed(task)?)));
                }
            }
        }
        Ok(lanes)
    }

    /// The last round trip, if there are further lanes.
    async fn read_lanes(
        &self,
        keys: &Keys,
        queues: &mut [Reading<'_>],
        lanes: &[(usize, Lane)],
        now_ms: u64,
    ) -> Result<(), Error> {
        for lanes in lanes.chunks(QUEUES_A_TRIP) {
            let mut pipeline = redis::pipe();
            for (at, lane) in lanes {
                ask_lane(&mut pipeline, keys, queues[*at].name, lane);
            }
            let replies = self.pooled(keys.partition(), &pipeline).await?;
            for ((at, lane), replies) in lanes.iter().zip(replies.chunks_exact(2)) {
                let mut depth = Depth::default();
                depth.add_lane(replies, now_ms)?;
                let it = &mut queues[*at].it;
                it.depth.add(&depth);
                if let Lane::Parked(task) = lane {
                    let parked = Parked { jobs: depth.queued, oldest_age: depth.oldest_age };
                    it.parked.insert(task.clone(), parked);
                }
            }
        }
        Ok(())
    }
}

/// Asks how many jobs are in the sets that a queue may have.
fn ask_sets(pipeline: &mut Pipeline, keys: &Keys, queue: &Reading<'_>) {
    if queue.has.failed {
        pipeline.cmd("ZCARD").arg(keys.failed(queue.name));
    }
    if queue.has.ghosts {
        pipeline.cmd("SCARD").arg(keys.ghosts(queue.name));
    }
    if queue.has.due {
        pipeline.cmd("ZCARD").arg(keys.running(queue.name));
    }
    if queue.has.side {
        pipeline.cmd("ZCARD").arg(keys.delayed(queue.name));
    }
}

impl Reading<'_> {
    /// Adds the replies of [`ask_sets`].
    fn add_sets(&mut self, replies: &mut impl Iterator<Item = Value>) -> Result<(), Error> {
        let mut next = |asked| if asked { count(replies.next()) } else { Ok(0) };
        let Marks { failed, ghosts, due, side, .. } = self.has;
        self.it.depth.failed = next(failed)?;
        self.ghosts = next(ghosts)?;
        self.it.depth.running = next(due)?;
        self.it.depth.delayed = next(side)?;
        Ok(())
    }
}

fn count(reply: Option<Value>) -> Result<u64, Error> {
    reply::unsigned(&reply.ok_or_else(|| Error::unreadable("too few replies"))?)
}

fn any(reply: Option<Value>) -> Result<bool, Error> {
    Ok(count(reply)? > 0)
}
