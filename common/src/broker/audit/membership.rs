//! The group of a job, as its record has it.

use redis::Value;

use crate::broker::{GroupId, reply};
use crate::job::Priority;

/// The field `group` of a job: its group, and its number among the jobs of the queue's groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) group: GroupId,
    number: u64,
}

impl Membership {
    pub(super) fn read(field: Value) -> Option<Self> {
        let text = reply::text(field).ok()?;
        let (group, number) = text.split_once(' ')?;
        Some(Self { group: group.parse().ok()?, number: number.parse().ok()? })
    }

    /// Its place in the group, as in `lua/groups.lua`.
    pub(super) fn place(&self, priority: Priority) -> u64 {
        let rank = Priority::ALL.iter().position(|known| *known == priority).unwrap_or_default();
        ((rank as u64) << 50) + self.number
    }
}
