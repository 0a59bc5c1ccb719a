//! Points in time as Redis returns them: whole milliseconds since the Unix epoch, written as RFC 3339 UTC.
//!
//! State changes never read this machine's clock: the functions use Redis' own `TIME`. [`Timestamp::now`] is for
//! display (ids, logs, deadlines shown to handlers), never for a decision about a job.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// A point in time: milliseconds since the Unix epoch; from 1970 to the last days of the year 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

/// 9999-12-30T22:00:00.000Z: the last instant that RFC 3339 can express in every time zone, and that `jiff` accepts.
const LATEST_MS: u64 = 253_402_207_200_000;

impl Timestamp {
    /// The given number of milliseconds after the Unix epoch; a time that is too late for RFC 3339 becomes the last one
    /// that it can express.
    #[must_use]
    pub const fn from_unix_ms(ms: u64) -> Self {
        if ms > LATEST_MS { Self(LATEST_MS) } else { Self(ms) }
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn unix_ms(self) -> u64 {
        self.0
    }

    /// Time of this machine's clock. For display and rough order only.
    #[must_use]
    pub fn now() -> Self {
        let since_epoch = local_clock().duration_since(SystemTime::UNIX_EPOCH);
        Self::from_unix_ms(
            u64::try_from(since_epoch.unwrap_or_default().as_millis()).unwrap_or(u64::MAX),
        )
    }

    /// The time from `self` to `later`; zero if `later` is not later.
    #[must_use]
    pub const fn until(self, later: Self) -> Duration {
        Duration::from_millis(later.0.saturating_sub(self.0))
    }
}

/// Returns the time of this machine's clock, as exact as it is: for spans, which may be shorter than a millisecond.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the only place that reads the local clock")]
pub fn local_clock() -> SystemTime {
    SystemTime::now()
}

/// Text that is not an RFC 3339 instant between 1970 and 9999.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an RFC 3339 time with an offset, such as 2026-11-22T13:40:54.426Z")]
pub struct InvalidTimestamp;

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let instant: jiff::Timestamp = text.parse().map_err(|_| InvalidTimestamp)?;
        u64::try_from(instant.as_millisecond())
            .map(Self::from_unix_ms)
            .map_err(|_| InvalidTimestamp)
    }
}

/// Writes RFC 3339 in UTC with exactly three digits of the second: `2026-11-22T13:40:54.426Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = i64::try_from(self.0).map_err(|_| fmt::Error)?;
        let instant = jiff::Timestamp::from_millisecond(ms).map_err(|_| fmt::Error)?;
        write!(f, "{instant:.3}")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Whole milliseconds of a duration, as on the wire; a duration beyond `u64` becomes `u64::MAX`.
#[must_use]
pub fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// (De)serializes a [`Duration`] as whole milliseconds, for members whose name ends in `_ms`.
pub mod as_ms {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes whole milliseconds.
    ///
    /// # Errors
    /// If the serializer reports an error.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(super::whole_ms(*duration))
    }

    /// Reads whole milliseconds.
    ///
    /// # Errors
    /// If the value is not an unsigned whole number.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_milliseconds_in_utc() {
        let time = Timestamp::from_unix_ms(1_795_354_854_426);
        assert_eq!(time.to_string(), "2026-11-22T13:40:54.426Z");
        assert_eq!("2026-11-22T14:40:54.426+01:00".parse(), Ok(time));
        assert_eq!(Timestamp::from_unix_ms(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp::from_unix_ms(u64::MAX).to_string(), "9999-12-30T22:00:00.000Z");
    }

    #[test]
    fn other_text_is_refused() {
        for bad in ["", "tomorrow", "2026-11-22", "2026-11-22T13:40:54", "1969-12-31T23:59:59Z"] {
            assert_eq!(bad.parse::<Timestamp>(), Err(InvalidTimestamp), "{bad}");
        }
    }
}
