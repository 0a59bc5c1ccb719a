//! Sends progress and log lines of running jobs to Redis, and sends them again until they are confirmed. Never reports
//! for a job that was settled.

use std::sync::Arc;
use std::time::Duration;

use crunch_common::broker::{Broker, ByNode, Error, LeaseKey, Node, Report, WorkerId};
use futures_util::future::join_all;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::JobContext;
use crate::running::RunningJobs;

/// Sends reports, one call at a time to each node: the settlement of a job must not overtake its last report.
#[derive(Debug)]
pub(crate) struct Reporter {
    broker: Broker,
    worker: WorkerId,
    to: parking_lot::Mutex<ByNode<Arc<ToNode>>>,
}

/// The reports to one node.
#[derive(Debug)]
struct ToNode {
    sending: Mutex<()>,
    /// Whether the last call did not reach it. Then only the next tick retries, for all jobs at once: an outage must not
    /// delay one settlement after the other.
    away: watch::Sender<bool>,
}

/// A job and its report.
type Reporting = (JobContext, Report);

impl Reporter {
    /// Frequent enough for a progress bar, rare enough that a handler with many reports costs ten calls a second, not
    /// ten thousand.
    const INTERVAL: Duration = Duration::from_millis(100);

    pub(crate) fn new(broker: Broker, worker: WorkerId) -> Self {
        Self { broker, worker, to: parking_lot::Mutex::default() }
    }

    pub(crate) async fn run(self: Arc<Self>, running: Arc<RunningJobs>, done: CancellationToken) {
        while done.run_until_cancelled(tokio::time::sleep(Self::INTERVAL)).await.is_some() {
            self.tick(&running).await;
        }
    }

    async fn tick(&self, running: &RunningJobs) {
        let mut by_node = ByNode::<Vec<Reporting>>::default();
        for reporting in running.unconfirmed() {
            let node = self.broker.node(reporting.1.lease.id.partition());
            by_node.get_or_make(node, Vec::new).push(reporting);
        }
        join_all(by_node.into_iter().map(async |(node, reporting)| {
            let to = self.to(node);
            let _one_at_a_time = to.sending.lock().await;
            self.send(&to, reporting, false).await;
        }))
        .await;
    }

    fn to(&self, node: Option<Node>) -> Arc<ToNode> {
        let make = || ToNode { sending: Mutex::new(()), away: watch::Sender::new(false) };
        self.to.lock().get_or_make(node, || Arc::new(make())).clone()
    }

    /// Waits until everything that a job reported is confirmed, before it is settled. While Redis is unreachable it
    /// waits: so does the settlement. A job without reports costs nothing.
    pub(crate) async fn finish(&self, lease: LeaseKey, job: &JobContext) {
        let to = self.to(self.broker.node(lease.id.partition()));
        let mut away = to.away.subscribe();
        while job.unconfirmed(lease).is_some() {
            // The sender lives as long as this value.
            let _ = away.wait_for(|&away| !away).await;
            let _one_at_a_time = to.sending.lock().await;
            let rest = job.unconfirmed(lease).map(|report| (job.clone(), report));
            self.send(&to, rest.into_iter().collect(), true).await;
        }
    }

    async fn send(&self, to: &ToNode, mut reporting: Vec<Reporting>, last: bool) {
        for partition in self.broker.partitions() {
            let is_here = |(_, report): &mut Reporting| report.lease.id.partition() == partition;
            let (jobs, reports): (Vec<_>, Vec<_>) = reporting.extract_if(.., is_here).unzip();
            if reports.is_empty() {
                continue;
            }
            let outcome = self.broker.report(partition, self.worker, &reports, last).await;
            let is_away =
                matches!(outcome, Err(Error::Unavailable { .. } | Error::Rejected { .. }));
            to.away.send_if_modified(|away| std::mem::replace(away, is_away) != is_away);
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
