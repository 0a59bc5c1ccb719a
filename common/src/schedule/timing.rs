//! When the ticks of a schedule are.

use std::time::Duration;

use jiff::Zoned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::cron::CronLine;
use super::{ScheduleName, Zone};
use crate::job::MAX_DURATION;
use crate::time::{Timestamp, as_ms, whole_ms};

/// By what ticks follow each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// A line of cron, in the schedule's time zone.
    Cron(CronLine),
    /// An interval: the start of the schedule and every so often after it; without a start, the multiples since 1970.
    #[serde(rename = "every_ms", with = "as_ms")]
    Every(Duration),
}

/// When the ticks of a schedule are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// By what they follow each other.
    #[serde(flatten)]
    pub rule: Rule,
    /// The time zone of a line of cron.
    #[serde(default)]
    pub time_zone: Zone,
    /// Each tick is due up to this much later, by a number made of the schedule's name and the tick.
    #[serde(rename = "jitter_ms", with = "as_ms", default)]
    pub jitter: Duration,
    /// No tick is earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<Timestamp>,
    /// No tick is later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_at: Option<Timestamp>,
}

/// Why a timing cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTiming {
    /// Its dates never come, such as the 31st of February.
    #[error("no such date comes until the year 2199")]
    Never,
    /// There is no tick between its start and its end, or none after now.
    #[error("there is no tick from now on, between start_at and end_at")]
    NoTick,
}

/// A next tick that cannot be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the next tick after {after} cannot be computed: {reason}")]
pub struct Uncomputable {
    after: Timestamp,
    reason: String,
}

/// How many gaps of a zone a search passes that are too long for the library: a zone skips a day once in a century.
const LONG_GAPS: usize = 4;
/// How many changes of a zone's clock are looked at to find such a gap.
const CLOCK_CHANGES: usize = 16;

impl Timing {
    /// The shortest interval.
    pub const MIN_INTERVAL: Duration = Duration::from_secs(1);
    /// The longest interval.
    pub const MAX_INTERVAL: Duration = MAX_DURATION;
    /// The largest jitter, a day.
    pub const MAX_JITTER: Duration = Duration::from_secs(24 * 3600);

    /// Returns a timing in UTC without jitter, start or end.
    #[must_use]
    pub fn of(rule: Rule) -> Self {
        let time_zone = Zone::default();
        Self { rule, time_zone, jitter: Duration::ZERO, start_at: None, end_at: None }
    }

    /// Returns the first tick after a time; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be computed.
    pub fn next_after(&self, time: Timestamp) -> Result<Option<Timestamp>, Uncomputable> {
        let next = match &self.rule {
            Rule::Every(interval) => Some(self.multiple_after(time, whole_ms(*interval))),
            Rule::Cron(line) => {
                let before_start =
                    |start: Timestamp| Timestamp::from_unix_ms(start.unix_ms().saturating_sub(1));
                let after = self.start_at.map_or(time, |start| time.max(before_start(start)));
                self.cron_after(line, after)?
            }
        };
        Ok(next.filter(|next| self.end_at.is_none_or(|end| *next <= end)))
    }

    /// Returns when a tick is due: at its time plus its jitter.
    #[must_use]
    pub fn due(&self, name: &ScheduleName, tick: Timestamp) -> Timestamp {
        let range = whole_ms(self.jitter);
        if range == 0 {
            return tick;
        }
        let digest =
            Sha256::new().chain_update(name.as_str()).chain_update(tick.unix_ms().to_be_bytes());
        let number = digest.finalize()[..8]
            .iter()
            .fold(0, |number: u64, &byte| number << 8 | u64::from(byte));
        Timestamp::from_unix_ms(tick.unix_ms() + number % (range + 1))
    }

    /// Checks that there is a tick after a time, and returns the first one.
    ///
    /// # Errors
    /// Why there is none.
    pub fn first_after(&self, time: Timestamp) -> Result<Timestamp, InvalidTiming> {
        if let Rule::Cron(line) = &self.rule {
            let any = self.zoned(time).ok().and_then(|time| line.next_after(&time).ok());
            if any.is_none() && !matches!(self.cron_after(line, time), Ok(Some(_))) {
                return Err(InvalidTiming::Never);
            }
        }
        self.next_after(time).ok().flatten().ok_or(InvalidTiming::NoTick)
    }

    fn multiple_after(&self, time: Timestamp, interval: u64) -> Timestamp {
        let interval = interval.max(1);
        let (time, start) = (time.unix_ms(), self.start_at.map_or(0, Timestamp::unix_ms));
        if self.start_at.is_some() && time < start {
            return Timestamp::from_unix_ms(start);
        }
        let passed = (time - start) / interval;
        Timestamp::from_unix_ms(start + (passed + 1) * interval)
    }

    fn cron_after(
        &self,
        line: &CronLine,
        time: Timestamp,
    ) -> Result<Option<Timestamp>, Uncomputable> {
        let error = |reason: String| Uncomputable { after: time, reason };
        let mut from = self.zoned(time).map_err(error)?;
        let mut found = line.next_after(&from);
        for _ in 0..LONG_GAPS {
            match found {
                Ok(next) => {
                    return Ok(u64::try_from(next.timestamp().as_millisecond())
                        .ok()
                        .map(Timestamp::from_unix_ms));
                }
                Err(cause) => {
                    // A day that a zone left out has no ticks: the search goes on where the clock does.
                    let end = end_of_long_gap(&from).ok_or_else(|| error(cause.to_string()))?;
                    found = line.next_from(&end);
                    from = end;
                }
            }
        }
        Err(error("too many gaps of the time zone".to_owned()))
    }

    fn zoned(&self, time: Timestamp) -> Result<Zoned, String> {
        let ms = i64::try_from(time.unix_ms()).map_err(|error| error.to_string())?;
        let time = jiff::Timestamp::from_millisecond(ms).map_err(|error| error.to_string())?;
        Ok(time.to_zoned(self.time_zone.rules().clone()))
    }
}

/// Returns the end of the first gap after a time in which a zone's clock leaves out more than two hours.
fn end_of_long_gap(time: &Zoned) -> Option<Zoned> {
    let zone = time.time_zone();
    let mut before = time.offset().seconds();
    for change in zone.following(time.timestamp()).take(CLOCK_CHANGES) {
        let after = change.offset().seconds();
        if after - before > 2 * 3600 {
            return Some(change.timestamp().to_zoned(zone.clone()));
        }
        before = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn cron(line: &str) -> Timing {
        Timing::of(Rule::Cron(line.parse().unwrap()))
    }

    fn every(ms: u64) -> Timing {
        Timing::of(Rule::Every(Duration::from_millis(ms)))
    }

    #[test]
    fn dates_that_never_come_are_refused_and_rare_ones_are_not() {
        let now = at("2026-01-01T00:00:00Z");
        for never in ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 30 2 +MON"] {
            assert_eq!(cron(never).first_after(now), Err(InvalidTiming::Never), "{never}");
        }
        for (rare, first) in [
            ("0 0 29 2 *", "2028-02-29T00:00:00Z"),
            ("0 0 29 2 +MON", "2044-02-29T00:00:00Z"),
            ("0 0 31 2 MON", "2026-02-02T00:00:00Z"),
        ] {
            assert_eq!(cron(rare).first_after(now), Ok(at(first)), "{rare}");
        }
        let leap = cron("0 0 29 2 *").next_after(at("2096-03-01T00:00:00Z"));
        assert_eq!(leap, Ok(Some(at("2104-02-29T00:00:00Z"))));
    }

    #[test]
    fn ticks_lie_between_start_and_end() {
        let (start, end) = (at("2026-03-01T02:00:00Z"), at("2026-03-02T02:00:00Z"));
        let timing = Timing { start_at: Some(start), end_at: Some(end), ..cron("0 2 * * *") };
        let before = at("2026-01-01T00:00:00Z");
        assert_eq!(timing.next_after(before), Ok(Some(start)));
        assert_eq!(timing.next_after(start), Ok(Some(end)));
        assert_eq!(timing.next_after(end), Ok(None));
        assert_eq!(timing.first_after(end), Err(InvalidTiming::NoTick));
    }

    #[test]
    fn intervals_are_multiples_since_their_start_or_since_1970() {
        let now = at("2026-01-01T00:00:00.500Z");
        assert_eq!(every(60_000).next_after(now), Ok(Some(at("2026-01-01T00:01:00Z"))));
        let start = at("2026-01-01T00:00:07.250Z");
        let timing = Timing { start_at: Some(start), ..every(60_000) };
        assert_eq!(timing.next_after(now), Ok(Some(start)));
        assert_eq!(timing.next_after(start), Ok(Some(at("2026-01-01T00:01:07.250Z"))));
        let long_after = at("2026-01-01T01:00:00Z");
        assert_eq!(timing.next_after(long_after), Ok(Some(at("2026-01-01T01:00:07.250Z"))));
    }

    #[test]
    fn jitter_is_the_same_each_time_and_spreads() {
        let timing = Timing { jitter: Duration::from_secs(10), ..every(60_000) };
        let name: ScheduleName = "nightly".parse().unwrap();
        let tick = at("2026-01-01T00:00:00Z");
        let delays: std::collections::BTreeSet<_> = (0..1000)
            .map(|minute| {
                let tick = Timestamp::from_unix_ms(tick.unix_ms() + minute * 60_000);
                assert_eq!(timing.due(&name, tick), timing.due(&name, tick));
                timing.due(&name, tick).unix_ms() - tick.unix_ms()
            })
            .collect();
        assert!(delays.len() > 900, "{}", delays.len());
        assert!(delays.iter().all(|delay| *delay <= 10_000));
        assert_eq!(every(60_000).due(&name, tick), tick);
    }

    #[test]
    fn a_timing_reads_back_as_it_was_written() {
        for timing in [
            cron("0 2 * * *"),
            Timing {
                time_zone: "Europe/Berlin".parse().unwrap(),
                jitter: Duration::from_secs(5),
                start_at: Some(at("2026-01-01T00:00:00Z")),
                ..every(1000)
            },
        ] {
            let text = serde_json::to_string(&timing).unwrap();
            assert_eq!(serde_json::from_str::<Timing>(&text).unwrap(), timing, "{text}");
        }
    }
}
