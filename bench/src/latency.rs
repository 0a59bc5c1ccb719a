//! How soon jobs start and are heard of on an idle system, by the broker and by HTTP; and what idle workers ask of Redis.
//!
//! Workers run in this process, so that submission, start and end are read from one clock; the API is a process of its
//! own. Whoever waits for a result does it as the API does for its clients: it watches the job, and is told.

mod http;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crunch_common::broker::{Lookup, Start};
use crunch_common::job::JobId;
use crunch_tests::Api;
use crunch_worker::{JobContext, Shutdown, Task, Worker};
use serde::de::IgnoredAny;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use crate::figures::{Samples, Unit};
use crate::ground::{Ground, PAYLOAD, SHIPPED, TASK, job, submit};
use crate::session::Session;
use crate::usage::Pace;
use crate::wire::Connection;
use crate::worker::configuration;

/// How much is measured.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Jobs submitted one by one, in each way.
    #[arg(long, default_value_t = 1000)]
    jobs: usize,
    /// Jobs delayed by 500 ms, one after the other.
    #[arg(long, default_value_t = 20)]
    delayed: usize,
    /// Batches of four.
    #[arg(long, default_value_t = 200)]
    batches: usize,
    /// How long idle workers are watched, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

/// One-slot workers that take a batch of as many jobs.
const WORKERS: usize = 4;
const DELAY: Duration = Duration::from_millis(500);
/// A task that ends when it is told to.
const HELD: &str = "held";

/// Takes the figures.
pub(crate) async fn measure(session: &mut Session, arguments: &Arguments) {
    session.refresh_control();
    idle(session, arguments.seconds).await;
    let mut bench = Bench::start().await;
    let jobs = arguments.jobs;
    session.note_quantiles("idle: submit → handler start", &bench.starts(jobs).await);
    session.note_quantiles("idle: submit → result seen", &bench.results(jobs).await);
    let mut client = Connection::to(bench.api.address()).await;
    session.note_quantiles("control: GET /livez", &bench.alive(&mut client, jobs).await);
    let answers = bench.answers(&mut client, jobs).await;
    session.note_quantiles("idle: POST /jobs?wait → result", &answers);
    let woken = bench.wake_ups(&mut client, jobs / 2).await;
    session.note_quantiles("idle: handler end → GET ?wait answers", &woken);
    let delayed = bench.delayed(arguments.delayed).await;
    session.note_quantiles("idle: delayed by 500 ms: due → handler start", &delayed);
    let lasts = bench.batches(arguments.batches).await;
    session.note_quantiles("idle: four jobs, four workers: submit → last start", &lasts);
    bench.stop().await;
}

/// What workers without work ask of Redis.
async fn idle(session: &mut Session, seconds: u64) {
    let mut ground = Ground::on(SHIPPED).await;
    let _workers = ground.workers(WORKERS, 2, 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let pace = Pace::of(&mut ground.redis, seconds).await;
    let workers = WORKERS as f64;
    session.note("idle: commands of a worker", pace.commands / workers, Unit::Counted("/s"));
    session.note("idle: socket reads of a worker", pace.reads / workers, Unit::Counted("/s"));
}

struct Bench {
    ground: Ground,
    api: Api,
    starts: mpsc::UnboundedReceiver<Instant>,
    ends: mpsc::UnboundedReceiver<Instant>,
    /// Lets a held job end.
    release: Arc<Notify>,
    shutdown: Shutdown,
    workers: Vec<JoinHandle<()>>,
}

impl Bench {
    async fn start() -> Self {
        let mut ground = Ground::on(SHIPPED).await;
        let api = ground.api().await;
        let ((started, starts), (ended, ends)) =
            (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let (release, shutdown) = (Arc::new(Notify::new()), Shutdown::default());
        let url = ground.server().url();
        let workers = (0..WORKERS)
            .map(|_| {
                let worker = Worker::new(configuration(&url, 1))
                    .task(probe(started.clone()))
                    .task(held(started.clone(), release.clone(), ended.clone()));
                let shutdown = shutdown.clone();
                tokio::spawn(async move { worker.run_until(shutdown).await.unwrap() })
            })
            .collect();
        let mut bench = Self { ground, api, starts, ends, release, shutdown, workers };
        // Everybody has connected and waits once a few jobs went through.
        for _ in 0..10 * WORKERS {
            bench.submit(Start::Now, 1).await;
            bench.started().await;
        }
        bench.idle().await;
        bench
    }

    /// One job at a time.
    async fn starts(&mut self, count: usize) -> Samples {
        let mut starts = Vec::new();
        for _ in 0..count {
            let submitted = self.submit(Start::Now, 1).await;
            starts.push(self.started().await - submitted);
            self.idle().await;
        }
        Samples::new(starts)
    }

    /// One job at a time, until its result is here.
    async fn results(&mut self, count: usize) -> Samples {
        let broker = self.ground.broker.clone();
        let mut changes = broker.changes().await.unwrap();
        let mut seen = Vec::new();
        for _ in 0..count {
            let job = job(&broker, TASK, PAYLOAD);
            let (id, submitted) = (job.id, Instant::now());
            submit(&broker, &[job]).await;
            if !self.has_ended(id).await {
                while !changes.next().await.is_some_and(|it| it.id == id && it.status.is_terminal())
                {
                }
            }
            let result = broker.result(id).await.unwrap();
            seen.push(submitted.elapsed());
            assert!(matches!(result, Lookup::Found((_, Some(_)))), "{result:?}");
            self.started().await;
            self.idle().await;
        }
        Samples::new(seen)
    }

    /// From now on the job's changes are told.
    async fn has_ended(&self, id: JobId) -> bool {
        let found = self.ground.broker.watch(id).await.unwrap();
        matches!(found, Lookup::Found(job) if job.status.is_terminal())
    }

    /// How long after its time a delayed job starts. Its time is counted from when Redis took it, which lies between
    /// submission and answer: the earlier is assumed.
    async fn delayed(&mut self, count: usize) -> Samples {
        let mut late = Vec::new();
        for _ in 0..count {
            let submitted = self.submit(Start::After(DELAY), 1).await;
            late.push((self.started().await - submitted).saturating_sub(DELAY));
        }
        Samples::new(late)
    }

    /// How long until the last of four jobs has started, submitted in one call.
    async fn batches(&mut self, count: usize) -> Samples {
        let mut lasts = Vec::new();
        for _ in 0..count {
            let submitted = self.submit(Start::Now, WORKERS).await;
            let mut last = submitted;
            for _ in 0..WORKERS {
                last = self.started().await;
            }
            lasts.push(last - submitted);
            self.idle().await;
        }
        Samples::new(lasts)
    }

    /// Enqueues jobs in one call; returns when it began.
    async fn submit(&self, start: Start, count: usize) -> Instant {
        let broker = &self.ground.broker;
        let mut jobs: Vec<_> = (0..count).map(|_| job(broker, TASK, PAYLOAD)).collect();
        jobs.iter_mut().for_each(|job| job.start = start);
        let submitted = Instant::now();
        submit(broker, &jobs).await;
        submitted
    }

    async fn started(&mut self) -> Instant {
        self.starts.recv().await.unwrap()
    }

    /// Lets the workers settle what they ran and wait again.
    async fn idle(&self) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }

    async fn stop(self) {
        self.shutdown.ask();
        for worker in self.workers {
            worker.await.unwrap();
        }
    }
}

/// Tells when each of its jobs starts.
fn probe(started: mpsc::UnboundedSender<Instant>) -> Task {
    Task::new(TASK, move |_job: JobContext, _: IgnoredAny| {
        let _ = started.send(Instant::now());
        async { Ok(()) }
    })
}

/// Tells when each of its jobs starts, and ends it when it is told to.
fn held(
    started: mpsc::UnboundedSender<Instant>,
    release: Arc<Notify>,
    ended: mpsc::UnboundedSender<Instant>,
) -> Task {
    Task::new(HELD, move |_job: JobContext, _: IgnoredAny| {
        let _ = started.send(Instant::now());
        let (release, ended) = (release.clone(), ended.clone());
        async move {
            release.notified().await;
            let _ = ended.send(Instant::now());
            Ok(())
        }
    })
}
