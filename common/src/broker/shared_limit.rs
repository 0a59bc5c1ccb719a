//! Limits that queues share: how many jobs of several queues run, and start in a time. They have a name, and are in the
//! partition of that name, as their queues are. `lua/limits.lua` keeps to them, `lua/limit.lua` changes them.

use redis::Value;

use super::error::Error;
use super::functions::Function;
use super::limit::{Limit, LimitState, Usage};
use super::{Broker, reply};
use crate::job::Partition;
use crate::queue::{LimitName, QueueName};

/// A limit that queues share, and what it does now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedStatus {
    /// The limit.
    pub limit: Limit,
    /// The queues that share it, in the order in which they were added.
    pub queues: Vec<QueueName>,
    /// How many jobs of these run.
    pub running: u64,
    /// Whether a job may start now.
    pub state: LimitState,
}

/// A limit that queues share, with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// Its name.
    pub name: LimitName,
    /// What it is and does.
    pub status: SharedStatus,
}

/// What became of a change of a limit that queues share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SharedChange {
    /// It is set.
    Done,
    /// It is removed: these queues are not limited by it any more.
    Removed(Vec<QueueName>),
    /// There is none to remove.
    Unknown,
    /// As many limits as may be in a partition: 100.
    TooMany,
}

impl Broker {
    /// Sets a limit that queues may share, or removes it. It applies at once; what runs beyond a lower limit runs on.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable; retry.
    pub async fn set_shared_limit(
        &self,
        name: &LimitName,
        limit: Option<Limit>,
    ) -> Result<SharedChange, Error> {
        let home = self.home_of(name);
        let mut call = self.settings.call(Function::Share, home);
        call.arg(name.as_str()).arg(limit.map(|limit| limit.text(&[""; 0])).unwrap_or_default());
        let answer = self.pooled(home, redis::pipe().add_command(call)).await?.pop();
        let mut answer = reply::array(answer.unwrap_or(Value::Nil))?.into_iter();
        match reply::integer(&answer.next().unwrap_or(Value::Nil))? {
            1 if limit.is_some() => Ok(SharedChange::Done),
            1 => Ok(SharedChange::Removed(answer.map(reply::parsed).collect::<Result<_, _>>()?)),
            0 => Ok(SharedChange::Unknown),
            -1 => Ok(SharedChange::TooMany),
            code => Err(Error::unreadable(format!("share returned {code}"))),
        }
    }

    /// Returns a limit that queues may share; `None` if there is none of this name.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn shared_limit(&self, name: &LimitName) -> Result<Option<SharedStatus>, Error> {
        let found = self.read_shared(self.home_of(name), std::slice::from_ref(name)).await?.pop();
        Ok(found.map(|found| found.status))
    }

    /// Returns all limits that queues may share, sorted by name: at most 100 for each partition.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn shared_limits(&self) -> Result<Vec<Shared>, Error> {
        let mut found = Vec::new();
        for partition in self.partitions() {
            let mut pipeline = redis::pipe();
            pipeline.cmd("HKEYS").arg(self.settings.keys(partition).limits());
            let names = self.pooled(partition, &pipeline).await?.pop().unwrap_or(Value::Nil);
            let names = reply::array(names)?.into_iter().map(reply::parsed);
            let names = names.collect::<Result<Vec<LimitName>, _>>()?;
            found.extend(self.read_shared(partition, &names).await?);
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    /// Reads limits of one partition. Those that do not exist are left out.
    pub(super) async fn read_shared(
        &self,
        home: Partition,
        names: &[LimitName],
    ) -> Result<Vec<Shared>, Error> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let keys = self.settings.keys(home);
        let mut pipeline = redis::pipe();
        pipeline.cmd("HMGET").arg(keys.limits());
        for name in names {
            pipeline.arg(name.as_str());
        }
        pipeline.cmd("TIME");
        let [rules, time] = reply::fields(Value::Array(self.pooled(home, &pipeline).await?))?;
        let now_ms = reply::time_ms(time)?;
        let (mut pipeline, mut asked) = (redis::pipe(), Vec::new());
        for (name, text) in names.iter().zip(reply::array(rules)?) {
            if text == Value::Nil {
                continue;
            }
            let text = reply::text(text)?;
            let unreadable = || Error::unreadable(format!("the limit {name}"));
            let (limit, queues) = Limit::read(&text).ok_or_else(unreadable)?;
            let queues = queues.map(str::parse).collect::<Result<Vec<QueueName>, _>>();
            let queues = queues.map_err(|_| unreadable())?;
            let running: Vec<_> = queues.iter().map(|queue| keys.running(queue)).collect();
            let usage = Usage::ask(&mut pipeline, &running, &keys.limit_rates(), name.as_str());
            asked.push((name, limit, queues, usage));
        }
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let mut replies = self.pooled(home, &pipeline).await?.into_iter();
        let read = |(name, limit, queues, usage): (&LimitName, Limit, Vec<QueueName>, Usage)| {
            let (running, state) = usage.read(&mut replies, limit, now_ms)?;
            let status = SharedStatus { limit, queues, running, state };
            Ok(Shared { name: name.clone(), status })
        };
        asked.into_iter().map(read).collect()
    }
}
