//! Minutes and hours: the parts of the history.

use std::fmt;
use std::time::Duration;

use crate::time::Timestamp;

/// The length of the parts of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Kept for 72 hours.
    Minute,
    /// Kept for 90 days.
    Hour,
}

impl Unit {
    /// Returns the one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Minute, Self::Hour].into_iter().find(|unit| unit.as_str() == name)
    }

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
        }
    }

    /// Its length.
    #[must_use]
    pub const fn length(self) -> Duration {
        match self {
            Self::Minute => Duration::from_secs(60),
            Self::Hour => Duration::from_secs(3600),
        }
    }

    /// Returns how many have passed from 1970 to the beginning of the one that contains this time.
    #[must_use]
    pub const fn number(self, time: Timestamp) -> u64 {
        time.unix_ms() / (self.length().as_secs() * 1000)
    }

    /// Returns the beginning of the one with this number.
    #[must_use]
    pub const fn start(self, number: u64) -> Timestamp {
        Timestamp::from_unix_ms(number.saturating_mul(self.length().as_secs() * 1000))
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_unit_that_begins_before_it() {
        let time: Timestamp = "2026-11-30T09:41:12.345Z".parse().unwrap();
        for (unit, start) in
            [(Unit::Minute, "2026-11-30T09:41:00Z"), (Unit::Hour, "2026-11-30T09:00:00Z")]
        {
            assert_eq!(unit.start(unit.number(time)), start.parse().unwrap());
        }
    }
}
