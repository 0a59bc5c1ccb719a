//! The people's view of queues: a page of them, or one by itself. Never changes anything.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use redis::{Pipeline, Value};

use super::depth::{Depth, QUEUES_A_TRIP};
use super::error::Error;
use super::keys::Keys;
use super::{Broker, reply};
use crate::job::JobId;
use crate::queue::QueueName;

/// A queue as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSummary {
    /// Its name.
    pub name: QueueName,
    /// Whether nothing is handed out.
    pub paused: bool,
    /// Jobs that could be claimed now.
    pub queued: u64,
    /// Jobs that wait for their time.
    pub scheduled: u64,
    /// Jobs that wait for their next attempt.
    pub retrying: u64,
    /// Jobs in flight.
    pub running: u64,
    /// Dead letters.
    pub failed: u64,
    /// Age of the oldest job that could be claimed now.
    pub oldest_age: Option<Duration>,
    /// Jobs that ended in the last minute, give or take ten seconds.
    pub finished_last_minute: u64,
}

impl QueueSummary {
    /// A queue of which nothing is in Redis yet.
    #[must_use]
    pub const fn empty(name: QueueName) -> Self {
        Self {
            name,
            paused: false,
            queued: 0,
            scheduled: 0,
            retrying: 0,
            running: 0,
            failed: 0,
            oldest_age: None,
            finished_last_minute: 0,
        }
    }
}

/// How many delayed jobs of a queue that is read by itself are looked at, to count those that wait for a retry; beyond them it
/// is an estimate. Beside many others it is fewer, so that a list costs what it shows.
const COUNTED: u64 = 1000;
const COUNTED_IN_A_LIST: u64 = 20;
/// States read in one round trip: about a millisecond of Redis' time.
const STATES_A_TRIP: usize = 1000;

/// Which queues are listed.
#[derive(Debug, Clone)]
pub struct QueueQuery {
    /// Only these.
    pub among: Option<BTreeSet<QueueName>>,
    /// Only those behind that one.
    pub after: Option<QueueName>,
    /// How many at most.
    pub limit: usize,
}

impl QueueQuery {
    /// The first `limit` of all queues.
    #[must_use]
    pub const fn first(limit: usize) -> Self {
        Self { among: None, after: None, limit }
    }
}

/// Some queues, by name.
#[derive(Debug, Clone)]
pub struct QueuePage {
    /// The queues.
    pub items: Vec<QueueSummary>,
    /// The next page is behind this one; `None` at the end.
    pub next: Option<QueueName>,
}

impl Broker {
    /// A page of the queues that were used or served in the last hour, or hold anything, by name. Costs as much as there are on
    /// it. It may be short if only some queues are wanted.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn queues(&self, query: &QueueQuery) -> Result<QueuePage, Error> {
        let after = query.after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut names: Vec<QueueName> = match &query.among {
            Some(among) => among.range((after, Bound::Unbounded)).cloned().collect(),
            None => self.names_everywhere(after, query.limit + 1).await?,
        };
        let more = names.len() > query.limit;
        names.truncate(query.limit);
        let items = self.summaries(&names, COUNTED_IN_A_LIST).await?;
        Ok(QueuePage { items, next: if more { names.pop() } else { None } })
    }

    /// One queue, if it is known: used or served in the last hour, or it holds anything. What other queues there are costs
    /// nothing.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn queue(&self, name: &QueueName) -> Result<Option<QueueSummary>, Error> {
        Ok(self.summaries(std::slice::from_ref(name), COUNTED).await?.pop())
    }

    /// The first `most` names that any partition knows.
    async fn names_everywhere(
        &self,
        after: Bound<&QueueName>,
        most: usize,
    ) -> Result<Vec<QueueName>, Error> {
        let mut names = BTreeSet::new();
        for partition in self.partitions() {
            names.extend(self.queue_names(partition, after, most).await?);
        }
        Ok(names.into_iter().take(most).collect())
    }

    /// Those of the queues that are known, by name.
    async fn summaries(
        &self,
        names: &[QueueName],
        counted: u64,
    ) -> Result<Vec<QueueSummary>, Error> {
        let mut queues = BTreeMap::new();
        for partition in self.partitions() {
            let keys = self.settings.keys(partition);
            for names in names.chunks(QUEUES_A_TRIP) {
                let mut index = redis::pipe();
                for name in names {
                    index.cmd("ZSCORE").arg(keys.queues()).arg(name.as_str());
                    index.cmd("SISMEMBER").arg(keys.paused()).arg(name.as_str());
                }
                let mut replies = self.pooled(index.cmd("TIME")).await?;
                let now = reply::time_ms(replies.pop().unwrap_or(Value::Nil))?;
                let known = names.iter().zip(replies.chunks_exact(2));
                let known = known.filter(|(_, replies)| replies[0] != Value::Nil);
                let (known, paused): (Vec<_>, Vec<_>) =
                    known.map(|(name, replies)| (name.clone(), &replies[1])).unzip();
                let parts = self.parts(&keys, &known, now, counted).await?;
                for (mut part, paused) in parts.into_iter().zip(paused) {
                    part.paused = reply::integer(paused)? == 1;
                    merge(&mut queues, part);
                }
            }
        }
        Ok(queues.into_values().collect())
    }

    /// Whether a queue is known: used or served in the last hour, or it holds anything.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn knows(&self, name: &QueueName) -> Result<bool, Error> {
        for partition in self.partitions() {
            let mut ask = redis::pipe();
            ask.cmd("ZSCORE").arg(self.settings.keys(partition).queues()).arg(name.as_str());
            if self.pooled(&ask).await?.pop().is_some_and(|used| used != Value::Nil) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What some queues hold in one partition, but for whether they are paused. Two round trips, and one for each thousand
    /// delayed jobs that are looked at.
    async fn parts(
        &self,
        keys: &Keys,
        names: &[QueueName],
        now: u64,
        counted: u64,
    ) -> Result<Vec<QueueSummary>, Error> {
        let mut ask = redis::pipe();
        names.iter().for_each(|name| ask_part(&mut ask, keys, name, now, counted));
        let replies = self.pooled(&ask).await?;
        let mut parts = Vec::with_capacity(names.len());
        let mut delayed = Vec::new();
        for (name, replies) in names.iter().zip(replies.chunks_exact(PART_REPLIES)) {
            let (depth, rest) = replies.split_at(Depth::REPLIES);
            let depth = self.depth(keys, name, depth, now).await?;
            let (part, ids) = read_part(name, &depth, rest)?;
            delayed.extend(ids.into_iter().map(|id| (parts.len(), id)));
            parts.push(part);
        }
        let retrying = self.retrying(keys, parts.len(), &delayed).await?;
        for (part, retrying) in parts.iter_mut().zip(retrying) {
            // Until here all delayed jobs counted as scheduled.
            let delayed = part.scheduled;
            part.retrying = retrying * delayed / delayed.clamp(1, counted);
            part.scheduled = delayed.saturating_sub(part.retrying);
        }
        Ok(parts)
    }

    /// How many of those delayed jobs wait for a retry, by the number of their queue.
    async fn retrying(
        &self,
        keys: &Keys,
        queues: usize,
        delayed: &[(usize, JobId)],
    ) -> Result<Vec<u64>, Error> {
        let mut retrying = vec![0; queues];
        for some in delayed.chunks(STATES_A_TRIP) {
            let mut ask = redis::pipe();
            for &(_, id) in some {
                ask.cmd("HGET").arg(keys.job(id)).arg("state");
            }
            for (&(queue, _), state) in some.iter().zip(self.pooled(&ask).await?) {
                let waits =
                    matches!(&state, Value::BulkString(state) if state.starts_with(b"retrying "));
                retrying[queue] += u64::from(waits);
            }
        }
        Ok(retrying)
    }
}

/// How many replies [`ask_part`] leads to.
const PART_REPLIES: usize = Depth::REPLIES + 2;

fn ask_part(ask: &mut Pipeline, keys: &Keys, name: &QueueName, now: u64, counted: u64) {
    Depth::ask(ask, keys, name);
    ask.cmd("MGET");
    for bucket in now / 10_000 - 5..=now / 10_000 {
        ask.arg(keys.ended(name, bucket));
    }
    ask.cmd("ZRANGE").arg(keys.delayed(name)).arg(0).arg(counted - 1);
}

/// What a queue holds, and its first delayed jobs.
fn read_part(
    name: &QueueName,
    depth: &Depth,
    rest: &[Value],
) -> Result<(QueueSummary, Vec<JobId>), Error> {
    let ended = reply::array(rest[0].clone())?;
    let delayed = reply::array(rest[1].clone())?.into_iter();
    let part = QueueSummary {
        name: name.clone(),
        paused: false,
        queued: depth.queued,
        scheduled: depth.delayed,
        retrying: 0,
        running: depth.running,
        failed: depth.failed,
        oldest_age: depth.oldest_age,
        finished_last_minute: ended.iter().filter_map(|count| reply::unsigned(count).ok()).sum(),
    };
    Ok((part, delayed.filter_map(|id| reply::parsed(id).ok()).collect()))
}

/// Adds what a queue holds in one partition to what it holds in others.
fn merge(queues: &mut BTreeMap<QueueName, QueueSummary>, part: QueueSummary) {
    let Some(sum) = queues.get_mut(&part.name) else {
        queues.insert(part.name.clone(), part);
        return;
    };
    sum.paused |= part.paused;
    sum.queued += part.queued;
    sum.scheduled += part.scheduled;
    sum.retrying += part.retrying;
    sum.running += part.running;
    sum.failed += part.failed;
    sum.oldest_age = sum.oldest_age.max(part.oldest_age);
    sum.finished_last_minute += part.finished_last_minute;
}
