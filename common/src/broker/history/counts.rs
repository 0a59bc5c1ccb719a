//! How the attempts of one task in one queue ended, as heartbeats carry it and the history keeps it.

use std::fmt;
use std::time::Duration;

use super::super::error::Error;
use crate::time::whole_ms;

/// How many attempts ended in which way, and how long they took together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    /// With success.
    pub succeeded: u64,
    /// With a failure that ended the job.
    pub failed: u64,
    /// With a failure after which the job is tried again.
    pub retried: u64,
    /// Because the job was canceled.
    pub canceled: u64,
    /// The sum of their durations in milliseconds.
    pub run_ms: u64,
}

impl Ended {
    /// The number of attempts.
    #[must_use]
    pub const fn attempts(&self) -> u64 {
        self.succeeded + self.failed + self.retried + self.canceled
    }

    /// Adds others.
    pub(super) fn add(&mut self, others: &Self) {
        let mut others = *others;
        for (count, other) in self.counts().into_iter().zip(others.counts()) {
            *count = count.saturating_add(*other);
        }
    }

    /// In the order of their numbers in Redis.
    const fn counts(&mut self) -> [&mut u64; Self::COUNTS] {
        let Self { succeeded, failed, retried, canceled, run_ms } = self;
        [succeeded, failed, retried, canceled, run_ms]
    }

    const COUNTS: usize = 5;
}

/// How many attempts took how long, by powers of two of milliseconds: the error of a quantile is at most a factor of two, up to two hours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Durations([u64; Self::BUCKETS]);

impl Durations {
    /// The last one has everything above 70 minutes.
    const BUCKETS: usize = 24;

    fn add(&mut self, took_ms: u64) {
        self.0[bucket_of(took_ms)] += 1;
    }

    /// Adds others.
    pub fn merge(&mut self, others: &Self) {
        for (count, other) in self.0.iter_mut().zip(others.0) {
            *count = count.saturating_add(other);
        }
    }

    /// Returns the most that each range of durations has, and how many attempts were in it.
    pub fn counts(&self) -> impl Iterator<Item = (Duration, u64)> {
        let most = |bucket: usize| Duration::from_millis(1 << bucket);
        self.0.iter().enumerate().map(move |(bucket, &count)| (most(bucket), count))
    }

    /// Returns the duration below which this share of the attempts was, 0 to 1; `None` without attempts.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let total: u64 = self.0.iter().sum();
        let rank = share * total as f64;
        let mut below = 0.0;
        for (bucket, &count) in self.0.iter().enumerate() {
            let here = count as f64;
            if count > 0 && below + here >= rank {
                let [least, most] = bounds(bucket);
                let ms = least + (most - least) * (rank - below) / here;
                return Some(Duration::from_secs_f64(ms / 1000.0));
            }
            below += here;
        }
        None
    }
}

/// The number of bits of a duration in milliseconds.
fn bucket_of(ms: u64) -> usize {
    ((u64::BITS - ms.leading_zeros()) as usize).min(Durations::BUCKETS - 1)
}

/// The least and the most milliseconds in a bucket.
fn bounds(bucket: usize) -> [f64; 2] {
    let most = f64::from(1_u32 << bucket);
    if bucket == 0 { [0.0, 1.0] } else { [most / 2.0, most] }
}

/// How attempts of one task in one queue ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttemptCounts {
    /// In which way.
    pub ended: Ended,
    /// How long they took.
    pub durations: Durations,
}

impl AttemptCounts {
    /// Counts an attempt by the [word](super::super::Settlement::word) for its outcome. One that was released is none.
    pub fn add(&mut self, outcome: &str, took: Duration) {
        let ended = &mut self.ended;
        let count = match outcome {
            "succeeded" => &mut ended.succeeded,
            "failed" => &mut ended.failed,
            "retrying" => &mut ended.retried,
            "canceled" => &mut ended.canceled,
            _ => return,
        };
        *count += 1;
        let took_ms = whole_ms(took);
        ended.run_ms += took_ms;
        self.durations.add(took_ms);
    }

    /// Adds what the history has: `<number>=<count>`, separated by spaces.
    pub(super) fn read(&mut self, text: &str) -> Result<(), Error> {
        for word in text.split(' ') {
            let count = word.split_once('=').and_then(|(number, count)| {
                Some((number.parse::<usize>().ok()?, count.parse::<u64>().ok()?))
            });
            let sum = count.and_then(|(number, count)| Some((self.counts().nth(number)?, count)));
            let Some((sum, count)) = sum else {
                return Err(Error::unreadable(format!("unexpected counts in the history: {text}")));
            };
            *sum = sum.saturating_add(count);
        }
        Ok(())
    }

    /// In the order of their numbers in Redis.
    fn counts(&mut self) -> impl Iterator<Item = &mut u64> {
        self.ended.counts().into_iter().chain(&mut self.durations.0)
    }
}

impl fmt::Display for AttemptCounts {
    /// As in Redis: what is 0 is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut this = *self;
        let counts = this.counts().enumerate().filter(|(_, count)| **count > 0);
        for (at, (number, count)) in counts.enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{number}={count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(attempts: &[(&str, u64)]) -> AttemptCounts {
        let mut counts = AttemptCounts::default();
        for &(outcome, ms) in attempts {
            counts.add(outcome, Duration::from_millis(ms));
        }
        counts
    }

    #[test]
    fn counts_are_read_as_they_were_written_and_added() {
        let counts = of(&[("succeeded", 0), ("failed", 1), ("retrying", 1500), ("released", 9)]);
        assert_eq!(counts.to_string(), "0=1 1=1 2=1 4=1501 5=1 6=1 16=1");
        let mut twice = counts;
        twice.read(&counts.to_string()).unwrap();
        assert_eq!(twice.to_string(), "0=2 1=2 2=2 4=3002 5=2 6=2 16=2");
        for wrong in ["x", "1=", "29=1", "1=1  2=1"] {
            assert!(twice.read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_longest_attempt_has_the_last_number() {
        assert_eq!(of(&[("canceled", u64::MAX)]).to_string(), format!("3=1 4={} 28=1", u64::MAX));
    }

    #[test]
    fn quantiles_are_within_a_factor_of_two() {
        assert_eq!(of(&[]).durations.quantile(0.5), None);
        let counts = of(&(1..=1000).map(|ms| ("succeeded", ms)).collect::<Vec<_>>());
        for (share, exact) in [(0.01, 10.0), (0.5, 500.0), (0.9, 900.0), (0.99, 990.0)] {
            let ms = counts.durations.quantile(share).unwrap().as_secs_f64() * 1000.0;
            assert!((exact / 2.0..=exact * 2.0).contains(&ms), "{share}: {ms}");
        }
        let [none, all] = [0.0, 1.0].map(|share| counts.durations.quantile(share).unwrap());
        assert!(none <= Duration::from_millis(1) && all <= Duration::from_millis(1024));
    }
}
