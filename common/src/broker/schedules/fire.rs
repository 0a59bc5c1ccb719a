//! Ticks that are due: which process submits their jobs, and the step that does.

use std::time::Duration;

use redis::{Cmd, Pipeline, Value};

use super::record::{Backfill, ScheduleRecord};
use crate::broker::commands::Commands;
use crate::broker::connection::Call;
use crate::broker::error::Error;
use crate::broker::functions::Function;
use crate::broker::submit::{extras, spec_of};
use crate::broker::{Broker, NewJob, Settings, reply};
use crate::job::{JobId, Partition};
use crate::schedule::{Plan, ScheduleName};
use crate::time::{Timestamp, whole_ms};

/// The argument of a function: a time, or nothing.
pub(super) fn in_ms(time: Option<Timestamp>) -> String {
    time.map(|time| time.unix_ms().to_string()).unwrap_or_default()
}

/// A schedule for which something is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToFire {
    /// Its name.
    pub name: ScheduleName,
    /// Its version.
    pub version: u64,
    /// Its next tick, which is due.
    pub tick: Option<Timestamp>,
    /// A buffered tick whose predecessor's job has ended.
    pub buffered: Option<Timestamp>,
    /// A backfill whose next job may be submitted.
    pub backfill: Option<Backfill>,
}

/// What is to be done in a partition, and when the next look is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueSchedules {
    /// The time of Redis' clock.
    pub now: Timestamp,
    /// When something is due next; `None` if there are no schedules.
    pub next: Option<Timestamp>,
    /// The schedules.
    pub items: Vec<ToFire>,
}

/// Why jobs of a schedule are submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Its next tick is due: what its plan says.
    Tick {
        /// The tick.
        expected: Timestamp,
        /// The plan.
        plan: Plan,
    },
    /// A buffered tick may start.
    Buffered(Timestamp),
    /// A backfill goes on: what it is, and what it will be.
    Backfill(Backfill, Option<Backfill>),
    /// It was requested.
    Run,
}

/// A job to submit for a tick.
#[derive(Debug, Clone)]
pub struct ScheduledJob {
    /// The tick.
    pub tick: Timestamp,
    /// The job: in the schedule's partition, with the same options for all ticks of a call.
    pub job: NewJob,
}

/// What became of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TickOutcome {
    /// Its job was submitted.
    Submitted(JobId),
    /// It was skipped, because the job of an earlier one lives.
    Skipped,
    /// It was skipped, because this job holds the lock of its own, and stands for it.
    Existing(JobId),
    /// It was skipped, because this job holds the lock of its own.
    Locked(JobId),
    /// It waits for the end of that job.
    Buffered,
    /// Its job was rejected, with this code of `enqueue`; it is tried again.
    Rejected(i64),
}

/// What became of the ticks of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fired {
    /// These, in their order.
    Done(Vec<TickOutcome>),
    /// Another process was first.
    Already,
    /// There is no such schedule any more, or it was changed.
    Changed,
    /// It is paused.
    Paused,
    /// A run that was requested has to wait for this job.
    Busy(JobId),
}

impl Broker {
    /// Returns when something is due in each partition, and the time of its clock; `None` without schedules. One round trip; of
    /// a node that is away nothing is known.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if no node can be reached.
    pub async fn first_due_schedules(
        &self,
    ) -> Result<Vec<(Partition, Timestamp, Option<Timestamp>)>, Error> {
        let mut commands = Commands::default();
        for partition in self.partitions() {
            let pipeline = commands.at(partition);
            pipeline.cmd("ZRANGE").arg(self.settings.keys(partition).schedules());
            pipeline.arg(0).arg(0).arg("WITHSCORES").cmd("TIME");
        }
        let replies = self.link.read_reachable(&commands).await;
        if replies.iter().all(Result::is_err) {
            return Err(replies.into_iter().find_map(Result::err).unwrap_or_else(Error::timed_out));
        }
        let mut found = Vec::new();
        for (partition, replies) in self.partitions().zip(replies.chunks(2)) {
            let [Ok(first), Ok(time)] = replies else { continue };
            let score = reply::array(first.clone())?.pop();
            let now = Timestamp::from_unix_ms(reply::time_ms(time.clone())?);
            found.push((partition, now, score.map(score_ms).transpose()?));
        }
        Ok(found)
    }

    /// Takes what is to be done now for schedules of a partition; other processes leave it to the caller for a while.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn due_schedules(
        &self,
        partition: Partition,
        most: usize,
        hold: Duration,
    ) -> Result<DueSchedules, Error> {
        let arguments = |command: &mut Cmd| {
            command.arg(most).arg(whole_ms(hold));
        };
        let call = Call::new(Function::DueSchedules, partition).once();
        let reply = self.link.call(call, arguments).await?;
        let mut values = reply::array(reply)?.into_iter();
        let mut next = || values.next().ok_or_else(|| Error::unreadable("too few schedules"));
        let (now, at) = (reply::unsigned(&next()?)?, reply::text(next()?)?);
        let rest: Vec<_> = values.collect();
        let items = rest.chunks_exact(5).map(read_item).collect::<Result<_, _>>()?;
        let next = at.parse().ok().map(Timestamp::from_unix_ms);
        Ok(DueSchedules { now: Timestamp::from_unix_ms(now), next, items })
    }

    /// Reads some schedules of a partition, in their order; one that cannot be read does not hide the others.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn schedules_at(
        &self,
        partition: Partition,
        names: &[ScheduleName],
    ) -> Result<Vec<Result<Option<ScheduleRecord>, Error>>, Error> {
        let mut pipeline = redis::pipe();
        for name in names {
            super::add_read(&mut pipeline, self.settings.keys(partition).schedule(name));
        }
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let replies = self.link.read(partition, &pipeline).await?;
        let read = |(name, reply)| super::record::read(name, reply);
        Ok(names.iter().zip(replies).map(read).collect())
    }

    /// Submits jobs of schedules of a partition, in one round trip; each schedule is a step of its own.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable: what was done is in the schedules. Of each: [`Error::Full`] if Redis has
    /// no memory left.
    pub async fn fire(
        &self,
        partition: Partition,
        calls: &[(&ScheduleRecord, Why, Vec<ScheduledJob>)],
    ) -> Result<Vec<Result<Fired, Error>>, Error> {
        let mut pipeline = Pipeline::new();
        for (record, why, jobs) in calls {
            let mut call = self.settings.call(Function::Fire, partition);
            write_call(&mut call, &self.settings, (record, why), jobs);
            pipeline.add_command(call);
        }
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        self.settings.submissions.record(partition);
        let replies = self.send_fired(partition, &pipeline).await?;
        Ok(replies.into_iter().map(|reply| reply.and_then(read_fired)).collect())
    }

    async fn send_fired(
        &self,
        partition: Partition,
        pipeline: &Pipeline,
    ) -> Result<Vec<Result<Value, Error>>, Error> {
        use crate::broker::CALL_DEADLINE;
        use crate::broker::connection::Repeat;
        // Repeated by the next look at the schedule, if the reply is lost.
        self.link.send_all(partition, pipeline, Repeat::Never, CALL_DEADLINE).await
    }
}

fn write_call(
    call: &mut Cmd,
    settings: &Settings,
    (record, why): (&ScheduleRecord, &Why),
    jobs: &[ScheduledJob],
) {
    let due = |tick: Timestamp| record.timing.due(&record.name, tick);
    call.arg(settings.memory_watermark).arg(settings.max_queue_depth).arg(settings.max_queues);
    call.arg(record.name.as_str()).arg(record.version);
    let (word, expected, after, after_due, missed) = match why {
        Why::Tick { expected, plan } => (
            "tick",
            in_ms(Some(*expected)),
            in_ms(plan.next),
            in_ms(plan.next.map(due)),
            plan.missed,
        ),
        Why::Buffered(tick) => ("buffered", in_ms(Some(*tick)), String::new(), String::new(), 0),
        Why::Backfill(now, then) => {
            let then = then.map(|it| it.to_string()).unwrap_or_default();
            ("backfill", now.to_string(), then, String::new(), 0)
        }
        Why::Run => ("run", String::new(), String::new(), String::new(), 0),
    };
    call.arg(word).arg(expected).arg(after).arg(after_due);
    call.arg(record.spec.overlap.as_str()).arg(missed);
    let rendered: Vec<_> =
        jobs.iter().map(|it| (it, extras(&it.job, settings.space.len()))).collect();
    let queue = jobs.first().map_or(&record.spec.queue, |it| &it.job.queue);
    call.arg(queue.as_str()).arg(rendered.first().map_or(0, |(_, extras)| extras.len()));
    for (it, extras) in rendered {
        call.arg(it.tick.unix_ms()).arg(due(it.tick).unix_ms());
        call.arg(it.job.id.to_string()).arg(spec_of(&it.job));
        for (name, value) in extras {
            call.arg(name).arg(value);
        }
    }
}

fn read_fired(reply: Value) -> Result<Fired, Error> {
    let mut values = reply::array(reply)?.into_iter().skip(1);
    let code = values.next().ok_or_else(|| Error::unreadable("no reply to a tick"))?;
    match reply::integer(&code)? {
        1 => values.map(read_outcome).collect::<Result<_, _>>().map(Fired::Done),
        2 => {
            let id = values.next().ok_or_else(|| Error::unreadable("no job of a schedule"))?;
            reply::parsed(id).map(Fired::Busy)
        }
        0 => Ok(Fired::Already),
        -1 => Ok(Fired::Changed),
        -2 => Ok(Fired::Paused),
        code => Err(Error::unreadable(format!("fire returned {code}"))),
    }
}

fn read_outcome(reply: Value) -> Result<TickOutcome, Error> {
    let mut values = reply::array(reply)?.into_iter();
    let code = values.next().ok_or_else(|| Error::unreadable("no outcome of a tick"))?;
    let mut id = || {
        let id = values.next().ok_or_else(|| Error::unreadable("no job of a tick"))?;
        reply::parsed(id)
    };
    match reply::integer(&code)? {
        1 => id().map(TickOutcome::Submitted),
        4 | 5 => id().map(TickOutcome::Existing),
        -7 => id().map(TickOutcome::Locked),
        2 => Ok(TickOutcome::Skipped),
        3 => Ok(TickOutcome::Buffered),
        code => Ok(TickOutcome::Rejected(code)),
    }
}

fn read_item(values: &[Value]) -> Result<ToFire, Error> {
    let time = |value: &Value| -> Result<Option<Timestamp>, Error> {
        Ok(reply::text(value.clone())?.parse().ok().map(Timestamp::from_unix_ms))
    };
    Ok(ToFire {
        name: reply::parsed(values[0].clone())?,
        version: reply::unsigned(&values[1])?,
        tick: time(&values[2])?,
        buffered: time(&values[3])?,
        backfill: Backfill::read(&reply::text(values[4].clone())?),
    })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole milliseconds")]
pub(super) fn score_ms(value: Value) -> Result<Timestamp, Error> {
    reply::parsed::<f64>(value).map(|score| Timestamp::from_unix_ms(score as u64))
}
