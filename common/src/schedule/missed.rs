//! What becomes of ticks at which no process submitted their jobs in time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::job::MAX_DURATION;
use crate::time::as_ms;

crate::word_enum! {
    /// Which missed ticks are made up for.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub enum MissedPolicy {
        /// None.
        Skip = "skip",
        /// One job for all of them: that of the last one.
        #[default]
        Once = "once",
        /// All, the oldest first, within bounds.
        All = "all",
    }
}

/// What becomes of missed ticks. A tick is missed if the next one is due before its job was submitted, or if it is
/// [`Missed::LATE`] and more late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// Which are made up for.
    pub policy: MissedPolicy,
    /// With [`MissedPolicy::All`]: how many at most, the newest of them. 1 to [`Missed::MAX_TICKS`].
    pub at_most: u32,
    /// With [`MissedPolicy::All`]: older ones are not made up for. 1 s to [`MAX_DURATION`].
    #[serde(rename = "within_ms", with = "as_ms")]
    pub within: Duration,
}

impl Missed {
    /// With [`MissedPolicy::Skip`], how late a tick may be: more than a restart of all processes takes.
    pub const LATE: Duration = Duration::from_secs(10);
    /// The largest [`Missed::at_most`]: each is a job.
    pub const MAX_TICKS: u32 = 1000;
    /// The default of [`Missed::at_most`].
    pub const DEFAULT_TICKS: u32 = 100;
    /// The default of [`Missed::within`], a day.
    pub const DEFAULT_WITHIN: Duration = Duration::from_secs(24 * 3600);
    /// The smallest [`Missed::within`].
    pub const MIN_WITHIN: Duration = Duration::from_secs(1);
    /// The largest [`Missed::within`].
    pub const MAX_WITHIN: Duration = MAX_DURATION;
}

impl Default for Missed {
    fn default() -> Self {
        let (at_most, within) = (Self::DEFAULT_TICKS, Self::DEFAULT_WITHIN);
        Self { policy: MissedPolicy::default(), at_most, within }
    }
}
