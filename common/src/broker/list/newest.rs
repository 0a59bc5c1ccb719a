//! The newest jobs over all queues: the first part of a list that is of no status and no queue.
//!
//! Each partition lists its newest jobs as they arrive. A page merges these lists by id, which begins with the time of
//! the submission by the clock of its API. What is older than the end of a full list is left to the walk.

use futures_util::future::join_all;

use super::ListQuery;
use super::place::STRIDE;
use crate::broker::error::Error;
use crate::broker::record::{JobRecord, Lookup};
use crate::broker::{Broker, reply};
use crate::job::{JobId, Partition};

/// How many of the newest jobs a partition lists; as in `lua/sweep.lua`.
const RECENT_JOBS: usize = 1000;
/// How many ids a page reads in all partitions together, about.
const IDS: usize = 16_000;
/// How many jobs are read for a page of which few may match, or few exist, before it continues with the walk.
const LOOKS: usize = 200;

/// Some of the newest jobs.
pub(super) struct Newest {
    pub(super) items: Vec<JobRecord>,
    /// The last one that was read: what follows is older.
    pub(super) last: Option<JobId>,
    /// How many ids were read.
    pub(super) looks: usize,
    /// How many of them are jobs that were not deleted.
    pub(super) looked_at: u64,
    /// Whether the walk is to continue from here.
    pub(super) is_over: bool,
}

impl Newest {
    /// Those that are not older than this one were listed before.
    pub(super) const fn listed_before(last: Option<JobId>) -> Self {
        Self { items: Vec::new(), last, looks: 0, looked_at: 0, is_over: true }
    }
}

impl Broker {
    /// Reads the newest jobs that match, at most a page, from the one after `after` on.
    pub(super) async fn newest(
        &self,
        query: &ListQuery,
        after: Option<JobId>,
    ) -> Result<Newest, Error> {
        let ids = self.newest_ids(after).await?;
        let mut newest = Newest::listed_before(after);
        let (mut first, mut width) = (0, query.limit.clamp(1, STRIDE));
        while newest.looks < LOOKS && first < ids.len() {
            let chunk = &ids[first..ids.len().min(first + width)];
            for (&id, job) in chunk.iter().zip(self.listed(chunk).await?) {
                (newest.last, newest.looks) = (Some(id), newest.looks + 1);
                if let Lookup::Found(job) = job {
                    newest.looked_at += 1;
                    newest.items.extend(Some(job).filter(|job| query.matches(job)));
                }
                if newest.items.len() == query.limit {
                    newest.is_over = ids.last() == Some(&id);
                    return Ok(newest);
                }
            }
            (first, width) = (first + width, (2 * width).min(STRIDE));
        }
        Ok(newest)
    }

    /// Returns the newest jobs of all partitions, the newest first, as far as no partition has others among them.
    async fn newest_ids(&self, after: Option<JobId>) -> Result<Vec<JobId>, Error> {
        let width = (IDS / usize::from(self.settings.space.len())).clamp(1, RECENT_JOBS);
        let lists = join_all(self.partitions().map(|partition| self.recent(partition, width)));
        let (mut ids, mut oldest) = (Vec::new(), None);
        for list in lists.await {
            let list = list?;
            if list.len() == width {
                // Not the last one: the order of arrival is not exactly that of ids, since the clocks of APIs differ, and
                // the delivery of a webhook has an id that is as old as its job.
                oldest = oldest.max(list[width - width.div_ceil(4)..].iter().max().copied());
            }
            ids.extend(list);
        }
        ids.retain(|&id| Some(id) >= oldest && after.is_none_or(|after| id < after));
        ids.sort_unstable_by(|one, other| other.cmp(one));
        ids.dedup();
        Ok(ids)
    }

    /// Returns the newest jobs of a partition, the newest first.
    async fn recent(&self, partition: Partition, most: usize) -> Result<Vec<JobId>, Error> {
        let mut ask = redis::pipe();
        ask.cmd("LRANGE").arg(self.settings.keys(partition).recent()).arg(0).arg(most - 1);
        let ids = reply::array(self.pooled(partition, &ask).await?.swap_remove(0))?;
        ids.into_iter().map(reply::parsed).collect()
    }
}
