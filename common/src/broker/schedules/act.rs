//! What operators do with schedules.

use redis::Value;

use super::record::ScheduleRecord;
use crate::broker::error::Error;
use crate::broker::functions::Function;
use crate::broker::{Backfill, Broker, reply};
use crate::job::Partition;
use crate::schedule::ScheduleName;
use crate::time::Timestamp;

/// What became of a change of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleChange {
    /// It is so now.
    Done,
    /// There is no such schedule.
    Unknown,
    /// It has another version.
    OtherVersion,
}

/// What became of a request to make up for ticks of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackfillChange {
    /// It goes on by itself, or has stopped.
    Done,
    /// There is no such schedule.
    Unknown,
    /// It has another version.
    OtherVersion,
    /// The schedule is paused.
    Paused,
    /// One is under way.
    UnderWay,
}

impl ScheduleChange {
    fn read(function: &str, code: i64) -> Result<Self, Error> {
        match code {
            1 => Ok(Self::Done),
            0 => Ok(Self::Unknown),
            -1 => Ok(Self::OtherVersion),
            code => Err(Error::unreadable(format!("{function} returned {code}"))),
        }
    }
}

impl Broker {
    /// Removes a schedule, if it has that version or any. Its jobs stay as they are.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn delete_schedule(
        &self,
        record: &ScheduleRecord,
        version: Option<u64>,
    ) -> Result<ScheduleChange, Error> {
        let home = self.schedule_home(&record.spec);
        self.delete_at(home, &record.name, version).await
    }

    pub(super) async fn delete_at(
        &self,
        partition: Partition,
        name: &ScheduleName,
        version: Option<u64>,
    ) -> Result<ScheduleChange, Error> {
        let mut call = self.settings.call(Function::DeleteSchedule, partition);
        call.arg(name.as_str());
        call.arg(version.map(|version| version.to_string()).unwrap_or_default());
        let reply = self.pooled(partition, redis::pipe().add_command(call)).await?.pop();
        let [code, _version] = reply::fields(reply.unwrap_or(Value::Nil))?;
        ScheduleChange::read("delete_schedule", reply::integer(&code)?)
    }

    /// Pauses a schedule, if it has that version or any: it has no ticks until it is resumed. The code is one word; that of
    /// operators is [`Pause::REQUESTED`](super::Pause::REQUESTED).
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn pause_schedule(
        &self,
        record: &ScheduleRecord,
        version: Option<u64>,
        (code, reason): (&str, &str),
    ) -> Result<ScheduleChange, Error> {
        let home = self.schedule_home(&record.spec);
        self.pause_schedule_at(home, &record.name, version, (code, reason)).await
    }

    /// Like [`Broker::pause_schedule`], for one that is in that partition.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn pause_schedule_at(
        &self,
        home: Partition,
        name: &ScheduleName,
        version: Option<u64>,
        (code, reason): (&str, &str),
    ) -> Result<ScheduleChange, Error> {
        let mut call = self.settings.call(Function::PauseSchedule, home);
        call.arg(name.as_str());
        call.arg(version.map(|version| version.to_string()).unwrap_or_default());
        call.arg(format!("{code} {}", reason.replace('\n', " ")));
        let code = self.pooled(home, redis::pipe().add_command(call)).await?.pop();
        ScheduleChange::read("pause_schedule", reply::integer(&code.unwrap_or(Value::Nil))?)
    }

    /// Resumes a schedule with this tick next.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn resume_schedule(
        &self,
        record: &ScheduleRecord,
        next: Option<Timestamp>,
    ) -> Result<ScheduleChange, Error> {
        let home = self.schedule_home(&record.spec);
        let mut call = self.settings.call(Function::ResumeSchedule, home);
        call.arg(record.name.as_str()).arg(record.version);
        let due = next.map(|next| record.timing.due(&record.name, next));
        call.arg(super::fire::in_ms(next)).arg(super::fire::in_ms(due));
        let code = self.pooled(home, redis::pipe().add_command(call)).await?.pop();
        ScheduleChange::read("resume_schedule", reply::integer(&code.unwrap_or(Value::Nil))?)
    }

    /// Makes up for ticks of the past, one job at a time; or stops that.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn backfill(
        &self,
        record: &ScheduleRecord,
        backfill: Option<Backfill>,
    ) -> Result<BackfillChange, Error> {
        let home = self.schedule_home(&record.spec);
        let mut call = self.settings.call(Function::Backfill, home);
        call.arg(record.name.as_str()).arg(record.version);
        call.arg(backfill.map(|it| it.to_string()).unwrap_or_default());
        let code = self.pooled(home, redis::pipe().add_command(call)).await?.pop();
        match reply::integer(&code.unwrap_or(Value::Nil))? {
            1 => Ok(BackfillChange::Done),
            0 => Ok(BackfillChange::Unknown),
            -1 => Ok(BackfillChange::OtherVersion),
            -2 => Ok(BackfillChange::Paused),
            -3 => Ok(BackfillChange::UnderWay),
            code => Err(Error::unreadable(format!("backfill returned {code}"))),
        }
    }
}
