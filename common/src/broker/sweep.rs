//! Sweeps, by the first process that calls one: expired leases, due jobs, expired records.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::{Cmd, Value};

use super::commands::Commands;
use super::connection::Call;
use super::error::Error;
use super::functions::Function;
use super::{Broker, reply};
use crate::job::Partition;
use crate::telemetry::metrics::{JOBS_EXPIRED, JOBS_FINISHED, LEASES_LOST, labels};
use crate::time::{Timestamp, whole_ms};

/// The outcome of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Jobs reclaimed from silent workers and made ready again.
    pub requeued: u64,
    /// Jobs that failed because of too many losses.
    pub failed: u64,
    /// Jobs that failed because their deadline passed while they waited.
    pub overdue: u64,
    /// Jobs that were canceled because they did not start in time.
    pub expired: u64,
    /// Due jobs made ready.
    pub promoted: u64,
    /// Expired entries deleted.
    pub trimmed: u64,
}

impl Swept {
    /// Counts jobs that were taken back or waited too long, and logs the former. The broker does it, since APIs and workers
    /// sweep, and heartbeats do.
    pub(super) fn report(&self, partition: Partition) {
        let Self { requeued, failed, overdue, expired, .. } = *self;
        if failed + overdue > 0 {
            let finished = labels("", "", &[("status", "failed")]);
            metrics::counter!(JOBS_FINISHED, finished).increment(failed + overdue);
        }
        count_expired(expired);
        if requeued + failed > 0 {
            metrics::counter!(LEASES_LOST).increment(requeued + failed);
            tracing::warn!(%partition, requeued, failed, "reclaimed jobs from silent workers");
        }
    }
}

/// Counts jobs that a sweep or a claim canceled because they did not start in time.
pub(super) fn count_expired(jobs: u64) {
    if jobs > 0 {
        metrics::counter!(JOBS_EXPIRED).increment(jobs);
        let finished = labels("", "", &[("status", "canceled")]);
        metrics::counter!(JOBS_FINISHED, finished).increment(jobs);
    }
}

/// How often a partition is swept in which nothing can be due.
const QUIET_EVERY_MS: u64 = 10_000;
/// How long after a submission a partition is swept every second: sweeps measure Redis' memory, for submissions to be
/// rejected in time.
const AFTER_SUBMISSION: Duration = Duration::from_secs(10);

/// When this process last submitted jobs to each partition.
#[derive(Debug)]
pub(super) struct Submissions {
    start: Instant,
    /// In milliseconds after the start; 0 for never.
    last: Box<[AtomicU64]>,
}

impl Submissions {
    pub(super) fn new(partitions: u16) -> Self {
        Self { start: Instant::now(), last: (0..partitions).map(|_| AtomicU64::new(0)).collect() }
    }

    pub(super) fn record(&self, partition: Partition) {
        if let Some(last) = self.last.get(usize::from(partition.number())) {
            last.store(whole_ms(self.start.elapsed()).max(1), Ordering::Relaxed);
        }
    }

    fn is_recent(&self, partition: Partition) -> bool {
        let last = self.last[usize::from(partition.number())].load(Ordering::Relaxed);
        last > 0 && self.start.elapsed() < Duration::from_millis(last) + AFTER_SUBMISSION
    }
}

/// When a process last saw that nothing was due in a partition: no lease there is older. So sweeps need not take the
/// time since the last sweep for an outage, after which workers would have to be given time to send heartbeats.
#[derive(Debug, Default)]
pub struct Looks(HashMap<Partition, Timestamp>);

impl Looks {
    /// Returns when that was, if it was ever seen: by Redis' clock, whose jumps are like outages.
    #[must_use]
    pub fn quiet_at(&self, partition: Partition) -> Option<Timestamp> {
        self.0.get(&partition).copied()
    }
}

/// The argument of a function.
pub(super) fn in_ms(time: Option<Timestamp>) -> String {
    time.map(|time| time.unix_ms().to_string()).unwrap_or_default()
}

/// Maximum number of calls in one sweep: a hundred thousand jobs. The next sweep continues where it stopped.
const MAX_CALLS: usize = 1000;

impl Broker {
    /// Sweeps one partition until nothing is left to do, if the last sweep by any process is older than a second.
    /// `quiet_at` is from [`Looks`].
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn sweep(
        &self,
        partition: Partition,
        quiet_at: Option<Timestamp>,
    ) -> Result<Swept, Error> {
        let mut total = Swept::default();
        for _ in 0..MAX_CALLS {
            let watermark = self.settings.memory_watermark;
            let call = Call::new(Function::Sweep, partition).once();
            let arguments = |command: &mut Cmd| {
                command.arg(watermark).arg(in_ms(quiet_at));
            };
            let reply = self.link.call(call, arguments).await?;
            let [_, requeued, failed, promoted, trimmed, more, overdue, expired, features] =
                reply::fields(reply)?;
            self.settings.check_features(&reply::text(features)?)?;
            let swept = Swept {
                requeued: reply::unsigned(&requeued)?,
                failed: reply::unsigned(&failed)?,
                overdue: reply::unsigned(&overdue)?,
                expired: reply::unsigned(&expired)?,
                promoted: reply::unsigned(&promoted)?,
                trimmed: reply::unsigned(&trimmed)?,
            };
            swept.report(partition);
            total.requeued += swept.requeued;
            total.failed += swept.failed;
            total.overdue += swept.overdue;
            total.expired += swept.expired;
            total.promoted += swept.promoted;
            total.trimmed += swept.trimmed;
            if reply::integer(&more)? == 0 {
                break;
            }
        }
        Ok(total)
    }

    /// Returns which of these partitions to sweep now: those in which a lease, a job or a deadline can be due, that were left
    /// undone, that this process has just submitted jobs to, or that were not swept for ten seconds. Looks at all of
    /// these in one round trip. Of a node that cannot be reached, nothing is known: those are returned second.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn to_sweep(
        &self,
        partitions: &[Partition],
        looks: &mut Looks,
    ) -> Result<(Vec<Partition>, Vec<Partition>), Error> {
        let mut commands = Commands::default();
        for &partition in partitions {
            let keys = self.settings.keys(partition);
            let pipeline = commands.at(partition);
            pipeline.cmd("TIME").cmd("EXISTS").arg(keys.due());
            let fields = ["last", "more", "cursor", "memory", "watermark"];
            pipeline.cmd("HMGET").arg(keys.sweep()).arg(&fields);
        }
        let replies = self.link.read_reachable(&commands).await;
        if replies.iter().all(Result::is_err) {
            let first = replies.into_iter().next();
            return first.unwrap_or(Ok(Value::Nil)).map(|_| (Vec::new(), Vec::new()));
        }
        let (mut to_sweep, mut away) = (Vec::new(), Vec::new());
        for (&partition, replies) in partitions.iter().zip(replies.chunks_exact(3)) {
            let [Ok(time), Ok(due), Ok(sweep)] = replies else {
                away.push(partition);
                continue;
            };
            let now = reply::time_ms(time.clone())?;
            let due = reply::integer(due)? == 1;
            let sweep: [Value; 5] = reply::fields(sweep.clone())?;
            if !due {
                looks.0.insert(partition, Timestamp::from_unix_ms(now));
            }
            let is_quiet =
                !due && !self.settings.submissions.is_recent(partition) && is_done(&sweep, now);
            to_sweep.extend((!is_quiet).then_some(partition));
        }
        Ok((to_sweep, away))
    }
}

/// Whether the last sweep of a partition left nothing undone and is younger than ten seconds, and there is memory.
fn is_done(state: &[Value; 5], now: u64) -> bool {
    let [last, more, cursor, memory, watermark] =
        state.each_ref().map(|value| reply::unsigned(value).ok());
    let is_over = more == Some(0) && cursor == Some(0) && memory < watermark;
    is_over && last.is_some_and(|last| (last..last + QUIET_EVERY_MS).contains(&now))
}
