//! Sends progress and log lines of running jobs to Redis, and sends them again until they are confirmed. Never reports
//! for a job that was settled.

use std::sync::Arc;
use std::time::Duration;

use crunch_common::broker::{Broker, Error, LeaseKey, Report, WorkerId};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::JobContext;
use crate::running::RunningJobs;

/// Sends reports, one call at a time: the settlement of a job must not overtake its last report.
#[derive(Debug)]
pub(crate) struct Reporter {
    broker: Broker,
    worker: WorkerId,
    sending: Mutex<()>,
    /// Whether the last call did not reach Redis. Then only the next tick retries, for all jobs at once: an outage must
    /// not delay one settlement after the other.
    away: watch::Sender<bool>,
}

/// A job and its report.
type Reporting = (JobContext, Report);

impl Reporter {
    /// Frequent enough for a progress bar, rare enough that a handler with many reports costs ten calls a second, not
    /// ten thousand.
    const INTERVAL: Duration = Duration::from_millis(100);

    pub(crate) fn new(broker: Broker, worker: WorkerId) -> Self {
        Self { broker, worker, sending: Mutex::new(()), away: watch::Sender::new(false) }
    }

    pub(crate) async fn run(self: Arc<Self>, running: Arc<RunningJobs>, done: CancellationToken) {
        while done.run_until_cancelled(tokio::time::sleep(Self::INTERVAL)).await.is_some() {
            self.tick(&running).await;
        }
    }

    async fn tick(&self, running: &RunningJobs) {
        let _one_at_a_time = self.sending.lock().await;
        self.send(running.unconfirmed(), false).await;
    }

    /// Waits until everything that a job reported is confirmed, before it is settled. While Redis is unreachable it
    /// waits: so does the settlement. A job without reports costs nothing.
    pub(crate) async fn finish(&self, lease: LeaseKey, job: &JobContext) {
        let mut away = self.away.subscribe();
        while job.unconfirmed(lease).is_some() {
            // The sender lives as long as this value.
            let _ = away.wait_for(|&away| !away).await;
            let _one_at_a_time = self.sending.lock().await;
            let rest = job.unconfirmed(lease).map(|report| (job.clone(), report));
            self.send(rest.into_iter().collect(), true).await;
        }
    }

    async fn send(&self, mut reporting: Vec<Reporting>, last: bool) {
        for partition in self.broker.partitions() {
            let is_here = |(_, report): &mut Reporting| report.lease.id.partition() == partition;
            let (jobs, reports): (Vec<_>, Vec<_>) = reporting.extract_if(.., is_here).unzip();
            if reports.is_empty() {
                continue;
            }
            let outcome = self.broker.report(partition, self.worker, &reports, last).await;
            let is_away =
                matches!(outcome, Err(Error::Unavailable { .. } | Error::Rejected { .. }));
            self.away.send_if_modified(|away| std::mem::replace(away, is_away) != is_away);
            let jobs = jobs.iter().zip(&reports);
            match outcome {
                Ok(outcomes) => {
                    jobs.zip(outcomes)
                        .for_each(|((job, report), outcome)| job.note(report, outcome));
                }
                Err(error @ (Error::Unavailable { .. } | Error::Rejected { .. })) => {
                    tracing::debug!(%error, "reports of running jobs wait for Redis");
                }
                Err(error) => {
                    tracing::warn!(%error, jobs = reports.len(), "progress and log lines of running jobs are lost");
                    jobs.for_each(|(job, _)| job.discard());
                }
            }
        }
    }
}
