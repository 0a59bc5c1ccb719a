//! The names of queues in their order, a range at a time: what a page reads does not depend on how many queues there are.

use std::ops::Bound;

use super::error::Error;
use super::transfer::MinRate;
use super::{Broker, reply};
use crate::job::Partition;
use crate::queue::QueueName;

/// What a name takes at most, with what is around it.
pub(super) const NAME_BYTES: u64 = 80;

impl Broker {
    /// The first `most` names from there on that a partition knows, sorted. One round trip.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub(super) async fn queue_names(
        &self,
        partition: Partition,
        from: Bound<&QueueName>,
        most: usize,
    ) -> Result<Vec<QueueName>, Error> {
        let keys = self.settings.keys(partition);
        let start = match from {
            Bound::Included(name) => format!("[{name}"),
            Bound::Excluded(name) => format!("({name}"),
            Bound::Unbounded => "-".to_owned(),
        };
        let mut ask = redis::pipe();
        ask.cmd("ZCARD").arg(keys.queues()).cmd("ZCARD").arg(keys.names());
        ask.cmd("ZRANGE").arg(keys.names()).arg(start).arg("+").arg("BYLEX");
        ask.arg("LIMIT").arg(0).arg(most);
        let replies = self.pages.read(&ask, most as u64 * NAME_BYTES, MinRate::ForCaller).await?;
        let [known, named, names] = reply::fields(redis::Value::Array(replies))?;
        if known == named {
            return read_names(names);
        }
        self.all_queue_names(partition, from, most).await
    }

    /// The same from the index by use, all of which is read: where an earlier version runs as well, or ran until a sweep corrects
    /// it, the index by name has other names.
    async fn all_queue_names(
        &self,
        partition: Partition,
        from: Bound<&QueueName>,
        most: usize,
    ) -> Result<Vec<QueueName>, Error> {
        let mut ask = redis::pipe();
        ask.cmd("ZRANGE").arg(self.settings.keys(partition).queues()).arg(0).arg(-1);
        let bytes = u64::from(self.settings.max_queues) * NAME_BYTES;
        let mut replies = self.pages.read(&ask, bytes, MinRate::ForCaller).await?;
        let mut names: Vec<QueueName> = read_names(replies.swap_remove(0))?;
        names.retain(|name| match from {
            Bound::Included(first) => name >= first,
            Bound::Excluded(before) => name > before,
            Bound::Unbounded => true,
        });
        names.sort_unstable();
        names.truncate(most);
        Ok(names)
    }
}

fn read_names(names: redis::Value) -> Result<Vec<QueueName>, Error> {
    reply::array(names)?.into_iter().map(reply::parsed).collect()
}
