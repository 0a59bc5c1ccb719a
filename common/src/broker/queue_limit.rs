//! The limit of a queue: how many of its jobs run, and start in a time, whatever their groups. `lua/limits.lua` keeps to
//! it, `lua/limit.lua` changes it.

use redis::Value;

use super::error::Error;
use super::functions::Function;
use super::group_rule::{GroupRule, Rate};
use super::placement::home_of_groups;
use super::{Broker, reply};
use crate::job::Partition;
use crate::queue::QueueName;
use crate::time::Timestamp;

/// How many jobs of a queue run, and start in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueLimit {
    /// How many of its jobs may run at the same time: 1 to 1 000 000. `None`: any number.
    pub concurrency: Option<u32>,
    /// How many of its jobs may start in a time. `None`: any number.
    pub rate: Option<Rate>,
}

/// Whether the limit of a queue lets a job start now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitState {
    /// It does.
    Open,
    /// Its rate allows the next start at this time.
    Delayed(Timestamp),
    /// As many jobs run as may.
    Blocked,
}

/// The limit of a queue, and what it does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitStatus {
    /// The limit.
    pub limit: QueueLimit,
    /// How many jobs of the queue run.
    pub running: u64,
    /// Whether a job may start now.
    pub state: LimitState,
}

/// What became of a change of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitChange {
    /// It applies.
    Done,
    /// There is no such queue.
    UnknownQueue,
    /// As many jobs of the queue wait or run in other partitions than its home, where the limit would not apply to them.
    /// Nothing was changed, but new jobs are in the home from now on: once those have ended the limit can be set.
    JobsElsewhere(u64),
    /// Others change it at the same time.
    Contended,
}

/// The name under which the rules and the rates of a queue have its limit.
pub(super) const WHOLE: &str = "queue";

/// How often a change is begun anew because another one came between.
const ATTEMPTS: usize = 3;

impl QueueLimit {
    fn text(self) -> String {
        let (concurrency, rate) = (self.concurrency, self.rate);
        GroupRule { concurrency, rate, ..GroupRule::default() }.text(None)
    }

    pub(super) fn read(text: &str) -> Option<Self> {
        let (rule, _) = GroupRule::read(text)?;
        Some(Self { concurrency: rule.concurrency, rate: rule.rate })
    }
}

impl Broker {
    /// Sets the limit of a queue, or removes it. A queue that is `declared` by a task exists before its first job.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable; retry.
    pub async fn set_queue_limit(
        &self,
        queue: &QueueName,
        declared: bool,
        limit: Option<QueueLimit>,
    ) -> Result<LimitChange, Error> {
        let known = declared || self.queue(queue).await?.is_some();
        for _ in 0..ATTEMPTS {
            let changed = match limit {
                Some(limit) => self.limit_queue(queue, known, limit).await?,
                None => self.unlimit_queue(queue, known).await?,
            };
            if changed != LimitChange::Contended {
                return Ok(changed);
            }
        }
        Ok(LimitChange::Contended)
    }

    async fn limit_queue(
        &self,
        queue: &QueueName,
        known: bool,
        limit: QueueLimit,
    ) -> Result<LimitChange, Error> {
        let version = self.change_limit(queue, known, None, "").await?;
        if version <= 0 {
            return Ok(LimitChange::UnknownQueue);
        }
        let home = self.home_of(queue);
        let mut elsewhere = 0;
        for partition in self.partitions().filter(|&partition| partition != home) {
            match self.confine(queue, partition, version, Some(home)).await? {
                -1 => return Ok(LimitChange::Contended),
                live => elsewhere += u64::try_from(live).unwrap_or_default(),
            }
        }
        if elsewhere > 0 {
            return Ok(LimitChange::JobsElsewhere(elsewhere));
        }
        let changed = self.change_limit(queue, known, Some(version), &limit.text()).await?;
        Ok(if changed < 0 { LimitChange::Contended } else { LimitChange::Done })
    }

    async fn unlimit_queue(&self, queue: &QueueName, known: bool) -> Result<LimitChange, Error> {
        let version = self.change_limit(queue, known, None, "").await?;
        if version <= 0 {
            return Ok(LimitChange::UnknownQueue);
        }
        if self.change_limit(queue, known, Some(version), "").await? < 0 {
            return Ok(LimitChange::Contended);
        }
        let home = self.home_of(queue);
        for partition in self.partitions().filter(|&partition| partition != home) {
            if self.confine(queue, partition, version, None).await? == -1 {
                return Ok(LimitChange::Contended);
            }
        }
        Ok(LimitChange::Done)
    }

    fn home_of(&self, queue: &QueueName) -> Partition {
        home_of_groups(queue, self.settings.space.len())
    }

    /// Begins a change, or makes it under its version. Returns what the function does. Public for tests of changes at the same time.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    #[doc(hidden)]
    pub async fn change_limit(
        &self,
        queue: &QueueName,
        known: bool,
        version: Option<i64>,
        rule: &str,
    ) -> Result<i64, Error> {
        let home = self.home_of(queue);
        let mut call = self.settings.call(Function::Limit, home);
        call.arg(queue.as_str()).arg(version.map_or(String::new(), |it| it.to_string()));
        call.arg(rule).arg(if known { "1" } else { "" });
        self.code_of(home, call).await
    }

    /// Lets a partition refuse the jobs of a queue, or accept them again. Returns what the function does. Public as above.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    #[doc(hidden)]
    pub async fn confine(
        &self,
        queue: &QueueName,
        partition: Partition,
        version: i64,
        home: Option<Partition>,
    ) -> Result<i64, Error> {
        let mut call = self.settings.call(Function::Confine, partition);
        call.arg(queue.as_str()).arg(version);
        call.arg(home.map_or("-".to_owned(), |home| home.to_string()));
        self.code_of(partition, call).await
    }

    async fn code_of(&self, partition: Partition, call: redis::Cmd) -> Result<i64, Error> {
        let code = self.pooled(partition, redis::pipe().add_command(call)).await?.pop();
        reply::integer(&code.unwrap_or(Value::Nil))
    }

    /// Returns the limit of a queue and what it does now; `None` if it has none.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn queue_limit(&self, queue: &QueueName) -> Result<Option<LimitStatus>, Error> {
        let home = self.home_of(queue);
        let keys = self.settings.keys(home);
        let mut pipeline = redis::pipe();
        pipeline.cmd("HGET").arg(keys.rules(queue)).arg(WHOLE);
        pipeline.cmd("ZCARD").arg(keys.running(queue));
        pipeline.cmd("ZSCORE").arg(keys.rates(queue)).arg(WHOLE).cmd("TIME");
        let [text, running, arrival, time] =
            reply::fields(Value::Array(self.pooled(home, &pipeline).await?))?;
        if text == Value::Nil {
            return Ok(None);
        }
        let Some(limit) = QueueLimit::read(&reply::text(text)?) else {
            return Err(Error::unreadable(format!("the limit of queue {queue}")));
        };
        let running = reply::unsigned(&running)?;
        let arrival = match arrival {
            Value::Nil => 0.0,
            arrival => reply::parsed(arrival)?,
        };
        let state = limit.state(running, arrival, reply::time_ms(time)?);
        Ok(Some(LimitStatus { limit, running, state }))
    }
}

impl QueueLimit {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_limit_shows_whether_a_job_may_start() {
        let rate = Some(Rate { starts: 10, per: Duration::from_secs(1), burst: 2 });
        let limit = QueueLimit { concurrency: Some(2), rate };
        assert_eq!(QueueLimit::read(&limit.text()), Some(limit));
        assert_eq!(limit.state(2, 0.0, 1000), LimitState::Blocked);
        assert_eq!(limit.state(1, 1100.0, 1000), LimitState::Open);
        let later = LimitState::Delayed(Timestamp::from_unix_ms(1001));
        assert_eq!(limit.state(1, 1100.5, 1000), later);
        // What a slower rate left does not count.
        let latest = LimitState::Delayed(Timestamp::from_unix_ms(1100));
        assert_eq!(limit.state(1, 1e12, 1000), latest);
    }
}
