//! A large number of durations, counted by the microsecond: small enough to be sent between processes as text.

use std::collections::BTreeMap;
use std::fmt;

/// How often each number of microseconds was recorded.
#[derive(Debug, Default)]
pub(crate) struct Histogram(BTreeMap<u64, u64>);

impl Histogram {
    pub(crate) fn record(&mut self, micros: u64) {
        *self.0.entry(micros).or_default() += 1;
    }

    /// Adds the counts that another process has written; other lines are its log, and skipped.
    pub(crate) fn read(&mut self, text: &str) {
        for line in text.lines() {
            let entry = line.strip_prefix(MARK).and_then(|rest| rest.split_once(' '));
            if let Some((micros, count)) = entry {
                *self.0.entry(micros.parse().unwrap()).or_default() +=
                    count.parse::<u64>().unwrap();
            }
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.values().sum()
    }

    /// The smallest duration that at least this fraction does not exceed, in milliseconds.
    pub(crate) fn ms(&self, share: f64) -> f64 {
        let rank = ((share * self.count() as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let reached = self.0.iter().find(|(_, count)| {
            seen += *count;
            seen >= rank
        });
        *reached.expect("something was measured").0 as f64 / 1e3
    }
}

const MARK: &str = "histogram: ";

impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(micros, count)| writeln!(f, "{MARK}{micros} {count}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_added() {
        let mut written = Histogram::default();
        (1..=1000).for_each(|micros| written.record(micros));
        let mut read = Histogram::default();
        read.read(&format!("listening\n{written}"));
        read.read(&written.to_string());
        assert_eq!((read.count(), read.ms(0.5), read.ms(0.999)), (2000, 0.5, 0.999));
    }
}
