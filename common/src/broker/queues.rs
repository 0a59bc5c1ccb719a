//! Queues for operators: a page of them, or a single one. Read-only.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use futures_util::future::try_join;
use redis::{Pipeline, Value};

use super::depth::{Parked, QUEUES_A_TRIP, QueueDepth, add_parked};
use super::error::Error;
use super::keys::Keys;
use super::{Broker, reply};
use crate::job::JobId;
use crate::queue::QueueName;
use crate::task::TaskName;

/// The state of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSummary {
    /// Its name.
    pub name: QueueName,
    /// Whether it is paused: none of its jobs are claimed.
    pub paused: bool,
    /// Jobs that could be claimed now.
    pub queued: u64,
    /// Jobs that wait for their due time.
    pub scheduled: u64,
    /// Jobs that wait for their next attempt.
    pub retrying: u64,
    /// Jobs that are running.
    pub running: u64,
    /// Failed jobs (dead letters).
    pub failed: u64,
    /// Age of the oldest job that could be claimed now.
    pub oldest_age: Option<Duration>,
    /// Jobs that ended in the last minute, accurate to ten seconds.
    pub finished_last_minute: u64,
    /// Those of its queued jobs that are parked, by task.
    pub parked: BTreeMap<TaskName, Parked>,
}

impl QueueSummary {
    /// Returns a queue that has no data in Redis yet.
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
            parked: BTreeMap::new(),
        }
    }
}

/// How many delayed jobs of a single queue are read to count those that wait for a retry; beyond that the count is an
/// estimate. In a list it is fewer, so that a list costs only what it shows.
const COUNTED: u64 = 1000;
const COUNTED_IN_A_LIST: u64 = 20;
/// Number of states per round trip: about a millisecond of Redis' time.
const STATES_PER_ROUND_TRIP: usize = 1000;

/// Which queues to list.
#[derive(Debug, Clone)]
pub struct QueueQuery {
    /// Only these.
    pub among: Option<BTreeSet<QueueName>>,
    /// Only those after this one, by name.
    pub after: Option<QueueName>,
    /// Maximum number of queues.
    pub limit: usize,
}

impl QueueQuery {
    /// Returns a query for the first `limit` of all queues.
    #[must_use]
    pub const fn first(limit: usize) -> Self {
        Self { among: None, after: None, limit }
    }
}

/// Some queues, sorted by name.
#[derive(Debug, Clone)]
pub struct QueuePage {
    /// The queues.
    pub items: Vec<QueueSummary>,
    /// The next page starts after this one; `None` at the end.
    pub next: Option<QueueName>,
}

impl Broker {
    /// Returns a page of the queues that were used or served in the last hour or contain anything, by name. The cost
    /// depends on the number of queues on the page. A page may be short if only some queues are requested.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
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

    /// Returns one queue, if it is known: used or served in the last hour, or it contains anything. The cost does not
    /// depend on the number of other queues.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn queue(&self, name: &QueueName) -> Result<Option<QueueSummary>, Error> {
        Ok(self.summaries(std::slice::from_ref(name), COUNTED).await?.pop())
    }

    /// Returns the first `max` names of all partitions.
    async fn names_everywhere(
        &self,
        after: Bound<&QueueName>,
        max: usize,
    ) -> Result<Vec<QueueName>, Error> {
        let mut names = BTreeSet::new();
        for partition in self.partitions() {
            names.extend(self.queue_names(partition, after, max).await?);
        }
        Ok(names.into_iter().take(max).collect())
    }

    /// Returns those of the queues that are known, by name.
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
                }
                let mut replies = self.pooled(partition, index.cmd("TIME")).await?;
                let now = reply::time_ms(replies.pop().unwrap_or(Value::Nil))?;
                let known = names.iter().zip(replies).filter(|(_, used)| *used != Value::Nil);
                let known: Vec<_> = known.map(|(name, _)| name.clone()).collect();
                let parts = self.parts(keys, &known, now, counted).await?;
                parts.into_iter().for_each(|part| merge(&mut queues, part));
            }
        }
        Ok(queues.into_values().collect())
    }

    /// Whether a queue is known: used or served in the last hour, or it contains anything.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn knows(&self, name: &QueueName) -> Result<bool, Error> {
        for partition in self.partitions() {
            let mut pipeline = redis::pipe();
            pipeline.cmd("ZSCORE").arg(self.settings.keys(partition).queues()).arg(name.as_str());
            if self.pooled(partition, &pipeline).await?.pop().is_some_and(|used| used != Value::Nil)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the state of some queues in one partition. Two round trips, or a few more ([`Broker::depths_of`]), and one
    /// for each thousand delayed jobs that are read.
    async fn parts(
        &self,
        keys: &Keys,
        names: &[QueueName],
        now: u64,
        counted: u64,
    ) -> Result<Vec<QueueSummary>, Error> {
        let mut pipeline = redis::pipe();
        names.iter().for_each(|name| ask_more(&mut pipeline, keys, name, now, counted));
        let depths = Box::pin(self.depths_of(keys, names, now, None));
        let (depths, replies) = try_join(depths, self.pooled(keys.partition(), &pipeline)).await?;
        let mut parts = Vec::with_capacity(names.len());
        let mut delayed = Vec::new();
        for ((name, depth), more) in names.iter().zip(depths).zip(replies.chunks_exact(2)) {
            let (part, ids) = read_part(name, depth, more)?;
            delayed.extend(ids.into_iter().map(|id| (parts.len(), id)));
            parts.push(part);
        }
        let retrying = self.retrying(keys, parts.len(), &delayed).await?;
        for (part, retrying) in parts.iter_mut().zip(retrying) {
            // Until here all delayed jobs are counted as scheduled.
            let delayed = part.scheduled;
            part.retrying = retrying * delayed / delayed.clamp(1, counted);
            part.scheduled = delayed.saturating_sub(part.retrying);
        }
        Ok(parts)
    }

    /// Counts the delayed jobs that wait for a retry, by the index of their queue.
    async fn retrying(
        &self,
        keys: &Keys,
        queues: usize,
        delayed: &[(usize, JobId)],
    ) -> Result<Vec<u64>, Error> {
        let mut retrying = vec![0; queues];
        for chunk in delayed.chunks(STATES_PER_ROUND_TRIP) {
            let mut pipeline = redis::pipe();
            for &(_, id) in chunk {
                pipeline.cmd("HGET").arg(keys.job(id)).arg("state");
            }
            let states = self.pooled(keys.partition(), &pipeline).await?;
            for (&(queue, _), state) in chunk.iter().zip(states) {
                let is_retrying =
                    matches!(&state, Value::BulkString(state) if state.starts_with(b"retrying "));
                retrying[queue] += u64::from(is_retrying);
            }
        }
        Ok(retrying)
    }
}

/// Adds the two commands for what the depth of a queue in a partition does not contain.
fn ask_more(pipeline: &mut Pipeline, keys: &Keys, name: &QueueName, now: u64, counted: u64) {
    pipeline.cmd("MGET");
    for bucket in now / 10_000 - 5..=now / 10_000 {
        pipeline.arg(keys.ended(name, bucket));
    }
    pipeline.cmd("ZRANGE").arg(keys.delayed(name)).arg(0).arg(counted - 1);
}

/// Returns the state of a queue in one partition, and its first delayed jobs.
fn read_part(
    name: &QueueName,
    QueueDepth { depth, paused, parked, .. }: QueueDepth,
    more: &[Value],
) -> Result<(QueueSummary, Vec<JobId>), Error> {
    let ended = reply::array(more[0].clone())?;
    let delayed = reply::array(more[1].clone())?.into_iter();
    let part = QueueSummary {
        name: name.clone(),
        paused,
        queued: depth.queued,
        scheduled: depth.delayed,
        retrying: 0,
        running: depth.running,
        failed: depth.failed,
        oldest_age: depth.oldest_age,
        finished_last_minute: ended.iter().filter_map(|count| reply::unsigned(count).ok()).sum(),
        parked,
    };
    Ok((part, delayed.filter_map(|id| reply::parsed(id).ok()).collect()))
}

/// Adds the state of a queue in one partition to that in the others.
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
    add_parked(&mut sum.parked, &part.parked);
}
