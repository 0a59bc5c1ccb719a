//! Which schedule submitted a job, and for which tick: a field of the job.

use crate::schedule::ScheduleName;
use crate::time::Timestamp;

/// The schedule and the tick that a job was submitted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduledBy {
    /// The schedule.
    pub name: ScheduleName,
    /// The tick.
    pub tick: Timestamp,
}

impl ScheduledBy {
    pub(super) fn read(text: &str) -> Option<Self> {
        let (name, tick) = text.split_once(' ')?;
        let tick = Timestamp::from_unix_ms(tick.parse().ok()?);
        Some(Self { name: name.parse().ok()?, tick })
    }

    /// The value of the job's field.
    pub(super) fn field(&self) -> String {
        format!("{} {}", self.name, self.tick.unix_ms())
    }
}
