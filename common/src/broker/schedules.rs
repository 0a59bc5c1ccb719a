//! Schedules in Redis: what they are, and what operators do with them. Which ticks there are is computed in
//! [`crate::schedule`]; the step that makes one happen once is `lua/fire.lua`.
//!
//! A schedule is in the partition of its jobs, so that the step that moves its tick also submits the job: that of its queue's
//! groups, where all jobs of the queue are if it has a limit. So a schedule whose jobs get another queue moves. It is then
//! removed in one partition and created in the other: in between it does not exist, and it never exists twice, unless two
//! callers create it at the same time differently; then the one that was changed last stays.

mod act;
mod counts;
mod fire;
mod record;

use std::collections::BTreeSet;

use redis::{Pipeline, Value};

use super::bulk::LARGE;
use super::commands::Commands;
use super::error::Error;
use super::functions::Function;
use super::placement::home_of;
use super::transfer::MinRate;
use super::{Broker, reply};
use crate::job::Partition;
use crate::queue::QueueName;
use crate::schedule::{ScheduleName, Timing};
use crate::time::Timestamp;

pub use act::{BackfillChange, ScheduleChange};
pub use counts::ScheduleCounts;
pub use fire::{DueSchedules, Fired, ScheduledJob, TickOutcome, ToFire, Why};
pub use record::{
    Backfill, Owner, Pause, ScheduleOrigin, ScheduleRecord, ScheduleRun, ScheduleSpec,
};

/// How many schedules there may be: each is looked at when its tick is due, and a program that makes one for each of its
/// users has mistaken them for delayed jobs.
pub const MAX_SCHEDULES: u64 = 10_000;
/// The largest payload of a schedule, in bytes: each tick copies it in a step of Redis.
pub const MAX_SCHEDULE_PAYLOAD: usize = LARGE;
/// How many schedules are read at once.
const PAGE: usize = 100;
/// The approximate size of a schedule in a reply, for the time limit of its transfer.
const RECORD_BYTES: u64 = LARGE as u64 + 8192;

/// What a schedule must be for a change of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Anything, or absent.
    None,
    /// Absent.
    New,
    /// Present.
    Known,
    /// Of this version.
    Version(u64),
}

impl Condition {
    fn as_text(self) -> String {
        match self {
            Self::None => String::new(),
            Self::New => "new".to_owned(),
            Self::Known => "known".to_owned(),
            Self::Version(version) => version.to_string(),
        }
    }
}

/// A schedule to create, or to change.
#[derive(Debug, Clone)]
pub struct PutSchedule {
    /// Its name.
    pub name: ScheduleName,
    /// When its ticks are.
    pub timing: Timing,
    /// What is submitted at each.
    pub spec: ScheduleSpec,
    /// The payload of its jobs.
    pub payload: Vec<u8>,
    /// Where it comes from.
    pub origin: ScheduleOrigin,
    /// What must be there.
    pub condition: Condition,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// It was created.
    Created,
    /// It was changed.
    Changed,
    /// It was so before.
    Unchanged,
    /// The condition is not met.
    ConditionFailed,
    /// There are as many schedules as may be.
    TooMany,
    /// One of that name comes from elsewhere: of `tasks.toml`, or of the API.
    OtherOrigin,
}

impl Broker {
    /// The partition of a schedule.
    fn schedule_home(&self, spec: &ScheduleSpec) -> Partition {
        home_of(&spec.queue, self.settings.space.len())
    }

    /// Returns the partition of a schedule, where its jobs are, too.
    #[must_use]
    pub fn partition_of_schedule(&self, record: &ScheduleRecord) -> Partition {
        self.schedule_home(&record.spec)
    }

    /// Returns the time of Redis' clock.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn redis_time(&self) -> Result<Timestamp, Error> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("TIME");
        let time = self.pooled(Partition::default(), &pipeline).await?.pop();
        reply::time_ms(time.unwrap_or(Value::Nil)).map(Timestamp::from_unix_ms)
    }

    /// Creates or replaces a schedule whose first tick from now is `first`; without one it has no ticks any more.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable, [`Error::Full`] if it has no memory left.
    pub async fn put_schedule(
        &self,
        put: &PutSchedule,
        first: impl Into<Option<Timestamp>>,
    ) -> Result<PutOutcome, Error> {
        let first = first.into();
        let home = self.schedule_home(&put.spec);
        let known = self.find_schedule(&put.name).await?;
        let moved = known.iter().find(|(partition, _)| *partition != home);
        let Some((from, record)) = moved else {
            return self.put_at(home, put, (first, None)).await;
        };
        let refused = match put.condition {
            Condition::New => Some(PutOutcome::ConditionFailed),
            Condition::Version(version) if version != record.version => {
                Some(PutOutcome::ConditionFailed)
            }
            _ if record.origin != put.origin => Some(PutOutcome::OtherOrigin),
            _ => None,
        };
        if let Some(refused) = refused {
            return Ok(refused);
        }
        self.delete_at(*from, &put.name, Some(record.version)).await?;
        let put = PutSchedule { condition: Condition::None, ..put.clone() };
        let outcome = self.put_at(home, &put, (first, Some(record))).await?;
        Ok(if outcome == PutOutcome::Created { PutOutcome::Changed } else { outcome })
    }

    /// Creates or replaces it in a partition; then removes what others created meanwhile under the same name.
    async fn put_at(
        &self,
        home: Partition,
        put: &PutSchedule,
        (first, moved): (Option<Timestamp>, Option<&ScheduleRecord>),
    ) -> Result<PutOutcome, Error> {
        let mut call = self.settings.call(Function::PutSchedule, home);
        let most = MAX_SCHEDULES.div_ceil(u64::from(self.settings.space.len()));
        call.arg(put.name.as_str()).arg(put.condition.as_text());
        call.arg(record::to_json(&put.timing)).arg(record::to_json(&put.spec)).arg(&put.payload);
        let text = |time: Timestamp| time.unix_ms().to_string();
        call.arg(first.map(text).unwrap_or_default());
        call.arg(first.map(|first| text(put.timing.due(&put.name, first))).unwrap_or_default());
        call.arg(most).arg(put.origin.as_str());
        call.arg(moved.map(|it| it.created_at.unix_ms().to_string()).unwrap_or_default());
        call.arg(moved.and_then(|it| it.paused.as_ref()).map(Pause::text).unwrap_or_default());
        let reply = self.pooled(home, redis::pipe().add_command(call)).await?.pop();
        let [code, _version] = reply::fields(reply.unwrap_or(Value::Nil))?;
        let outcome = match reply::integer(&code)? {
            1 => PutOutcome::Created,
            2 => PutOutcome::Changed,
            3 => PutOutcome::Unchanged,
            -1 => PutOutcome::ConditionFailed,
            -2 => PutOutcome::TooMany,
            -3 => PutOutcome::OtherOrigin,
            code => return Err(Error::unreadable(format!("put_schedule returned {code}"))),
        };
        if outcome == PutOutcome::Created && self.settings.space.len() > 1 {
            self.keep_newest(&put.name).await?;
        }
        Ok(outcome)
    }

    /// Of several schedules of one name keeps the one that was changed last: every caller that sees several decides the same.
    async fn keep_newest(&self, name: &ScheduleName) -> Result<(), Error> {
        let mut found = self.find_schedule(name).await?;
        found.sort_by_key(|(partition, record)| (record.version, *partition));
        found.pop();
        for (partition, record) in found {
            self.delete_at(partition, name, Some(record.version)).await?;
        }
        Ok(())
    }

    /// Returns a schedule; `None` if there is none. One round trip.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn schedule(&self, name: &ScheduleName) -> Result<Option<ScheduleRecord>, Error> {
        let mut found = self.find_schedule(name).await?;
        found.sort_by_key(|(partition, record)| (record.version, *partition));
        Ok(found.pop().map(|(_, record)| record))
    }

    /// Looks in all partitions: its name alone does not determine where it is.
    async fn find_schedule(
        &self,
        name: &ScheduleName,
    ) -> Result<Vec<(Partition, ScheduleRecord)>, Error> {
        let mut commands = Commands::default();
        for partition in self.partitions() {
            add_read(commands.at(partition), self.settings.keys(partition).schedule(name));
        }
        let replies = self.pages.read_all(&commands, RECORD_BYTES, MinRate::ForCaller).await?;
        let mut found = Vec::new();
        for (partition, reply) in self.partitions().zip(replies) {
            found.extend(record::read(name, reply)?.map(|record| (partition, record)));
        }
        Ok(found)
    }

    /// Returns some schedules, by name, after one; only those of certain queues, if any are given. Fewer than `limit` are the
    /// last ones.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn schedules(
        &self,
        after: Option<&ScheduleName>,
        queues: Option<&BTreeSet<QueueName>>,
        limit: usize,
    ) -> Result<Vec<ScheduleRecord>, Error> {
        let (mut found, mut after) = (Vec::new(), after.cloned());
        loop {
            let names = self.schedule_names(after.as_ref(), PAGE).await?;
            let Some(last) = names.last().cloned() else { return Ok(found) };
            let whole = names.len() == PAGE;
            for record in self.read_schedules(&names).await? {
                if queues.is_none_or(|queues| queues.contains(&record.spec.queue)) {
                    found.push(record);
                }
                if found.len() == limit {
                    return Ok(found);
                }
            }
            if !whole {
                return Ok(found);
            }
            after = Some(last);
        }
    }

    /// The first names after one, of all partitions together.
    async fn schedule_names(
        &self,
        after: Option<&ScheduleName>,
        limit: usize,
    ) -> Result<Vec<ScheduleName>, Error> {
        let start = after.map_or_else(|| "-".to_owned(), |name| format!("({name}"));
        let mut commands = Commands::default();
        for partition in self.partitions() {
            let pipeline = commands.at(partition);
            pipeline.cmd("ZRANGE").arg(self.settings.keys(partition).schedule_names());
            pipeline.arg(&start).arg("+").arg("BYLEX").arg("LIMIT").arg(0).arg(limit);
        }
        let bytes = limit as u64 * super::names::NAME_BYTES * u64::from(self.settings.space.len());
        let replies = self.pages.read_all(&commands, bytes, MinRate::ForCaller).await?;
        let mut names = BTreeSet::new();
        for reply in replies {
            for name in reply::array(reply)? {
                names.extend(reply::parsed::<ScheduleName>(name).ok());
            }
        }
        Ok(names.into_iter().take(limit).collect())
    }

    async fn read_schedules(&self, names: &[ScheduleName]) -> Result<Vec<ScheduleRecord>, Error> {
        let mut commands = Commands::default();
        for name in names {
            for partition in self.partitions() {
                add_read(commands.at(partition), self.settings.keys(partition).schedule(name));
            }
        }
        let bytes = names.len() as u64 * RECORD_BYTES;
        let replies = self.pages.read_all(&commands, bytes, MinRate::ForCaller).await?;
        let mut found = Vec::new();
        let partitions = usize::from(self.settings.space.len());
        for (name, replies) in names.iter().zip(replies.chunks(partitions)) {
            let records = replies.iter().map(|reply| record::read(name, reply.clone()));
            let records = records.collect::<Result<Vec<_>, _>>()?;
            found.extend(records.into_iter().flatten().max_by_key(|record| record.version));
        }
        Ok(found)
    }
}

/// Adds the read of a schedule.
fn add_read(pipeline: &mut Pipeline, key: String) {
    pipeline.cmd("HMGET").arg(key).arg(&record::FIELDS);
}
