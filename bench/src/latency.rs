//! How soon jobs start and are heard of on an idle system, by the broker and by HTTP; and what idle workers ask of Redis.
//!
//! Workers run in this process, so that submission, start and end are read from one clock; the API is a process of its
//! own. Whoever waits for a result does it as the API does for its clients: it watches the job, and is told.

mod bench;
mod http;

use std::time::{Duration, Instant};

use crunch_common::broker::{Change, Lookup, Start};
use crunch_common::job::JobId;

use bench::Bench;

use crate::figures::{Samples, Unit};
use crate::ground::{Ground, PAYLOAD, SHIPPED, TASK, job, submit};
use crate::session::Session;
use crate::usage::Pace;
use crate::wire::Connection;

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

impl Bench {
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
                let ended = |it: &Change| it.id == id && it.status.is_terminal();
                while !ended(&changes.next().await.unwrap()) {}
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
}
