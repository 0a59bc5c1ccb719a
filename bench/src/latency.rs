//! How soon jobs start and results are received on an idle system, through the broker and through HTTP; and how many
//! commands idle workers send to Redis.
//!
//! Workers run in this process, so that submission, start and end are read from one clock; the API is a separate
//! process. Waiting for a result works as in the API for its clients: the job is watched, and its changes are received.

mod bench;
mod http;

use std::time::Duration;

use crunch_common::broker::Start;

use bench::Bench;

use crate::metrics::{Samples, Unit};
use crate::session::Session;
use crate::testbed::{SHIPPED, TASK, Testbed, time_to_result};
use crate::usage::RedisActivity;
use crate::wire::Connection;

/// Size of the measurement.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Jobs submitted one by one, for each metric.
    #[arg(long, default_value_t = 1000)]
    jobs: usize,
    /// Jobs delayed by 500 ms, one after the other.
    #[arg(long, default_value_t = 20)]
    delayed: usize,
    /// Batches of four.
    #[arg(long, default_value_t = 200)]
    batches: usize,
    /// How long idle workers are observed, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

/// Number of one-slot workers, and of jobs in a batch.
const WORKERS: usize = 4;
const DELAY: Duration = Duration::from_millis(500);

/// Runs the benchmark.
pub(crate) async fn measure(session: &mut Session, arguments: &Arguments) {
    session.refresh_control();
    idle(session, arguments.seconds).await;
    let mut bench = Bench::start().await;
    let jobs = arguments.jobs;
    session.record_quantiles("idle: submit → handler start", &bench.starts(jobs).await);
    session.record_quantiles("idle: submit → result seen", &bench.results(jobs).await);
    let mut client = Connection::to(bench.api.address()).await;
    session.record_quantiles("control: GET /livez", &bench.alive(&mut client, jobs).await);
    let responses = bench.responses(&mut client, jobs).await;
    session.record_quantiles("idle: POST /jobs?wait → result", &responses);
    let wake_ups = bench.wake_ups(&mut client, jobs / 2).await;
    session.record_quantiles("idle: handler end → GET ?wait answers", &wake_ups);
    let delayed = bench.delayed(arguments.delayed).await;
    session.record_quantiles("idle: delayed by 500 ms: due → handler start", &delayed);
    let last_starts = bench.batches(arguments.batches).await;
    session.record_quantiles("idle: four jobs, four workers: submit → last start", &last_starts);
    bench.stop().await;
}

/// Commands that idle workers send to Redis.
async fn idle(session: &mut Session, seconds: u64) {
    let mut testbed = Testbed::start(SHIPPED).await;
    let _workers = testbed.start_workers(WORKERS, 2, 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let activity = RedisActivity::observe(&mut testbed.redis, seconds).await;
    let workers = WORKERS as f64;
    session.record("idle: commands of a worker", activity.commands / workers, Unit::Counted("/s"));
    session.record("idle: socket reads of a worker", activity.reads / workers, Unit::Counted("/s"));
}

impl Bench {
    /// Time from submission to start, one job at a time.
    async fn starts(&mut self, count: usize) -> Samples {
        let mut starts = Vec::new();
        for _ in 0..count {
            let submitted = self.submit(Start::Now, 1).await;
            starts.push(self.started().await - submitted);
            self.idle().await;
        }
        Samples::new(starts)
    }

    /// Time from submission to the received result, one job at a time.
    async fn results(&mut self, count: usize) -> Samples {
        let broker = self.testbed.broker.clone();
        let mut changes = broker.changes().await.unwrap();
        let mut latencies = Vec::new();
        for _ in 0..count {
            latencies.push(time_to_result(&broker, &mut changes, TASK).await);
            self.started().await;
            self.idle().await;
        }
        Samples::new(latencies)
    }

    /// How long after its due time a delayed job starts. The due time counts from when Redis accepted the job, which is
    /// between submission and response: the submission is assumed.
    async fn delayed(&mut self, count: usize) -> Samples {
        let mut delays = Vec::new();
        for _ in 0..count {
            let submitted = self.submit(Start::After(DELAY), 1).await;
            delays.push((self.started().await - submitted).saturating_sub(DELAY));
        }
        Samples::new(delays)
    }

    /// Time until the last of four jobs has started, submitted in one call.
    async fn batches(&mut self, count: usize) -> Samples {
        let mut last_starts = Vec::new();
        for _ in 0..count {
            let submitted = self.submit(Start::Now, WORKERS).await;
            let mut last = submitted;
            for _ in 0..WORKERS {
                last = self.started().await;
            }
            last_starts.push(last - submitted);
            self.idle().await;
        }
        Samples::new(last_starts)
    }
}
