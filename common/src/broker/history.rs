//! The history for operators: how attempts ended and how deep queues were, in each minute and each hour. `lua/history.lua`
//! writes it: workers count, and their heartbeats carry the counts; an API samples the depths of queues once a minute.
//!
//! It is a picture, not an account: a worker that is killed takes the counts since its last heartbeat with it, and an
//! attempt counts when a heartbeat carries it, a few seconds after its end. Only the first partition has it.

mod counts;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use redis::{Cmd, Value};

pub use counts::{AttemptCounts, Durations, Ended};

use super::connection::Call;
use super::depth::Depth;
use super::error::Error;
use super::functions::Function;
use super::transfer::MinRate;
use super::unit::Unit;
use super::{Broker, reply};
use crate::job::Partition;
use crate::queue::QueueName;
use crate::task::TaskName;
use crate::time::whole_ms;

/// How attempts of a worker ended, by queue and task.
pub type CountsByQueue = BTreeMap<QueueName, BTreeMap<TaskName, AttemptCounts>>;

/// What a heartbeat adds to the history: once, however often it is sent with the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedCounts {
    /// From 1, one more for each further one of a worker.
    pub number: u64,
    /// What is added.
    pub counts: CountsByQueue,
}

impl fmt::Display for NumberedCounts {
    /// As heartbeats carry it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.number)?;
        for (queue, tasks) in &self.counts {
            tasks.iter().try_for_each(|(task, counts)| writeln!(f, "{queue} {task} {counts}"))?;
        }
        Ok(())
    }
}

/// Which part of the history to read.
#[derive(Debug, Clone)]
pub struct HistoryQuery {
    /// The length of its points.
    pub unit: Unit,
    /// The number of the first one: see [`Unit::number`].
    pub first: u64,
    /// How many.
    pub points: usize,
    /// Only series of these queues.
    pub among: Option<BTreeSet<QueueName>>,
    /// Only those of this queue.
    pub queue: Option<QueueName>,
    /// Only attempts of this task.
    pub task: Option<TaskName>,
}

impl HistoryQuery {
    fn covers(&self, queue: Option<&QueueName>) -> bool {
        let is_among = |all: &BTreeSet<_>| queue.is_some_and(|queue| all.contains(queue));
        self.among.as_ref().is_none_or(is_among)
            && (self.queue.is_none() || self.queue.as_ref() == queue)
    }

    fn covers_task(&self, task: Option<&TaskName>) -> bool {
        self.task.is_none() || self.task.as_ref() == task
    }
}

/// A part of the history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// How attempts ended, by queue and task.
    pub attempts: Vec<AttemptSeries>,
    /// How deep queues were, by name.
    pub queues: Vec<QueueSeries>,
}

/// How the attempts of one task in one queue ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptSeries {
    /// The queue and the task; `None` for all others together.
    pub of: Option<(QueueName, TaskName)>,
    /// For each point.
    pub points: Vec<Ended>,
    /// How long they took, over all points.
    pub durations: Durations,
}

/// How deep a queue was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSeries {
    /// The queue; `None` for all others together.
    pub queue: Option<QueueName>,
    /// For each point: of a minute a sample, of an hour the highest ones. `None` if there was none.
    pub points: Vec<Option<Depth>>,
}

/// The name of all series, or queues, that an hour had no room for.
const OTHER: &str = "*";
/// How many queues a sample has by name.
const SAMPLED_QUEUES: usize = 100;
/// How many are read for it, the most recently used ones of each partition.
const READ_QUEUES: usize = 1000;
/// How many series of each kind an answer has by name: those of other hours may be others. Further ones are with the rest.
const MOST_SERIES: usize = 200;
/// How many points one round trip reads, and how long each is at most.
const POINTS_A_TRIP: usize = 30;
const POINT_BYTES: u64 = 32 * 1024;

impl Broker {
    /// Reads a part of the history.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn history(&self, query: &HistoryQuery) -> Result<History, Error> {
        let mut reading = Reading::new(query);
        self.read_points(query, |point, attempts, depths| {
            reading.add_attempts(point, attempts)?;
            reading.add_depths(point, depths)
        })
        .await?;
        Ok(reading.end())
    }

    /// Reads how long attempts took, of all series together, for each point.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn durations(&self, query: &HistoryQuery) -> Result<Vec<Durations>, Error> {
        let mut points = Vec::with_capacity(query.points);
        self.read_points(query, |point, attempts, _| {
            let mut reading = Reading::new(query);
            reading.add_attempts(point, attempts)?;
            let mut durations = Durations::default();
            reading.end().attempts.iter().for_each(|series| durations.merge(&series.durations));
            points.push(durations);
            Ok(())
        })
        .await?;
        Ok(points)
    }

    /// Passes what Redis has of the attempts and the depths of each point.
    async fn read_points(
        &self,
        query: &HistoryQuery,
        mut add: impl FnMut(usize, Value, Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let partition = Partition::default();
        let keys = self.settings.keys(partition);
        for first in (0..query.points).step_by(POINTS_A_TRIP) {
            let points = first..query.points.min(first + POINTS_A_TRIP);
            let mut pipeline = redis::pipe();
            for point in points.clone() {
                let number = query.first.saturating_add(point as u64);
                pipeline.cmd("HGETALL").arg(keys.history(query.unit, number));
                pipeline.cmd("HGETALL").arg(keys.history_queues(query.unit, number));
            }
            let bytes = points.len() as u64 * POINT_BYTES;
            let replies = self.pages.read(partition, &pipeline, bytes, MinRate::ForCaller).await?;
            for (point, replies) in points.zip(replies.chunks_exact(2)) {
                add(point, replies[0].clone(), replies[1].clone())?;
            }
        }
        Ok(())
    }

    /// Adds the depths of the queues to the history, unless this minute has them. Returns whether it did.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn sample_queues(&self) -> Result<bool, Error> {
        if !self.sample(&BTreeMap::new()).await? {
            return Ok(false);
        }
        let depths = self.depths(READ_QUEUES).await?;
        let mut sampled = BTreeMap::from([(OTHER, Depth::default())]);
        // Those with most jobs have a name.
        let mut depths: Vec<_> = depths.iter().map(|(queue, it)| (queue, it.depth)).collect();
        depths.sort_by_key(|(_, depth)| std::cmp::Reverse(depth.queued + depth.running));
        for (at, (queue, depth)) in depths.into_iter().enumerate() {
            let name = if at < SAMPLED_QUEUES { queue.as_str() } else { OTHER };
            sampled.entry(name).or_default().add(&depth);
        }
        self.sample(&sampled).await
    }

    /// Without depths only asks whether this minute has none.
    async fn sample(&self, depths: &BTreeMap<&str, Depth>) -> Result<bool, Error> {
        let arguments = |command: &mut Cmd| {
            for (queue, depth) in depths {
                command.arg(queue).arg(write_depth(depth));
            }
        };
        let call = Call::new(Function::Sample, Partition::default());
        Ok(reply::integer(&self.link.call(call, arguments).await?)? == 1)
    }
}

/// `<queued> <delayed> <running> <failed> <age of the oldest, ms>`.
fn write_depth(depth: &Depth) -> String {
    let Depth { queued, delayed, running, failed, oldest_age } = depth;
    let age = whole_ms(oldest_age.unwrap_or_default());
    format!("{queued} {delayed} {running} {failed} {age}")
}

fn read_depth(text: &str) -> Option<Depth> {
    let numbers: Vec<u64> = text.split(' ').map_while(|number| number.parse().ok()).collect();
    let [queued, delayed, running, failed, age] = *numbers.first_chunk()?;
    let oldest_age = (age > 0).then(|| Duration::from_millis(age));
    Some(Depth { queued, delayed, running, failed, oldest_age })
}

type SeriesName = (QueueName, TaskName);

/// What was read so far.
struct Reading<'a> {
    query: &'a HistoryQuery,
    /// For each series its points, and the sum of all.
    attempts: BTreeMap<Option<SeriesName>, (Vec<Ended>, AttemptCounts)>,
    queues: BTreeMap<Option<QueueName>, Vec<Option<Depth>>>,
}

impl<'a> Reading<'a> {
    const fn new(query: &'a HistoryQuery) -> Self {
        Self { query, attempts: BTreeMap::new(), queues: BTreeMap::new() }
    }

    fn add_attempts(&mut self, point: usize, reply: Value) -> Result<(), Error> {
        for (name, text) in fields(reply)? {
            let of = match name.split_once(' ') {
                Some((queue, task)) => match (queue.parse(), task.parse()) {
                    (Ok(queue), Ok(task)) => Some((queue, task)),
                    _ => return Err(unexpected(&name)),
                },
                None => None,
            };
            let (queue, task) = of.as_ref().map(|(queue, task)| (queue, task)).unzip();
            if !self.query.covers(queue) || !self.query.covers_task(task) {
                continue;
            }
            let is_full = self.attempts.len() >= MOST_SERIES && !self.attempts.contains_key(&of);
            let of = of.filter(|_| !is_full);
            let none = || (vec![Ended::default(); self.query.points], AttemptCounts::default());
            let (points, total) = self.attempts.entry(of).or_insert_with(none);
            let mut counts = AttemptCounts::default();
            counts.read(&text)?;
            points[point].add(&counts.ended);
            total.read(&text)?;
        }
        Ok(())
    }

    fn add_depths(&mut self, point: usize, reply: Value) -> Result<(), Error> {
        for (name, text) in fields(reply)? {
            let queue = match name.as_str() {
                OTHER => None,
                name => Some(name.parse().map_err(|_| unexpected(name))?),
            };
            if !self.query.covers(queue.as_ref()) || self.query.task.is_some() {
                continue;
            }
            let depth = read_depth(&text).ok_or_else(|| unexpected(&text))?;
            let is_full = self.queues.len() >= MOST_SERIES && !self.queues.contains_key(&queue);
            let queue = queue.filter(|_| !is_full);
            let points = self.queues.entry(queue).or_insert_with(|| vec![None; self.query.points]);
            points[point].get_or_insert_default().add(&depth);
        }
        Ok(())
    }

    fn end(self) -> History {
        let attempts = self.attempts.into_iter().map(|(of, (points, total))| AttemptSeries {
            of,
            points,
            durations: total.durations,
        });
        let is_empty = |points: &[Option<Depth>]| {
            points.iter().flatten().all(|depth| *depth == Depth::default())
        };
        let queues = self.queues.into_iter().map(|(queue, points)| QueueSeries { queue, points });
        // Every sample has all others, so that one without queues is one.
        let queues = queues.filter(|it| it.queue.is_some() || !is_empty(&it.points));
        History { attempts: attempts.collect(), queues: queues.collect() }
    }
}

/// The names and values of a hash.
fn fields(reply: Value) -> Result<Vec<(String, String)>, Error> {
    let values = reply::array(reply)?.into_iter().map(reply::text);
    let values: Vec<String> = values.collect::<Result<_, _>>()?;
    Ok(values.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
}

fn unexpected(text: &str) -> Error {
    Error::unreadable(format!("unexpected text in the history: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_depth_is_read_as_it_was_written() {
        let depth = Depth {
            queued: 1,
            delayed: 2,
            running: 3,
            failed: 4,
            oldest_age: Some(Duration::from_millis(5)),
        };
        assert_eq!(read_depth(&write_depth(&depth)), Some(depth));
        assert_eq!(read_depth(&write_depth(&Depth::default())), Some(Depth::default()));
        assert_eq!(read_depth("1 2 3"), None);
    }
}
