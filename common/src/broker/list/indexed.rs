//! The jobs of an index, the newest first: merged over all partitions by id, which begins with the time of the submission.
//!
//! An index lists jobs whatever their status, task and queue, so their records are read and compared with the other
//! filters. A range of times is read as a range of ids.

use futures_util::future::join_all;

use super::cursor::{Below, Cursor, Ended};
use super::place::STRIDE;
use super::{ListQuery, Page};
use crate::broker::error::Error;
use crate::broker::record::{JobRecord, Lookup};
use crate::broker::{Broker, IndexId, reply};
use crate::job::{JobId, Partition};
use crate::time::Timestamp;

/// The beginning of the ids that were created at a time.
fn first_of(time: Timestamp) -> String {
    let ms = time.unix_ms();
    format!("{:08x}-{:04x}", ms >> 16, ms & 0xffff)
}

/// A part of an index, the newest first.
struct Window {
    ids: Vec<JobId>,
    /// How many ids the whole index has; only of the first window, and for a caller that may see all of them.
    of: Option<u64>,
    /// Whether nothing follows.
    is_last: bool,
}

impl Broker {
    /// Reads a page of the jobs of an index.
    pub(super) async fn list_index(
        &self,
        query: &ListQuery,
        index: IndexId,
    ) -> Result<Page, Error> {
        let mut search = Search::new(query, index);
        let (mut next, mut width) = (search.start(), query.limit.clamp(1, STRIDE));
        loop {
            let counts = query.among.is_none() && search.page.of.is_none();
            let window = self.index_window(query, index, (next, width, counts)).await?;
            // Every partition is asked, also those whose jobs are not among the next ones.
            search.read += usize::from(self.settings.space.len()) / 4;
            let advances = |below| window.ids.first().is_none_or(|&first| first < below);
            if matches!(next, Some(Below::Id(id)) if !advances(id)) {
                // Somebody changed its scores: the next window would be the same, without end.
                return Err(Error::unreadable(format!("the index {index} is not sorted by id")));
            }
            search.page.of = search.page.of.or(window.of);
            for chunk in window.ids.chunks(width) {
                for (&id, job) in chunk.iter().zip(self.listed(chunk).await?) {
                    search.look(id, job);
                    if search.is_full() {
                        return Ok(search.ended(&window));
                    }
                }
                if search.is_over() {
                    return Ok(search.ended(&window));
                }
            }
            if window.is_last {
                return Ok(search.ended(&window));
            }
            next = window.ids.last().copied().map(Below::Id).or(next);
            width = (2 * width).min(STRIDE);
        }
    }

    /// Returns the jobs that follow in an index, as far as no partition has others among them.
    async fn index_window(
        &self,
        query: &ListQuery,
        index: IndexId,
        (next, width, counts): (Option<Below>, usize, bool),
    ) -> Result<Window, Error> {
        // Few of the ids of many partitions are below the ends of all windows.
        let width = (4 * width / usize::from(self.settings.space.len())).clamp(4, width.max(4));
        let after = query.created_after;
        let parts = self
            .partitions()
            .map(|partition| self.index_part(partition, index, (after, next, width), counts));
        let (mut ids, mut end, mut of) = (Vec::new(), None, counts.then_some(0));
        for part in join_all(parts).await {
            let (part, count) = part?;
            if part.len() == width {
                end = end.max(part.last().copied());
            }
            ids.extend(part);
            of = of.zip(count).map(|(of, count)| of + count);
        }
        ids.retain(|&id| Some(id) >= end);
        ids.sort_unstable_by(|one, other| other.cmp(one));
        Ok(Window { ids, of, is_last: end.is_none() })
    }

    /// Returns the jobs that follow in a partition, and, if it is asked, how many the index has there.
    async fn index_part(
        &self,
        partition: Partition,
        index: IndexId,
        (after, next, width): (Option<Timestamp>, Option<Below>, usize),
        counts: bool,
    ) -> Result<(Vec<JobId>, Option<u64>), Error> {
        let key = self.settings.keys(partition).index(index);
        let top = match next {
            None => "+".to_owned(),
            Some(Below::Id(id)) => format!("({id}"),
            Some(Below::Time(time)) => format!("({}", first_of(time)),
        };
        let bottom = after.map_or_else(|| "-".to_owned(), |time| format!("[{}", first_of(time)));
        let mut ask = redis::pipe();
        ask.cmd("ZRANGE").arg(&key).arg(top).arg(bottom).arg("BYLEX").arg("REV");
        ask.arg("LIMIT").arg(0).arg(width);
        if counts {
            ask.cmd("ZCARD").arg(&key);
        }
        let mut replies = self.pooled(partition, &ask).await?.into_iter();
        let ids = reply::array(replies.next().unwrap_or(redis::Value::Nil))?;
        let ids = ids.into_iter().map(reply::parsed).collect::<Result<_, _>>()?;
        Ok((ids, replies.next().map(|count| reply::unsigned(&count)).transpose()?))
    }
}

/// A page of an index, as far as it is read.
struct Search<'a> {
    query: &'a ListQuery,
    index: IndexId,
    page: Page,
    /// How many jobs were read, also those that may not be seen.
    read: usize,
    last: Option<JobId>,
    /// Where the next page may start.
    resume: Option<Below>,
}

impl<'a> Search<'a> {
    fn new(query: &'a ListQuery, index: IndexId) -> Self {
        Self { query, index, page: Page::default(), read: 0, last: None, resume: None }
    }

    /// Where the page starts.
    fn start(&self) -> Option<Below> {
        match self.query.cursor {
            Some(Cursor(Ended::Index(index, below))) if index == self.index => Some(below),
            _ => self.query.created_before.map(Below::Time),
        }
    }

    fn look(&mut self, id: JobId, job: Lookup<JobRecord>) {
        self.read += 1;
        let is_visible = match &job {
            Lookup::Found(job) => self.query.includes_queue(&job.queue),
            Lookup::Gone(_) | Lookup::Unknown => self.query.among.is_none(),
        };
        if is_visible {
            self.page.looked_at += 1;
            self.resume = Some(Below::Id(id));
        } else if self.last.is_some_and(|last| last.created_at() > id.created_at()) {
            let later = id.created_at().unix_ms() + 1;
            self.resume = Some(Below::Time(Timestamp::from_unix_ms(later)));
        }
        self.last = Some(id);
        if let Lookup::Found(job) = job
            && is_visible
            && self.query.selects(&job)
        {
            self.page.items.push(job);
        }
    }

    fn is_full(&self) -> bool {
        self.page.items.len() == self.query.limit
    }

    /// Whether the budget of the page is used up, and the next one can start further down.
    fn is_over(&self) -> bool {
        self.read >= self.query.looks() && self.resume.is_some()
    }

    /// Ends the page in this window.
    fn ended(mut self, window: &Window) -> Page {
        let is_read = window.ids.last().is_none_or(|&id| Some(id) == self.last);
        let next = self.resume.filter(|_| !(window.is_last && is_read));
        self.page.next = next.map(|below| Cursor(Ended::Index(self.index, below)));
        self.page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_times_is_a_range_of_ids() {
        let id = JobId::generate(Partition::default());
        let at = |ms| first_of(Timestamp::from_unix_ms(ms));
        let created_at = id.created_at().unix_ms();
        assert!(at(created_at) < id.to_string() && id.to_string() < at(created_at + 1));
        assert_eq!(at(u64::MAX).len(), "ffffffff-ffff".len());
    }
}
