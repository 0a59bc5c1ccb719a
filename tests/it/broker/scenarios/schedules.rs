//! Schedules: ticks happen once, in one step with their jobs.

use crunch_common::broker::{
    Backfill, BackfillChange, Condition, Fired, GroupRule, Pause, PutOutcome, PutSchedule,
    ScheduleOrigin, ScheduleRecord, ScheduleSpec, ScheduledBy, ScheduledJob, TickOutcome, ToFire,
    Why,
};
use crunch_common::job::Unique;
use crunch_common::schedule::{Missed, MissedPolicy, Overlap, Plan, Rule, ScheduleName, Timing};

use super::groups::{named, text};
use super::locks::locked;
use super::*;

/// How long other processes leave what one took.
const HOLD: Duration = Duration::from_secs(2);

pub(super) fn at(ms: u64) -> Timestamp {
    Timestamp::from_unix_ms(ms)
}

fn nightly() -> ScheduleName {
    "nightly".parse().unwrap()
}

/// A schedule of every ten seconds.
pub(super) fn every_ten_seconds(overlap: Overlap) -> PutSchedule {
    PutSchedule {
        name: nightly(),
        timing: Timing::of(Rule::Every(Duration::from_secs(10))),
        spec: ScheduleSpec {
            task: "story".parse().unwrap(),
            queue: "story".parse().unwrap(),
            group: None,
            job: "{}".to_owned(),
            missed: Missed::default(),
            overlap,
            owner: None,
        },
        payload: b"{\"n\":1}".to_vec(),
        origin: ScheduleOrigin::Api,
        condition: Condition::None,
    }
}

impl World {
    /// Creates or changes a schedule, with its first tick from now.
    pub(super) async fn put_schedule(&self, put: &PutSchedule) -> Result<PutOutcome, String> {
        let first = put.timing.first_after(at(self.now)).map_err(|error| error.to_string())?;
        self.broker.put_schedule(put, first).await.map_err(text)
    }

    pub(super) async fn schedule(&self) -> Result<ScheduleRecord, String> {
        let found = self.broker.schedule(&nightly()).await.map_err(text)?;
        found.ok_or_else(|| "the schedule is gone".to_owned())
    }

    async fn take(&self) -> Result<Vec<ToFire>, String> {
        let due = self.broker.due_schedules(Partition::default(), 20, HOLD).await.map_err(text)?;
        ensure(due.now == at(self.now), "the time of Redis' clock")?;
        Ok(due.items)
    }

    fn scheduled_job(&self, record: &ScheduleRecord, tick: Timestamp) -> ScheduledJob {
        let mut job = self.job("");
        job.options.payload_size = record.payload.len() as u64;
        job.options.group.clone_from(&record.spec.group);
        job.schedule = Some(ScheduledBy { name: record.name.clone(), tick });
        if record.spec.job.contains("unique") {
            job = locked(job, "a", &Unique::by_payload());
        }
        ScheduledJob { tick, job }
    }

    async fn fire(
        &self,
        record: &ScheduleRecord,
        why: Why,
        ticks: &[Timestamp],
    ) -> Result<Fired, String> {
        let jobs = ticks.iter().map(|tick| self.scheduled_job(record, *tick)).collect();
        let mut fired =
            self.broker.fire(Partition::default(), &[(record, why, jobs)]).await.map_err(text)?;
        fired.remove(0).map_err(text)
    }

    pub(super) async fn fire_tick(&self, record: &ScheduleRecord) -> Result<Fired, String> {
        let expected = record.next.ok_or("the schedule has no next tick")?;
        let (timing, missed) = (&record.timing, &record.spec.missed);
        let plan = Plan::of((timing, &record.name), missed, (expected, at(self.now)), 10)
            .map_err(|error| error.to_string())?;
        let ticks = plan.ticks.clone();
        self.fire(record, Why::Tick { expected, plan }, &ticks).await
    }

    /// Does what is due, as a process does; returns what became of the ticks.
    pub(super) async fn fire_due(&self) -> Result<Vec<TickOutcome>, String> {
        let mut outcomes = Vec::new();
        for item in self.take().await? {
            let record = self.schedule().await?;
            ensure(item.version == record.version, "the version of the schedule")?;
            if let Some(tick) = item.buffered {
                outcomes.extend(done(self.fire(&record, Why::Buffered(tick), &[tick]).await?)?);
            }
            if item.tick.is_some() {
                outcomes.extend(done(self.fire_tick(&record).await?)?);
            }
            if let Some(backfill) = item.backfill {
                let after = record.timing.next_after(backfill.next).unwrap_or_default();
                let then = after.filter(|_| backfill.left > 1).map(|next| Backfill {
                    next,
                    left: backfill.left - 1,
                    ..backfill
                });
                let why = Why::Backfill(backfill, then);
                outcomes.extend(done(self.fire(&record, why, &[backfill.next]).await?)?);
            }
        }
        Ok(outcomes)
    }

    /// Goes to the next tick, whose time is a multiple of ten seconds, and does what is due.
    pub(super) async fn next_tick(&mut self) -> Result<Vec<TickOutcome>, String> {
        self.advance_clock(10_000 - self.now % 10_000).await;
        self.fire_due().await
    }

    /// Runs the next job of the queue to its end; returns its id.
    pub(super) async fn run_one(&mut self) -> Result<JobId, String> {
        let claim = self.claim(1).await?.claims.pop().ok_or("there is no job to run")?;
        let id = claim.job.id;
        let settled = self.exchange(vec![claim.lease.complete(Payload::json("1"))], 0).await?;
        ensure(settled.settled.iter().all(|it| *it == Settled::Done), "a job ends")?;
        Ok(id)
    }

    pub(super) async fn looked_at(&mut self) -> Option<u64> {
        match self.tamper("ZSCORE", "schedules", &["nightly"]).await {
            redis::Value::Nil => None,
            redis::Value::Double(score) => Some(score as u64),
            other => redis::from_redis_value::<f64>(other).ok().map(|score| score as u64),
        }
    }
}

fn done(fired: Fired) -> Result<Vec<TickOutcome>, String> {
    match fired {
        Fired::Done(outcomes) => Ok(outcomes),
        other => Err(format!("a tick was not done: {other:?}")),
    }
}

pub(super) fn submitted(outcomes: &[TickOutcome]) -> Result<JobId, String> {
    match outcomes {
        [TickOutcome::Submitted(id)] => Ok(*id),
        other => Err(format!("expected one job, not {other:?}")),
    }
}

pub(super) async fn once(world: &mut World) -> Check {
    let put = every_ten_seconds(Overlap::Allow);
    ensure(world.put_schedule(&put).await? == PutOutcome::Created, "it is created")?;
    let used = world.tamper("HGET", "layout", &["features"]).await;
    ensure(used == redis::Value::BulkString(b"schedules".to_vec()), "the feature is listed")?;
    ensure(world.take().await?.is_empty(), "nothing is due yet")?;
    world.advance_clock(10_000 - world.now % 10_000).await;
    let tick = at(world.now);
    let record = world.schedule().await?;
    ensure(record.next == Some(tick), "the next tick is a multiple of the interval")?;

    let items = world.take().await?;
    ensure(items.len() == 1 && items[0].tick == Some(tick), "its tick is due")?;
    ensure(world.take().await?.is_empty(), "others leave it to the one that took it")?;
    let id = submitted(&done(world.fire_tick(&record).await?)?)?;
    ensure(world.fire_tick(&record).await? == Fired::Already, "a tick happens once")?;
    ensure(world.ready_count(&["story"]).await == 1, "there is one job")?;
    ensure(world.take_wake_token().await, "a worker is woken")?;
    let job = world.read_job(id).await?;
    let by = job.schedule.ok_or("the job does not name its schedule")?;
    ensure(by.name == nightly() && by.tick == tick, "the job names its schedule and its tick")?;
    let claim = world.claim(1).await?.claims.pop().ok_or("it cannot be claimed")?;
    ensure(claim.job.payload.bytes == put.payload, "it has the payload of the schedule")?;

    let record = world.schedule().await?;
    ensure(record.next == Some(at(world.now + 10_000)), "the next tick follows")?;
    ensure(world.looked_at().await == Some(world.now + 10_000), "and is looked at in time")?;
    ensure((record.submitted, record.last_job) == (1, Some(id)), "its job is recorded")?;
    ensure(record.runs.len() == 1 && record.runs[0].job == Some(id), "and its tick")
}

/// A process that dies between taking a tick and submitting its job leaves it to another.
pub(super) async fn taken(world: &mut World) -> Check {
    world.put_schedule(&every_ten_seconds(Overlap::Allow)).await?;
    world.advance_clock(10_000 - world.now % 10_000).await;
    ensure(world.take().await?.len() == 1, "one process takes the tick")?;
    world.advance_clock(1_999).await;
    ensure(world.take().await?.is_empty(), "the others leave it")?;
    world.advance_clock(1).await;
    submitted(&world.fire_due().await?)?;
    // One that is looked at too early is looked at again in time.
    world.tamper("ZADD", "schedules", &["1", "nightly"]).await;
    ensure(world.take().await?.is_empty(), "its tick is not due")?;
    let due = world.schedule().await?.next.map(Timestamp::unix_ms);
    ensure(world.looked_at().await == due, "it is looked at when it is")
}

pub(super) async fn overlapping(world: &mut World) -> Check {
    world.put_schedule(&every_ten_seconds(Overlap::Skip)).await?;
    submitted(&world.next_tick().await?)?;
    ensure(world.next_tick().await? == [TickOutcome::Skipped], "a tick is skipped")?;
    world.run_one().await?;
    submitted(&world.next_tick().await?)?;
    let record = world.schedule().await?;
    ensure((record.submitted, record.skipped) == (2, 1), "both are counted")?;
    let outcomes: Vec<_> = record.runs.iter().map(|run| run.outcome.as_str()).collect();
    ensure(outcomes == ["submitted", "skipped", "submitted"], "the newest tick is the first")?;

    world.put_schedule(&every_ten_seconds(Overlap::Allow)).await?;
    submitted(&world.next_tick().await?)?;
    ensure(world.ready_count(&["story"]).await == 2, "both jobs wait")
}

pub(super) async fn buffered(world: &mut World) -> Check {
    world.put_schedule(&every_ten_seconds(Overlap::BufferOne)).await?;
    submitted(&world.next_tick().await?)?;
    ensure(world.next_tick().await? == [TickOutcome::Buffered], "one tick waits")?;
    let tick = at(world.now);
    ensure(world.next_tick().await? == [TickOutcome::Skipped], "no second one")?;
    ensure(world.schedule().await?.buffered == Some(tick), "the first of them waits")?;
    ensure(world.fire_due().await?.is_empty(), "as long as the job lives")?;
    world.run_one().await?;
    ensure(world.looked_at().await == Some(world.now), "its end is noticed")?;
    let id = submitted(&world.fire_due().await?)?;
    let by = world.read_job(id).await?.schedule.map(|by| by.tick);
    ensure(by == Some(tick), "then the job of that tick is submitted")?;
    ensure(world.schedule().await?.buffered.is_none(), "it no longer waits")?;

    // A tick that comes between the end of the job and the buffered one does not overtake it.
    ensure(world.next_tick().await? == [TickOutcome::Buffered], "one tick waits again")?;
    world.run_one().await?;
    world.advance_clock(10_000).await;
    let record = world.schedule().await?;
    let fired = done(world.fire_tick(&record).await?)?;
    ensure(fired == [TickOutcome::Skipped], "the buffered one is before it")?;
    submitted(&world.fire_due().await?)?;
    let record = world.schedule().await?;
    let again = world.fire(&record, Why::Buffered(tick), &[tick]).await?;
    ensure(again == Fired::Already, "a buffered tick happens once")
}

pub(super) async fn replaced(world: &mut World) -> Check {
    world.put_schedule(&every_ten_seconds(Overlap::CancelPrevious)).await?;
    let first = submitted(&world.next_tick().await?)?;
    let second = submitted(&world.next_tick().await?)?;
    let status = world.read_job(first).await?.status;
    ensure(status == Status::Canceled, "a job that waits is canceled")?;
    let ended = world.query_number("ZCARD", "queue:story:finished").await;
    ensure(ended == 1, "it has ended")?;
    let bucket = format!("queue:story:ended:{}", world.now / 10_000);
    let counted = world.tamper("GET", &bucket, &[]).await;
    ensure(counted == redis::Value::BulkString(b"1".to_vec()), "and is counted")?;

    let claim = world.claim(1).await?.claims.pop().ok_or("there is no job to run")?;
    ensure(claim.job.id == second, "the second one runs")?;
    ensure(world.next_tick().await? == [TickOutcome::Buffered], "the next one waits for it")?;
    ensure(world.read_job(second).await?.cancel_requested, "its cancellation is requested")?;
    ensure(world.next_tick().await? == [TickOutcome::Buffered], "the newest tick waits")?;
    let tick = at(world.now);
    ensure(world.schedule().await?.skipped == 1, "the one before it is skipped")?;
    let _ = world.exchange(vec![claim.lease.complete(Payload::json("1"))], 0).await?;
    let id = submitted(&world.fire_due().await?)?;
    let by = world.read_job(id).await?.schedule.map(|by| by.tick);
    ensure(by == Some(tick), "then the job of the newest tick is submitted")
}

pub(super) async fn missed(world: &mut World) -> Check {
    let mut put = every_ten_seconds(Overlap::Allow);
    put.spec.missed = Missed { policy: MissedPolicy::All, at_most: 3, ..Missed::default() };
    world.put_schedule(&put).await?;
    world.advance_clock(10_000 - world.now % 10_000).await;
    world.advance_clock(40_000).await;
    let outcomes = world.fire_due().await?;
    ensure(outcomes.len() == 3, "three of the five ticks are made up for")?;
    let record = world.schedule().await?;
    ensure((record.missed, record.submitted) == (2, 3), "two were missed")?;
    ensure(record.next == Some(at(world.now + 10_000)), "the next tick is not due")?;
    let ticks: Vec<_> = record.runs.iter().map(|run| world.now - run.tick.unix_ms()).collect();
    ensure(ticks == [0, 10_000, 20_000], "the newest three, in their order")
}

pub(super) async fn held(world: &mut World) -> Check {
    let mut put = every_ten_seconds(Overlap::Allow);
    put.spec.group = Some(named("report"));
    put.spec.missed = Missed { policy: MissedPolicy::All, ..Missed::default() };
    world.put_schedule(&put).await?;
    world.set_each(GroupRule { max_queued: Some(2), ..GroupRule::default() }).await?;
    world.advance_clock(10_000 - world.now % 10_000).await;
    world.advance_clock(30_000).await;
    let tick = at(world.now - 10_000);
    let outcomes = world.fire_due().await?;
    let rejected = TickOutcome::Rejected(-5);
    ensure(outcomes.len() == 4 && outcomes[2..] == [rejected; 2], "two jobs have no room")?;
    let record = world.schedule().await?;
    ensure(record.next == Some(tick), "its tick is kept")?;
    ensure(record.held.is_some_and(|(_, code)| code == 5), "with the reason")?;
    ensure(record.submitted == 2, "two are submitted")?;
    world.run_one().await?;
    world.run_one().await?;
    world.advance_clock(4_999).await;
    ensure(world.fire_due().await?.is_empty(), "it is tried again after five seconds")?;
    world.advance_clock(1).await;
    ensure(world.fire_due().await?.len() == 2, "with the one after it")?;
    let record = world.schedule().await?;
    ensure(record.held.is_none() && record.next > Some(tick), "then the next tick follows")?;
    let run = world.fire(&record, Why::Run, &[at(world.now)]).await?;
    ensure(run == Fired::Done(vec![rejected]), "a run on request is answered so")?;
    ensure(world.schedule().await?.held.is_none(), "and not tried again")
}

pub(super) async fn requested(world: &mut World) -> Check {
    world.put_schedule(&every_ten_seconds(Overlap::Skip)).await?;
    let record = world.schedule().await?;
    let now = [at(world.now)];
    let id = submitted(&done(world.fire(&record, Why::Run, &now).await?)?)?;
    let busy = world.fire(&record, Why::Run, &now).await?;
    ensure(busy == Fired::Busy(id), "a second one waits for the first")?;
    ensure(world.next_tick().await? == [TickOutcome::Skipped], "so does a tick")?;
    let next = world.schedule().await?.next;
    ensure(next == Some(at(world.now + 10_000)), "its next tick is not changed by that")?;
    let record = world.schedule().await?;
    world.broker.pause_schedule(&record, None, (Pause::REQUESTED, "")).await.map_err(text)?;
    world.run_one().await?;
    submitted(&done(world.fire(&record, Why::Run, &now).await?)?)?;
    ensure(world.looked_at().await.is_none(), "it stays paused")
}

pub(super) async fn made_up(world: &mut World) -> Check {
    world.put_schedule(&every_ten_seconds(Overlap::Skip)).await?;
    let record = world.schedule().await?;
    let from = world.now - world.now % 10_000 - 100_000;
    let backfill = Backfill { next: at(from), last: at(from + 20_000), left: 3 };
    let change = world.broker.backfill(&record, Some(backfill)).await.map_err(text)?;
    ensure(change == BackfillChange::Done, "a backfill begins")?;
    let other = Backfill { left: 2, ..backfill };
    let change = world.broker.backfill(&record, Some(other)).await.map_err(text)?;
    ensure(change == BackfillChange::UnderWay, "one at a time")?;
    for round in 0..3 {
        let id = submitted(&world.fire_due().await?)?;
        let tick = world.read_job(id).await?.schedule.map(|by| by.tick.unix_ms());
        ensure(tick == Some(from + round * 10_000), "its ticks come one after the other")?;
        ensure(world.fire_due().await?.is_empty(), "one job at a time")?;
        if let Some(left) = world.schedule().await?.backfill {
            let early = world.fire(&record, Why::Backfill(left, None), &[left.next]).await?;
            ensure(early == Fired::Already, "the next one waits for it")?;
        }
        let ended = world.run_one().await?;
        ensure(ended == id, "it ends")?;
    }
    let left = world.schedule().await?.backfill;
    ensure(left.is_none() && world.fire_due().await?.is_empty(), "then it is over")?;
    let why = Why::Backfill(backfill, None);
    let again = world.fire(&record, why, &[at(from)]).await?;
    ensure(again == Fired::Already, "none of it happens twice")?;

    // A pause holds it, and it can be stopped.
    world.broker.backfill(&record, Some(backfill)).await.map_err(text)?;
    world.broker.pause_schedule(&record, None, (Pause::REQUESTED, "")).await.map_err(text)?;
    ensure(world.fire_due().await?.is_empty(), "a pause holds it")?;
    let change = world.broker.backfill(&record, Some(other)).await.map_err(text)?;
    ensure(change == BackfillChange::Paused, "none begins in a pause")?;
    world.broker.resume_schedule(&record, record.next).await.map_err(text)?;
    submitted(&world.fire_due().await?)?;
    submitted(&world.next_tick().await?)?;
    world.broker.pause_schedule(&record, None, (Pause::REQUESTED, "")).await.map_err(text)?;
    world.run_one().await?;
    ensure(world.looked_at().await.is_none(), "the end of its job changes nothing in a pause")?;
    let next = record.timing.next_after(at(world.now)).unwrap();
    world.broker.resume_schedule(&record, next).await.map_err(text)?;
    world.broker.backfill(&record, None).await.map_err(text)?;
    world.run_one().await?;
    ensure(world.fire_due().await?.is_empty(), "it was stopped")
}

pub(super) async fn ended(world: &mut World) -> Check {
    let mut put = every_ten_seconds(Overlap::BufferOne);
    let first = world.now - world.now % 10_000 + 10_000;
    put.timing.end_at = Some(at(first + 10_000));
    world.put_schedule(&put).await?;
    submitted(&world.next_tick().await?)?;
    ensure(world.next_tick().await? == [TickOutcome::Buffered], "the last tick waits")?;
    let record = world.schedule().await?;
    ensure(record.next.is_none(), "there is no tick after the end")?;
    ensure(world.looked_at().await.is_some(), "but one waits")?;
    world.run_one().await?;
    submitted(&world.fire_due().await?)?;
    ensure(world.looked_at().await.is_none(), "then nobody looks at it any more")
}
