//! Sorted names of queues, one range at a time: the cost of a page does not depend on the number of queues.

use std::ops::Bound;

use super::error::Error;
use super::transfer::MinRate;
use super::{Broker, reply};
use crate::job::Partition;
use crate::queue::QueueName;

/// Maximum size of a name in a reply, including overhead.
pub(super) const NAME_BYTES: u64 = 80;

impl Broker {
    /// Returns the first `max` queue names of a partition from `from` on, sorted. One round trip.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub(super) async fn queue_names(
        &self,
        partition: Partition,
        from: Bound<&QueueName>,
        max: usize,
    ) -> Result<Vec<QueueName>, Error> {
        let keys = self.settings.keys(partition);
        let start = match from {
            Bound::Included(name) => format!("[{name}"),
            Bound::Excluded(name) => format!("({name}"),
            Bound::Unbounded => "-".to_owned(),
        };
        let mut pipeline = redis::pipe();
        pipeline.cmd("ZCARD").arg(keys.queues()).cmd("ZCARD").arg(keys.names());
        pipeline.cmd("ZRANGE").arg(keys.names()).arg(start).arg("+").arg("BYLEX");
        pipeline.arg("LIMIT").arg(0).arg(max);
        let replies = self
            .pages
            .read(partition, &pipeline, max as u64 * NAME_BYTES, MinRate::ForCaller)
            .await?;
        let [by_use, by_name, names] = reply::fields(redis::Value::Array(replies))?;
        if by_use == by_name {
            return read_names(names);
        }
        self.all_queue_names(partition, from, max).await
    }

    /// Like `queue_names`, but reads the whole index by use: while an earlier version also runs, or after it ran until
    /// a sweep corrects it, the index by name has other names.
    async fn all_queue_names(
        &self,
        partition: Partition,
        from: Bound<&QueueName>,
        max: usize,
    ) -> Result<Vec<QueueName>, Error> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("ZRANGE").arg(self.settings.keys(partition).queues()).arg(0).arg(-1);
        let bytes = u64::from(self.settings.max_queues) * NAME_BYTES;
        let mut replies = self.pages.read(partition, &pipeline, bytes, MinRate::ForCaller).await?;
        let mut names: Vec<QueueName> = read_names(replies.swap_remove(0))?;
        names.retain(|name| match from {
            Bound::Included(first) => name >= first,
            Bound::Excluded(before) => name > before,
            Bound::Unbounded => true,
        });
        names.sort_unstable();
        names.truncate(max);
        Ok(names)
    }
}

fn read_names(names: redis::Value) -> Result<Vec<QueueName>, Error> {
    reply::array(names)?.into_iter().map(reply::parsed).collect()
}
