//! Error groups for operators: failures of one kind, newest first. Read-only; `lua/errors.lua` writes them.
//!
//! A group may be in every partition, where its jobs are. Pages are in the order of the newest failure over all
//! partitions: each partition's index is read from the page's start down, and a group counts where it failed last.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use futures_util::future::join_all;
use redis::Value;

use super::commands::Commands;
use super::error::Error;
use super::transfer::MinRate;
use super::{Broker, reply};
use crate::job::{JobError, JobId, MAX_MESSAGE_BYTES, Partition};
use crate::queue::QueueName;
use crate::task::TaskName;
use crate::time::Timestamp;

/// The id of an error group: 16 hexadecimal digits; or `other`, the group of all errors beyond the first 1 000 kinds.
///
/// ```
/// use crunch_common::broker::ErrorGroupId;
///
/// assert!("00112233aabbccdd".parse::<ErrorGroupId>().is_ok());
/// assert!("other".parse::<ErrorGroupId>().is_ok());
/// assert!("0011".parse::<ErrorGroupId>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorGroupId(String);

/// Not the id of an error group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 16 hexadecimal digits, or \"other\"")]
pub struct InvalidErrorGroupId;

impl FromStr for ErrorGroupId {
    type Err = InvalidErrorGroupId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let valid = text == "other" || (text.len() == 16 && text.bytes().all(is_digit));
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidErrorGroupId) }
    }
}

impl ErrorGroupId {
    /// Whether it is the group of all errors beyond the first kinds.
    #[must_use]
    pub fn is_other(&self) -> bool {
        self.0 == "other"
    }
}

impl fmt::Display for ErrorGroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Failures of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorGroup {
    /// Its id.
    pub id: ErrorGroupId,
    /// The queue of its jobs; `None` in the group of all others.
    pub queue: Option<QueueName>,
    /// Their task; `None` in the group of all others.
    pub task: Option<TaskName>,
    /// The newest error.
    pub error: JobError,
    /// The job that failed with it.
    pub job: JobId,
    /// When the first attempt failed so.
    pub first_at: Timestamp,
    /// When the last one did.
    pub last_at: Timestamp,
    /// How many attempts failed so, those included after which the job was retried.
    pub failures: u64,
    /// How many jobs have failed so for good, and neither run again nor were deleted.
    pub failed_jobs: u64,
}

/// Which groups to list.
#[derive(Debug, Clone, Default)]
pub struct ErrorGroupQuery {
    /// Only those of these queues.
    pub among: Option<BTreeSet<QueueName>>,
    /// Only those of this queue.
    pub queue: Option<QueueName>,
    /// Only those of this task.
    pub task: Option<TaskName>,
    /// Only those that have failed jobs.
    pub with_failed_jobs: bool,
    /// Where the previous page ended.
    pub after: Option<ErrorGroupCursor>,
    /// Maximum number of groups.
    pub limit: usize,
}

/// Some groups, the one with the newest failure first.
#[derive(Debug, Clone)]
pub struct ErrorGroupPage {
    /// The groups.
    pub items: Vec<ErrorGroup>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<ErrorGroupCursor>,
}

/// A position in the list of groups: after this one, whose last failure was then.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ErrorGroupCursor {
    last_at: u64,
    id: ErrorGroupId,
}

impl fmt::Display for ErrorGroupCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.last_at, self.id)
    }
}

impl FromStr for ErrorGroupCursor {
    type Err = InvalidErrorGroupId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (last_at, id) = text.split_once('.').ok_or(InvalidErrorGroupId)?;
        let last_at = last_at.parse().map_err(|_| InvalidErrorGroupId)?;
        Ok(Self { last_at, id: id.parse()? })
    }
}

/// How many places of a partition's index one round trip reads, and how many groups.
const WINDOW: usize = 128;
const AT_ONCE: usize = 50;

impl Broker {
    /// Returns a page of the error groups, the one with the newest failure first.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn error_groups(&self, query: &ErrorGroupQuery) -> Result<ErrorGroupPage, Error> {
        let (mut items, mut after) = (Vec::new(), query.after.clone());
        loop {
            let (newest, end) = self.newest_failures(after.as_ref()).await?;
            for places in newest.chunks(AT_ONCE) {
                let ids: Vec<_> = places.iter().map(|place| place.id.clone()).collect();
                for (group, place) in self.read_error_groups(&ids).await?.into_iter().zip(places) {
                    // If it is newer in another partition it is on an earlier page.
                    let is_next = |group: &ErrorGroup| {
                        after.as_ref().is_none_or(|after| place_of(group) < *after)
                    };
                    items.extend(group.filter(is_next).filter(|group| query.matches(group)));
                    if items.len() == query.limit {
                        return Ok(ErrorGroupPage { items, next: Some(place.clone()) });
                    }
                }
            }
            // Never the end of a page: what a caller may not see is not named in a cursor.
            after = end;
            if after.is_none() {
                return Ok(ErrorGroupPage { items, next: None });
            }
        }
    }

    /// Returns one error group, if there is one.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn error_group(&self, id: &ErrorGroupId) -> Result<Option<ErrorGroup>, Error> {
        Ok(self.read_error_groups(std::slice::from_ref(id)).await?.pop().flatten())
    }

    /// Returns the groups that follow in some partition, each once, in the order of the list; and where to continue,
    /// unless these are all.
    async fn newest_failures(
        &self,
        after: Option<&ErrorGroupCursor>,
    ) -> Result<(Vec<ErrorGroupCursor>, Option<ErrorGroupCursor>), Error> {
        let windows =
            join_all(self.partitions().map(|partition| self.failures_in(partition, after))).await;
        let mut newest: BTreeMap<ErrorGroupId, u64> = BTreeMap::new();
        let mut end = None;
        for window in windows {
            let (places, is_last) = window?;
            if !is_last {
                end = end.max(places.last().cloned());
            }
            for place in places {
                let last_at = newest.entry(place.id).or_default();
                *last_at = place.last_at.max(*last_at);
            }
        }
        let places = newest.into_iter().map(|(id, last_at)| ErrorGroupCursor { last_at, id });
        // What is below the end of a window may be missing from it.
        let mut places: Vec<_> = places.filter(|place| Some(place) >= end.as_ref()).collect();
        places.sort_unstable_by(|one, other| other.cmp(one));
        Ok((places, end))
    }

    /// Returns the groups that follow in one partition, in the order of the list, and whether these are all.
    async fn failures_in(
        &self,
        partition: Partition,
        after: Option<&ErrorGroupCursor>,
    ) -> Result<(Vec<ErrorGroupCursor>, bool), Error> {
        let name = self.settings.keys(partition).errors();
        let top = after.map_or_else(|| "+inf".to_owned(), |after| after.last_at.to_string());
        let mut width = WINDOW;
        loop {
            let mut ask = redis::pipe();
            ask.cmd("ZRANGE").arg(&name).arg(&top).arg("-inf").arg("BYSCORE").arg("REV");
            ask.arg("LIMIT").arg(0).arg(width).arg("WITHSCORES");
            let members = reply::array(self.pooled(partition, &ask).await?.swap_remove(0))?;
            let mut places = Vec::with_capacity(members.len() / 2);
            for member in members.chunks_exact(2) {
                let (id, last_at) = (reply::parsed(member[0].clone())?, &member[1]);
                places.push(ErrorGroupCursor { last_at: reply::unsigned(last_at)?, id });
            }
            let is_last = places.len() < width;
            places.retain(|place| after.is_none_or(|after| place < after));
            if is_last || !places.is_empty() {
                return Ok((places, is_last));
            }
            // As many failed in one millisecond.
            width *= 2;
        }
    }

    /// Returns these groups, each the sum of its parts. The error is read only where it is the newest.
    async fn read_error_groups(
        &self,
        ids: &[ErrorGroupId],
    ) -> Result<Vec<Option<ErrorGroup>>, Error> {
        let parts = join_all(self.partitions().map(|partition| async move {
            let keys = self.settings.keys(partition);
            let mut ask = redis::pipe();
            for id in ids {
                ask.cmd("HMGET").arg(keys.error(id)).arg(&COUNTS);
                ask.cmd("ZCARD").arg(keys.error_jobs(id));
            }
            self.pooled(partition, &ask).await.map(|replies| (partition, replies))
        }));
        let mut sums: Vec<Option<Sum>> = vec![None; ids.len()];
        for part in parts.await {
            let (partition, replies) = part?;
            for (sum, replies) in sums.iter_mut().zip(replies.chunks_exact(2)) {
                if let Some(part) = Sum::read(partition, &replies[0], &replies[1])? {
                    Sum::add(sum, part);
                }
            }
        }
        let mut commands = Commands::default();
        for (id, sum) in ids.iter().zip(&sums) {
            if let Some(Sum { newest_in, .. }) = sum {
                let key = self.settings.keys(*newest_in).error(id);
                commands.at(*newest_in).cmd("HMGET").arg(key).arg(&NEWEST);
            }
        }
        let bytes = ids.len() as u64 * ERROR_BYTES;
        let mut newest = match commands.is_empty() {
            true => Vec::new(),
            false => self.pages.read_all(&commands, bytes, MinRate::ForCaller).await?,
        }
        .into_iter();
        let group = |(id, sum): (&ErrorGroupId, Option<Sum>)| {
            let (sum, newest) = (sum?, newest.next()?);
            // One that was removed meanwhile, or is broken, does not hide the others.
            let group = sum.with(id, newest);
            group
                .inspect_err(|error| tracing::debug!(%id, %error, "an error group is left out"))
                .ok()
        };
        Ok(ids.iter().zip(sums).map(group).collect())
    }
}

impl ErrorGroupQuery {
    fn matches(&self, group: &ErrorGroup) -> bool {
        let is = |wanted: &Option<QueueName>| wanted.is_none() || *wanted == group.queue;
        let among =
            |among: &BTreeSet<_>| group.queue.as_ref().is_some_and(|queue| among.contains(queue));
        is(&self.queue)
            && self.among.as_ref().is_none_or(among)
            && (self.task.is_none() || self.task == group.task)
            && (!self.with_failed_jobs || group.failed_jobs > 0)
    }
}

/// The fields of a group in each partition, and those that only the newest failure needs.
const COUNTS: [&str; 5] = ["queue", "task", "first", "last", "failures"];
const NEWEST: [&str; 2] = ["error", "job"];
/// The longest error, written as JSON, and the id of its job.
const ERROR_BYTES: u64 = 2 * MAX_MESSAGE_BYTES as u64;

/// What is the same in all partitions, or added up.
#[derive(Debug, Clone)]
struct Sum {
    queue: Option<QueueName>,
    task: Option<TaskName>,
    first_at: u64,
    last_at: u64,
    failures: u64,
    failed_jobs: u64,
    newest_in: Partition,
}

impl Sum {
    /// Reads a group in a partition; `None` if it is not there.
    fn read(partition: Partition, hash: &Value, jobs: &Value) -> Result<Option<Self>, Error> {
        let [queue, task, first, last, failures] = reply::fields(hash.clone())?;
        if failures == Value::Nil {
            return Ok(None);
        }
        Ok(Some(Self {
            queue: given(queue),
            task: given(task),
            first_at: reply::unsigned(&first)?,
            last_at: reply::unsigned(&last)?,
            failures: reply::unsigned(&failures)?,
            failed_jobs: reply::unsigned(jobs)?,
            newest_in: partition,
        }))
    }

    fn add(sum: &mut Option<Self>, part: Self) {
        let Some(sum) = sum else {
            *sum = Some(part);
            return;
        };
        sum.first_at = sum.first_at.min(part.first_at);
        sum.failures += part.failures;
        sum.failed_jobs += part.failed_jobs;
        if part.last_at > sum.last_at {
            (sum.last_at, sum.newest_in) = (part.last_at, part.newest_in);
        }
    }

    fn with(self, id: &ErrorGroupId, newest: Value) -> Result<ErrorGroup, Error> {
        let [error, job] = reply::fields(newest)?;
        let error = serde_json::from_slice(&reply::bytes(error)?);
        Ok(ErrorGroup {
            id: id.clone(),
            queue: self.queue,
            task: self.task,
            error: error.map_err(|error| Error::unreadable(error.to_string()))?,
            job: reply::parsed(job)?,
            first_at: Timestamp::from_unix_ms(self.first_at),
            last_at: Timestamp::from_unix_ms(self.last_at),
            failures: self.failures,
            failed_jobs: self.failed_jobs,
        })
    }
}

/// The name of a queue or task, unless it is absent: a broken record has an empty one.
fn given<T: FromStr>(value: Value) -> Option<T> {
    reply::parsed(value).ok()
}

fn place_of(group: &ErrorGroup) -> ErrorGroupCursor {
    ErrorGroupCursor { last_at: group.last_at.unix_ms(), id: group.id.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_as_itself() {
        for text in ["1700000000000.00112233aabbccdd", "0.other"] {
            assert_eq!(text.parse::<ErrorGroupCursor>().unwrap().to_string(), text);
        }
        for wrong in ["", "1", "1.", ".other", "x.other", "1.Other", "1.00112233AABBCCDD"] {
            assert_eq!(wrong.parse::<ErrorGroupCursor>(), Err(InvalidErrorGroupId), "{wrong}");
        }
    }
}
