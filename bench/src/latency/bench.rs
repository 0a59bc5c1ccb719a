//! The idle system: Redis, an API, and workers in this process that report when they start a job.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crunch_common::broker::Start;
use crunch_tests::Api;
use crunch_worker::{JobContext, Shutdown, Task, Worker};
use serde::de::IgnoredAny;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::WORKERS;
use crate::testbed::{PAYLOAD, SHIPPED, TASK, Testbed, job, submit};
use crate::worker::configuration;

/// A task whose handler waits for [`Bench::unblock`].
pub(super) const BLOCKING: &str = "blocking";

/// The parts of the idle system.
pub(super) struct Bench {
    pub(super) testbed: Testbed,
    pub(super) api: Api,
    starts: mpsc::UnboundedReceiver<Instant>,
    pub(super) ends: mpsc::UnboundedReceiver<Instant>,
    /// Lets the handler of a blocking job return.
    pub(super) unblock: Arc<Notify>,
    shutdown: Shutdown,
    workers: Vec<JoinHandle<()>>,
}

impl Bench {
    pub(super) async fn start() -> Self {
        let mut testbed = Testbed::start(SHIPPED).await;
        let api = testbed.start_api().await;
        let ((started, starts), (ended, ends)) =
            (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let (unblock, shutdown) = (Arc::new(Notify::new()), Shutdown::default());
        let url = testbed.server().url();
        let workers = (0..WORKERS)
            .map(|_| {
                let worker = Worker::new(configuration(&url, 1))
                    .task(probe(started.clone()))
                    .task(blocking(started.clone(), unblock.clone(), ended.clone()));
                let shutdown = shutdown.clone();
                tokio::spawn(async move { worker.run_until(shutdown).await.unwrap() })
            })
            .collect();
        let mut bench = Self { testbed, api, starts, ends, unblock, shutdown, workers };
        // After a few jobs, all workers are connected and wait for more.
        for _ in 0..10 * WORKERS {
            bench.submit(Start::Now, 1).await;
            bench.started().await;
        }
        bench.idle().await;
        bench
    }

    /// Enqueues jobs in one call; returns when it began.
    pub(super) async fn submit(&self, start: Start, count: usize) -> Instant {
        let broker = &self.testbed.broker;
        let mut jobs: Vec<_> = (0..count).map(|_| job(broker, TASK, PAYLOAD)).collect();
        jobs.iter_mut().for_each(|job| job.start = start);
        let submitted = Instant::now();
        submit(broker, &jobs).await;
        submitted
    }

    pub(super) async fn started(&mut self) -> Instant {
        self.starts.recv().await.unwrap()
    }

    /// Gives the workers time to settle their jobs and to wait for more.
    pub(super) async fn idle(&self) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }

    pub(super) async fn stop(self) {
        self.shutdown.request();
        for worker in self.workers {
            worker.await.unwrap();
        }
    }
}

/// A task that reports when each of its jobs starts.
fn probe(started: mpsc::UnboundedSender<Instant>) -> Task {
    Task::new(TASK, move |_job: JobContext, _: IgnoredAny| {
        let _ = started.send(Instant::now());
        async { Ok(()) }
    })
}

/// A task that reports when each of its jobs starts, and lets it end at each notification of `unblock`.
fn blocking(
    started: mpsc::UnboundedSender<Instant>,
    unblock: Arc<Notify>,
    ended: mpsc::UnboundedSender<Instant>,
) -> Task {
    Task::new(BLOCKING, move |_job: JobContext, _: IgnoredAny| {
        let _ = started.send(Instant::now());
        let (unblock, ended) = (unblock.clone(), ended.clone());
        async move {
            unblock.notified().await;
            let _ = ended.send(Instant::now());
            Ok(())
        }
    })
}
