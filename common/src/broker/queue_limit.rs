//! The limit of a queue: how many of its jobs run, and start in a time, whatever their groups; and which limits it shares with
//! other queues. `lua/limits.lua` keeps to it, `lua/limit.lua` changes it.

use redis::Value;

use super::error::Error;
use super::functions::Function;
use super::limit::{Limit, LimitState, Usage};
use super::placement::home_of;
use super::shared_limit::Shared;
use super::{Broker, reply};
use crate::job::Partition;
use crate::queue::{LimitName, QueueName};

/// What limits a queue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueLimit {
    /// How many of its jobs run, and start in a time.
    pub own: Limit,
    /// The limits that it shares with other queues: at most [`QueueLimit::MAX_SHARED`].
    pub shared: Vec<LimitName>,
}

/// The limit of a queue, and what it does now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitStatus {
    /// The limit.
    pub limit: QueueLimit,
    /// How many jobs of the queue run.
    pub running: u64,
    /// Whether a job may start now.
    pub state: LimitState,
    /// The shared limit that forbids it, if one does and not the queue's own.
    pub held_by: Option<LimitName>,
}

/// What became of a change of a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitChange {
    /// It applies.
    Done,
    /// There is no such queue.
    UnknownQueue,
    /// One of the limits that it is to share does not exist.
    UnknownLimit,
    /// As many queues as may share one of them: 16.
    SharedByTooMany,
    /// That limit and the queue have different homes: the parts of their names before the first dot differ.
    OtherHome(LimitName),
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
    /// How many limits a queue may share.
    pub const MAX_SHARED: usize = 2;

    fn text(&self) -> String {
        let names: Vec<_> = self.shared.iter().map(LimitName::as_str).collect();
        self.own.text(&names)
    }

    pub(super) fn read(text: &str) -> Option<Self> {
        let (own, names) = Limit::read(text)?;
        let shared = names.map(str::parse).collect::<Result<_, _>>().ok()?;
        Some(Self { own, shared })
    }
}

/// What the function that changes a limit returns instead of a version.
fn refusal(code: i64) -> Option<LimitChange> {
    match code {
        0 => Some(LimitChange::UnknownQueue),
        -1 => Some(LimitChange::Contended),
        -2 => Some(LimitChange::UnknownLimit),
        -3 => Some(LimitChange::SharedByTooMany),
        _ => None,
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
        let shared = limit.iter().flat_map(|limit| &limit.shared);
        if let Some(name) =
            shared.into_iter().find(|name| self.home_of(*name) != self.home_of(queue))
        {
            return Ok(LimitChange::OtherHome(name.clone()));
        }
        let known = declared || self.queue(queue).await?.is_some();
        for _ in 0..ATTEMPTS {
            let changed = match &limit {
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
        limit: &QueueLimit,
    ) -> Result<LimitChange, Error> {
        let version = self.change_limit(queue, known, None, &limit.text()).await?;
        if let Some(refusal) = refusal(version) {
            return Ok(refusal);
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
        Ok(refusal(changed).unwrap_or(LimitChange::Done))
    }

    async fn unlimit_queue(&self, queue: &QueueName, known: bool) -> Result<LimitChange, Error> {
        let version = self.change_limit(queue, known, None, "").await?;
        if let Some(refusal) = refusal(version) {
            return Ok(refusal);
        }
        if let Some(refusal) = refusal(self.change_limit(queue, known, Some(version), "").await?) {
            return Ok(refusal);
        }
        let home = self.home_of(queue);
        for partition in self.partitions().filter(|&partition| partition != home) {
            if self.confine(queue, partition, version, None).await? == -1 {
                return Ok(LimitChange::Contended);
            }
        }
        Ok(LimitChange::Done)
    }

    pub(super) fn home_of(&self, name: impl AsRef<str>) -> Partition {
        home_of(name, self.settings.space.len())
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
        pipeline.cmd("HGET").arg(keys.rules(queue)).arg(WHOLE).cmd("TIME");
        let usage = Usage::ask(&mut pipeline, &[keys.running(queue)], &keys.rates(queue), WHOLE);
        let mut replies = self.pooled(home, &pipeline).await?.into_iter();
        let mut next = || replies.next().unwrap_or(Value::Nil);
        let (text, time) = (next(), next());
        if text == Value::Nil {
            return Ok(None);
        }
        let Some(limit) = QueueLimit::read(&reply::text(text)?) else {
            return Err(Error::unreadable(format!("the limit of queue {queue}")));
        };
        let now_ms = reply::time_ms(time)?;
        let (running, mut state) = usage.read(&mut replies, limit.own, now_ms)?;
        let mut held_by = None;
        for shared in Box::pin(self.read_shared(home, &limit.shared)).await? {
            let Shared { name, status } = shared;
            if status.state > state {
                (state, held_by) = (status.state, Some(name));
            }
        }
        Ok(Some(LimitStatus { limit, running, state, held_by }))
    }
}
