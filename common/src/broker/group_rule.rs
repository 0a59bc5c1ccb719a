//! What applies to a group of a queue: its weight, and how many of its jobs may run, start in a time, and wait.
//! `lua/groups.lua` keeps to it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::time::whole_ms;

/// How much of the turns of its queue a group gets, relative to the other groups: 0.001 to 1000. Default 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Weight(f64);

/// Not a weight.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a number from 0.001 to 1000")]
pub struct InvalidWeight;

impl Weight {
    /// Returns a weight.
    ///
    /// # Errors
    /// If it is not in its range.
    pub fn new(weight: f64) -> Result<Self, InvalidWeight> {
        if (0.001..=1000.0).contains(&weight) { Ok(Self(weight)) } else { Err(InvalidWeight) }
    }

    /// Returns it as a number.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(1.0)
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Weight {
    type Err = InvalidWeight;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map_err(|_| InvalidWeight).and_then(Self::new)
    }
}

/// How many jobs may start in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many: 1 to 1 000 000.
    pub starts: u32,
    /// In which time: 1 ms to a day.
    pub per: Duration,
    /// How many may start at once after a pause: 1 to 1 000 000. Otherwise each start is `per / starts` after the last one.
    pub burst: u32,
}

/// In this time as many may start at once as the rate allows, unless a burst is given.
const USUAL_BURST: Duration = Duration::from_millis(100);

impl Rate {
    /// Maximum of `starts` and `burst`.
    pub const MAX_STARTS: u32 = 1_000_000;
    /// Maximum of `per`.
    pub const MAX_TIME: Duration = Duration::from_secs(86_400);

    /// Returns a rate with the usual burst: as many as may start in a tenth of a second, at least one. With less, workers
    /// that are a little late would lose starts.
    #[must_use]
    pub fn usual(starts: u32, per: Duration) -> Self {
        let in_burst = u128::from(starts) * USUAL_BURST.as_millis() / per.as_millis().max(1);
        let burst = u32::try_from(in_burst).unwrap_or(u32::MAX).clamp(1, Self::MAX_STARTS);
        Self { starts, per, burst }
    }
}

/// What applies to a group of a queue. A group without a rule of its own has the rule for each group of the queue, if there is
/// one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GroupRule {
    /// Its share of the turns.
    pub weight: Weight,
    /// How many of its jobs may run at the same time: 1 to 1 000 000. `None`: any number.
    pub concurrency: Option<u32>,
    /// How many of its jobs may start in a time. `None`: any number.
    pub rate: Option<Rate>,
    /// How many of its jobs may wait: others are rejected. `None`: as many as in the queue.
    pub max_queued: Option<u32>,
}

impl GroupRule {
    /// Maximum of `concurrency` and `max_queued`.
    pub const MAX_JOBS: u32 = 1_000_000;

    /// Returns it as `lua/limits.lua` reads it, with a name at its end.
    pub(super) fn text(&self, name: &str) -> String {
        let or_none = |number: Option<u32>| number.map_or("-".to_owned(), |it| it.to_string());
        let rate = self
            .rate
            .map_or("-".to_owned(), |rate| format!("{}/{}", rate.starts, whole_ms(rate.per)));
        let words = [
            self.weight.to_string(),
            or_none(self.concurrency),
            rate,
            or_none(self.rate.map(|rate| rate.burst)),
            or_none(self.max_queued),
        ];
        format!("{} {name}", words.join(" "))
    }

    /// Parses it, with the name at its end.
    pub(super) fn read(text: &str) -> Option<(Self, &str)> {
        let mut words = text.splitn(6, ' ');
        let mut word = || words.next();
        let (weight, concurrency, rate, burst, most) =
            (word()?, word()?, word()?, word()?, word()?);
        let number = |text: &str| text.parse().ok();
        let rate = rate.split_once('/').and_then(|(starts, ms)| {
            let per = Duration::from_millis(ms.parse().ok()?);
            Some(Rate { starts: number(starts)?, per, burst: number(burst)? })
        });
        let rule = Self {
            weight: weight.parse().ok()?,
            concurrency: number(concurrency),
            rate,
            max_queued: number(most),
        };
        Some((rule, words.next().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_burst_is_what_may_start_in_a_tenth_of_a_second() {
        let burst = |starts, ms| Rate::usual(starts, Duration::from_millis(ms)).burst;
        assert_eq!([burst(100, 60_000), burst(200, 1000), burst(1_000_000, 1)], [1, 20, 1_000_000]);
    }

    #[test]
    fn a_rule_reads_back_as_itself() {
        let rate = Rate { starts: 100, per: Duration::from_secs(60), burst: 5 };
        let rules = [
            GroupRule::default(),
            GroupRule {
                weight: Weight::new(2.5).unwrap(),
                concurrency: Some(1),
                rate: Some(rate),
                max_queued: Some(7),
            },
        ];
        for rule in rules {
            for name in ["", "a b"] {
                assert_eq!(GroupRule::read(&rule.text(name)), Some((rule.clone(), name)));
            }
        }
    }

    #[test]
    fn a_weight_is_a_number_in_its_range() {
        for good in ["1", "0.001", "1000", "2.5"] {
            assert_eq!(good.parse::<Weight>().unwrap().to_string(), good);
        }
        for bad in ["", "0", "-1", "1001", "0.0001", "NaN", "inf", "x"] {
            assert!(bad.parse::<Weight>().is_err(), "{bad}");
        }
    }
}
