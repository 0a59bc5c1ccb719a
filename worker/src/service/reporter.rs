//! Carries progress and log lines of running jobs to Redis. Never speaks for a job that was settled.

use std::time::{Duration, Instant};

use crunch_common::broker::{Broker, Error, LeaseKey, Report, WorkerId};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::JobContext;
use crate::running::RunningJobs;

/// Sends reports, one at a time: a job's last words must not be overtaken by its settlement.
#[derive(Debug)]
pub(crate) struct Reporter {
    broker: Broker,
    worker: WorkerId,
    sending: Mutex<()>,
    /// Until then nobody waits for last words: a report did not get through, and an outage must not hold up one settlement
    /// after the other.
    away_until: watch::Sender<Option<Instant>>,
}

impl Reporter {
    /// Quick enough for a progress bar, rare enough that a chatty handler costs ten calls a second, not ten thousand.
    const INTERVAL: Duration = Duration::from_millis(100);

    /// As long as one call may take.
    const AWAY: Duration = Duration::from_secs(2);

    pub(crate) fn new(broker: Broker, worker: WorkerId) -> Self {
        Self { broker, worker, sending: Mutex::new(()), away_until: watch::Sender::new(None) }
    }

    pub(crate) async fn run(&self, running: &RunningJobs, shutdown: CancellationToken) {
        while shutdown.run_until_cancelled(tokio::time::sleep(Self::INTERVAL)).await.is_some() {
            self.tick(running).await;
        }
    }

    async fn tick(&self, running: &RunningJobs) {
        let _one_at_a_time = self.sending.lock().await;
        self.send(running.take_said()).await;
    }

    /// Sends what a job said last, before it is settled; waits for a report of it that is on its way. A job that never
    /// said anything costs nothing.
    pub(crate) async fn last_words(&self, lease: LeaseKey, job: &JobContext) {
        let away = self.away_until.borrow().is_some_and(|until| Instant::now() < until);
        if job.spoke() && !away {
            let _one_at_a_time = self.sending.lock().await;
            self.send(job.take_report(lease).into_iter().collect()).await;
        }
    }

    async fn send(&self, mut reports: Vec<Report>) {
        for partition in self.broker.partitions() {
            let here: Vec<_> =
                reports.extract_if(.., |report| report.lease.id.partition() == partition).collect();
            if here.is_empty() {
                continue;
            }
            let outcome = self.broker.report(partition, self.worker, &here).await;
            let failed = matches!(outcome, Err(Error::Unavailable { .. }));
            self.away_until.send_replace(failed.then(|| Instant::now() + Self::AWAY));
            match outcome {
                Ok(stale) if stale.is_empty() => {}
                Ok(stale) => {
                    tracing::debug!(jobs = stale.len(), "reports of lost leases were refused")
                }
                // What was said is lost; the next report tells more.
                Err(error @ (Error::Unavailable { .. } | Error::Full)) => {
                    tracing::debug!(%error, "progress and log lines were lost");
                }
                Err(error) => tracing::warn!(%error, "progress and log lines were lost"),
            }
        }
    }
}
