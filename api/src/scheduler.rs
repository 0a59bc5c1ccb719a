//! Submits the jobs of schedules whose ticks are due. Every API does; which of them submits a job is decided in Redis, where a
//! tick happens once (`broker/lua/fire.lua`).
//!
//! The API does it and not the workers, because it has the declarations of tasks, the keys that schedules belong to and the
//! secrets of webhooks. A process knows when the next tick is due and sleeps until then; it looks once a second for schedules
//! that others created, with two commands a partition.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crunch_common::broker::{
    Backfill, Broker, Error, Fired, ScheduleRecord, ScheduledBy, ScheduledJob, TickOutcome, ToFire,
    Why,
};
use crunch_common::job::Partition;
use crunch_common::schedule::{Plan, ScheduleName};
use crunch_common::time::Timestamp;
use crunch_consumer::Reachability;
use tokio::sync::watch;

use crate::metrics;
use crate::schedule::{Misfit, job_of};
use crate::state::App;

/// How often schedules that others created or changed are looked for.
const INTERVAL: Duration = Duration::from_secs(1);
/// The shortest time between two looks: so ticks that are spread by their jitter do not cause a call each.
const MIN_PAUSE: Duration = Duration::from_millis(20);
/// How long others leave a tick to the process that took it: longer than it takes to submit what it took.
const HOLD: Duration = Duration::from_secs(2);
/// How many schedules one process takes at once: the others take the next ones meanwhile.
const AT_ONCE: usize = 20;
/// How many ticks of a schedule one step submits: less than a millisecond of Redis.
const TICKS: usize = 10;
/// How often it takes schedules of one partition before it looks at the others.
const ROUNDS: usize = 100;
/// How many bytes of schedules it remembers; beyond that it forgets all, and reads those that are due again.
const REMEMBERED: usize = 64 * 1024 * 1024;

/// What it does for one schedule: the record, why, and the jobs.
type Firing<'a> = (&'a ScheduleRecord, Why, Vec<ScheduledJob>);

pub(crate) struct Scheduler {
    app: App,
    broker: Broker,
    known: HashMap<(Partition, ScheduleName), Arc<ScheduleRecord>>,
    bytes: usize,
}

impl Scheduler {
    pub(crate) fn new(app: &App) -> Self {
        let broker = app.broker.with_own_connection();
        Self { app: app.clone(), broker, known: HashMap::new(), bytes: 0 }
    }

    /// Submits what is due until `stop` turns true.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut reachability = Reachability::of("scheduler");
        loop {
            let pause = match Box::pin(self.tick()).await {
                Ok(pause) => {
                    reachability.succeeded();
                    pause
                }
                Err(error) => {
                    let _the_interval_is_kept = reachability.failed(&error);
                    INTERVAL
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause.clamp(MIN_PAUSE, INTERVAL)) => {}
                _ = stop.wait_for(|&stop| stop) => return,
            }
        }
    }

    /// Submits what is due in all partitions; returns how long nothing is.
    async fn tick(&mut self) -> Result<Duration, Error> {
        let (mut pause, mut outcome) = (INTERVAL, Ok(()));
        for (partition, now, first) in self.broker.first_due_schedules().await? {
            let Some(first) = first else { continue };
            let mut wait = now.until(first);
            if wait.is_zero() {
                match self.fire_partition(partition).await {
                    Ok(next) => wait = next,
                    Err(error) => outcome = outcome.and(Err(error)),
                }
            }
            pause = pause.min(wait);
        }
        outcome.map(|()| pause)
    }

    /// Submits what is due in a partition; returns how long nothing is.
    async fn fire_partition(&mut self, partition: Partition) -> Result<Duration, Error> {
        for _ in 0..ROUNDS {
            let due = self.broker.due_schedules(partition, AT_ONCE, HOLD).await?;
            if due.items.is_empty() {
                return Ok(due.next.map_or(INTERVAL, |next| due.now.until(next)));
            }
            self.fire_all(partition, due.now, &due.items).await?;
        }
        Ok(Duration::ZERO)
    }

    async fn fire_all(
        &mut self,
        partition: Partition,
        now: Timestamp,
        items: &[ToFire],
    ) -> Result<(), Error> {
        let records = self.records(partition, items).await?;
        let mut calls: Vec<Firing<'_>> = Vec::new();
        for (item, record) in items.iter().zip(&records) {
            let Some(record) = record else { continue };
            self.add_calls(partition, now, (item, record), &mut calls).await?;
        }
        let outcomes = self.broker.fire(partition, &calls).await?;
        for ((record, why, _), outcome) in calls.iter().zip(outcomes) {
            report(record, why, outcome)?;
        }
        Ok(())
    }

    /// Returns the schedules of these names and versions; none for those that were changed meanwhile, which are due again.
    async fn records(
        &mut self,
        partition: Partition,
        items: &[ToFire],
    ) -> Result<Vec<Option<Arc<ScheduleRecord>>>, Error> {
        let key = |item: &ToFire| (partition, item.name.clone());
        let is_known = |known: &HashMap<_, Arc<ScheduleRecord>>, item: &ToFire| {
            known.get(&key(item)).is_some_and(|record| record.version == item.version)
        };
        let unknown: Vec<_> = items.iter().filter(|item| !is_known(&self.known, item)).collect();
        let names: Vec<_> = unknown.iter().map(|item| item.name.clone()).collect();
        let read = self.broker.schedules_at(partition, &names).await?;
        if self.bytes > REMEMBERED {
            self.known.clear();
            self.bytes = 0;
        }
        let mut found: HashMap<ScheduleName, Arc<ScheduleRecord>> = HashMap::new();
        for (item, record) in unknown.into_iter().zip(read) {
            match record {
                Ok(Some(record)) => {
                    let record = Arc::new(record);
                    self.bytes += record.payload.len() + record.spec.job.len() + 1024;
                    self.known.insert(key(item), record.clone());
                    found.insert(item.name.clone(), record);
                }
                Ok(None) => {}
                Err(error) => {
                    let reason = ("unreadable", error.to_string());
                    self.pause(partition, (&item.name, item.version), reason).await?;
                }
            }
        }
        let of = |item: &ToFire| {
            let record = found.get(&item.name).or_else(|| self.known.get(&key(item)));
            record.filter(|record| record.version == item.version).cloned()
        };
        Ok(items.iter().map(of).collect())
    }

    /// Adds what is to be done for a schedule; pauses one that cannot go on.
    async fn add_calls<'a>(
        &self,
        partition: Partition,
        now: Timestamp,
        (item, record): (&ToFire, &'a Arc<ScheduleRecord>),
        calls: &mut Vec<Firing<'a>>,
    ) -> Result<(), Error> {
        let done = self.firings(partition, now, (item, record), calls).await;
        match done {
            Ok(()) => Ok(()),
            Err(Misfit::Passing(problem)) => {
                tracing::debug!(schedule = %record.name, %problem, "a tick is tried again");
                Ok(())
            }
            Err(Misfit::Lasting(code, reason)) => {
                self.pause(partition, (&record.name, record.version), (code, reason)).await
            }
            Err(Misfit::Refused(problem)) => {
                let reason = ("misfit", problem.detail().to_owned());
                self.pause(partition, (&record.name, record.version), reason).await
            }
        }
    }

    async fn firings<'a>(
        &self,
        partition: Partition,
        now: Timestamp,
        (item, record): (&ToFire, &'a Arc<ScheduleRecord>),
        calls: &mut Vec<Firing<'a>>,
    ) -> Result<(), Misfit> {
        let uncomputable = |error: crunch_common::schedule::Uncomputable| {
            Misfit::Lasting("uncomputable", error.to_string())
        };
        // A buffered tick is before the next one.
        if let Some(tick) = item.buffered {
            let jobs = self.jobs(partition, record, &[tick]).await?;
            calls.push((record, Why::Buffered(tick), jobs));
        }
        if let Some(expected) = item.tick {
            let timing = (&record.timing, &record.name);
            let plan = Plan::of(timing, &record.spec.missed, (expected, now), TICKS);
            let plan = plan.map_err(uncomputable)?;
            let jobs = self.jobs(partition, record, &plan.ticks).await?;
            calls.push((record, Why::Tick { expected, plan }, jobs));
        }
        if let Some(backfill) = item.backfill {
            let next = record.timing.next_after(backfill.next).map_err(uncomputable)?;
            let left = backfill.left.saturating_sub(1);
            let then = next
                .filter(|next| left > 0 && *next <= backfill.last)
                .map(|next| Backfill { next, left, ..backfill });
            let jobs = self.jobs(partition, record, &[backfill.next]).await?;
            calls.push((record, Why::Backfill(backfill, then), jobs));
        }
        Ok(())
    }

    async fn jobs(
        &self,
        partition: Partition,
        record: &ScheduleRecord,
        ticks: &[Timestamp],
    ) -> Result<Vec<ScheduledJob>, Misfit> {
        let mut jobs = Vec::with_capacity(ticks.len());
        for &tick in ticks {
            let by = ScheduledBy { name: record.name.clone(), tick };
            let job = job_of(&self.app, record, by).await?;
            if job.id.partition() != partition {
                let reason = "its queue has changed with its task, and its jobs belong to another partition: PUT it again";
                return Err(Misfit::Lasting("moved", reason.to_owned()));
            }
            jobs.push(ScheduledJob { tick, job });
        }
        Ok(jobs)
    }

    async fn pause(
        &self,
        partition: Partition,
        (name, version): (&ScheduleName, u64),
        (code, reason): (&str, String),
    ) -> Result<(), Error> {
        tracing::warn!(schedule = %name, code, reason, "a schedule is paused");
        let reason = (code, reason.as_str());
        self.broker.pause_schedule_at(partition, name, Some(version), reason).await.map(drop)
    }
}

/// Logs and counts what became of ticks.
fn report(record: &ScheduleRecord, why: &Why, outcome: Result<Fired, Error>) -> Result<(), Error> {
    match outcome {
        Ok(Fired::Done(outcomes)) => {
            if let Why::Tick { plan, .. } = why {
                metrics::ticks("missed", plan.missed.into());
            }
            for outcome in outcomes {
                metrics::ticks(word(&outcome), 1);
                match outcome {
                    TickOutcome::Submitted(id) => {
                        tracing::debug!(schedule = %record.name, job.id = %id, "a tick's job was submitted");
                    }
                    TickOutcome::Rejected(code) => {
                        tracing::info!(schedule = %record.name, code, "there is no room for a tick's job; it is tried again");
                    }
                    TickOutcome::Existing(id) | TickOutcome::Locked(id) => {
                        tracing::debug!(schedule = %record.name, job.id = %id, "a tick was skipped: this job holds its lock");
                    }
                    TickOutcome::Skipped | TickOutcome::Buffered => {}
                }
            }
            Ok(())
        }
        // Another process was first, or it was changed: the next look finds what is to be done.
        Ok(Fired::Already | Fired::Changed | Fired::Paused | Fired::Busy(_)) => Ok(()),
        // Redis is full: the tick is due again in a moment.
        Err(Error::Full) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What became of a tick, in a word.
const fn word(outcome: &TickOutcome) -> &'static str {
    match outcome {
        TickOutcome::Submitted(_) => "submitted",
        TickOutcome::Skipped | TickOutcome::Existing(_) | TickOutcome::Locked(_) => "skipped",
        TickOutcome::Buffered => "buffered",
        TickOutcome::Rejected(_) => "rejected",
    }
}
