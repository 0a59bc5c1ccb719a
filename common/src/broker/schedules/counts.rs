//! How many schedules there are, and whether somebody looks at them: for metrics.

use std::time::Duration;

use redis::Value;

use crate::broker::error::Error;
use crate::broker::{Broker, reply};
use crate::time::Timestamp;

use super::fire::score_ms;

/// How many schedules there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScheduleCounts {
    /// Those with something to do: a next tick, a buffered one or a backfill.
    pub active: u64,
    /// The others: they are paused, or have ended.
    pub inactive: u64,
    /// For how long something has been due at which no process has looked.
    pub late: Duration,
}

impl Broker {
    /// Counts the schedules.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn schedule_counts(&self) -> Result<ScheduleCounts, Error> {
        let mut counts = ScheduleCounts::default();
        for partition in self.partitions() {
            let keys = self.settings.keys(partition);
            let mut pipeline = redis::pipe();
            pipeline.cmd("ZCARD").arg(keys.schedule_names()).cmd("ZCARD").arg(keys.schedules());
            pipeline.cmd("ZRANGE").arg(keys.schedules()).arg(0).arg(0).arg("WITHSCORES");
            let replies = self.pooled(partition, pipeline.cmd("TIME")).await?;
            let [all, active, first, now] = reply::fields(Value::Array(replies))?;
            let (all, active) = (reply::unsigned(&all)?, reply::unsigned(&active)?);
            counts.active += active;
            counts.inactive += all.saturating_sub(active);
            let now = Timestamp::from_unix_ms(reply::time_ms(now)?);
            let due = reply::array(first)?.pop().map(score_ms).transpose()?;
            counts.late = counts.late.max(due.map(|due| due.until(now)).unwrap_or_default());
        }
        Ok(counts)
    }
}
