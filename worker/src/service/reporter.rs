//! Carries progress and log lines of running jobs to Redis. Never speaks for a job that was settled.

use std::time::Duration;

use crunch_common::broker::{Broker, Error, LeaseKey, Report, WorkerId};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::JobContext;
use crate::running::RunningJobs;

/// Sends reports, one at a time: a job's last words must not be overtaken by its settlement.
#[derive(Debug)]
pub(crate) struct Reporter {
    broker: Broker,
    worker: WorkerId,
    sending: Mutex<()>,
}

impl Reporter {
    /// Quick enough for a progress bar, rare enough that a chatty handler costs ten calls a second, not ten thousand.
    const INTERVAL: Duration = Duration::from_millis(100);

    pub(crate) fn new(broker: Broker, worker: WorkerId) -> Self {
        Self { broker, worker, sending: Mutex::new(()) }
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
        if job.spoke() {
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
            match self.broker.report(partition, self.worker, &here).await {
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
