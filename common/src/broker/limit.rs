//! What a limit says: how many jobs run, and start in a time. A queue has one, and queues may share some.
//! `lua/limits.lua` keeps to them.

use redis::{Pipeline, Value};

use super::error::Error;
use super::group_rule::{GroupRule, Rate};
use super::reply;
use crate::time::Timestamp;

/// How many jobs run, and start in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limit {
    /// How many jobs may run at the same time: 1 to 1 000 000. `None`: any number.
    pub concurrency: Option<u32>,
    /// How many jobs may start in a time. `None`: any number.
    pub rate: Option<Rate>,
}

/// Whether a limit lets a job start now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LimitState {
    /// It does.
    Open,
    /// Its rate allows the next start at this time.
    Delayed(Timestamp),
    /// As many jobs run as may.
    Blocked,
}

impl Limit {
    /// Returns it as `lua/limits.lua` reads it, with the names at its end.
    pub(super) fn text(self, names: &[impl AsRef<str>]) -> String {
        let (concurrency, rate) = (self.concurrency, self.rate);
        let names: Vec<_> = names.iter().map(AsRef::as_ref).collect();
        GroupRule { concurrency, rate, ..GroupRule::default() }.text(&names.join(","))
    }

    /// Parses it, with the names at its end.
    pub(super) fn read(text: &str) -> Option<(Self, impl Iterator<Item = &str>)> {
        let (rule, names) = GroupRule::read(text)?;
        let names = names.split(',').filter(|name| !name.is_empty());
        Some((Self { concurrency: rule.concurrency, rate: rule.rate }, names))
    }

    /// As `limits.may_start` and `limits.waits_until` of `lua/limits.lua`.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "times of this century are whole numbers far below 2^53"
    )]
    fn state(self, running: u64, arrival: f64, now_ms: u64) -> LimitState {
        if self.concurrency.is_some_and(|most| running >= u64::from(most)) {
            return LimitState::Blocked;
        }
        let Some(rate) = self.rate else { return LimitState::Open };
        let gap = rate.per.as_millis() as f64 / f64::from(rate.starts);
        let arrival = arrival.min(now_ms as f64 + f64::from(rate.burst) * gap);
        let start = (arrival - f64::from(rate.burst - 1) * gap).ceil();
        if start > now_ms as f64 {
            LimitState::Delayed(Timestamp::from_unix_ms(start as u64))
        } else {
            LimitState::Open
        }
    }
}

/// What is read to know the state of a limit: how many jobs run in its queues, and its arrival time.
pub(super) struct Usage {
    queues: usize,
}

impl Usage {
    /// Adds to a pipeline the reads of a limit whose queues have these sets of running jobs, and whose arrival time is there.
    pub(super) fn ask(
        pipeline: &mut Pipeline,
        running: &[String],
        rates: &str,
        name: &str,
    ) -> Self {
        for key in running {
            pipeline.cmd("ZCARD").arg(key);
        }
        pipeline.cmd("ZSCORE").arg(rates).arg(name);
        Self { queues: running.len() }
    }

    /// Reads the replies, in the same order: how many jobs run, and whether one may start.
    pub(super) fn read(
        self,
        replies: &mut impl Iterator<Item = Value>,
        limit: Limit,
        now_ms: u64,
    ) -> Result<(u64, LimitState), Error> {
        let mut running = 0;
        for reply in replies.by_ref().take(self.queues) {
            running += reply::unsigned(&reply)?;
        }
        let arrival = match replies.next().unwrap_or(Value::Nil) {
            Value::Nil => 0.0,
            arrival => reply::parsed(arrival)?,
        };
        Ok((running, limit.state(running, arrival, now_ms)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_limit_shows_whether_a_job_may_start() {
        let rate = Some(Rate { starts: 10, per: Duration::from_secs(1), burst: 2 });
        let limit = Limit { concurrency: Some(2), rate };
        let text = limit.text(&["one", "two"]);
        let (read, names) = Limit::read(&text).unwrap();
        assert_eq!((read, names.collect::<Vec<_>>()), (limit, vec!["one", "two"]));
        assert_eq!(Limit::read(&limit.text(&[""; 0])).unwrap().1.count(), 0);
        assert_eq!(limit.state(2, 0.0, 1000), LimitState::Blocked);
        assert_eq!(limit.state(1, 1100.0, 1000), LimitState::Open);
        let later = LimitState::Delayed(Timestamp::from_unix_ms(1001));
        assert_eq!(limit.state(1, 1100.5, 1000), later);
        // What a slower rate left does not count.
        let latest = LimitState::Delayed(Timestamp::from_unix_ms(1100));
        assert_eq!(limit.state(1, 1e12, 1000), latest);
    }
}
