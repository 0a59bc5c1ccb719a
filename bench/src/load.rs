//! End to end under a fixed load: batches through the broker on a fixed schedule, at half the rate that submission and
//! drain sustain together.
//!
//! The loop is open: a late batch does not delay later ones, and each job's latency counts from when it was due. Jobs
//! contain that instant; the workers, which are separate processes, record how long after it each handler started.

use std::time::{Duration, Instant};

use crunch_common::broker::{Broker, NewJob};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::clock;
use crate::histogram::Histogram;
use crate::metrics::{Samples, Unit};
use crate::session::Session;
use crate::testbed::{PAYLOAD, SHIPPED, TASK, Testbed, job_with, submit};

/// Size of the measurement.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Jobs per second. Default: half of what a trial just before sustains.
    #[arg(long)]
    rate: Option<f64>,
    /// Duration of the load, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Interval between batches, in milliseconds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    every_ms: u64,
    /// Worker processes.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Slots of each worker.
    #[arg(long, default_value_t = 300)]
    slots: usize,
}

/// Jobs of the short trial that determines the rate, how many of them may wait at once, and how many are submitted
/// between two looks at how many do.
const TRIAL: usize = 400_000;
const TRIAL_QUEUED: usize = 10_000;
const TRIAL_STEP: usize = 2000;
/// How often the length of the queue is read.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Runs the benchmark.
pub(crate) async fn measure(session: &mut Session, arguments: &Arguments) {
    session.refresh_control();
    let rate = match arguments.rate {
        Some(rate) => rate,
        None => {
            let sustained = sustained_rate(arguments).await;
            session.record(
                "load: sustained by submission and drain together",
                sustained,
                Unit::PerSecond,
            );
            sustained / 2.0
        }
    };
    let schedule = Schedule::new(rate, arguments);
    let results = run(schedule, arguments).await;
    session.record("load: rate", rate, Unit::PerSecond);
    for (quantile, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        let name = format!("load: due → handler start, {quantile}");
        session.record(&name, results.starts.ms(share), Unit::Milliseconds);
    }
    session.record_quantiles("control: batch due → sent", &results.late);
    let (lengths, third) = (&results.lengths, results.lengths.len() / 3);
    let mean = |lengths: &[u64]| lengths.iter().sum::<u64>() as f64 / lengths.len() as f64;
    let thirds = [("second", &lengths[third..2 * third]), ("last", &lengths[2 * third..])];
    for (which, lengths) in thirds {
        let name = format!("load: queue in the {which} third");
        session.record(&name, mean(lengths), Unit::Counted("jobs"));
    }
}

/// Results of a load.
struct LoadResults {
    /// Time from when a job was due to the start of its handler.
    starts: Histogram,
    /// Time from when a batch was due to its submission.
    late: Samples,
    /// Lengths of the queue, in the order of time.
    lengths: Vec<u64>,
}

async fn run(schedule: Schedule, arguments: &Arguments) -> LoadResults {
    let mut testbed = Testbed::start(SHIPPED).await;
    let mut workers =
        testbed.start_workers_with(arguments.workers, arguments.slots, &["--timed"]).await;
    let (broker, runtime) = (testbed.broker.clone(), Handle::current());
    let sender = tokio::task::spawn_blocking(move || schedule.send(&broker, &runtime));
    let lengths = lengths(&testbed.broker, &sender).await;
    let (late, sent) = sender.await.unwrap();
    for batch in sent {
        batch.await.unwrap();
    }
    let jobs = schedule.jobs(schedule.batches);
    testbed.wait_for_live(0, 1).await;
    let mut starts = Histogram::default();
    for worker in &mut workers {
        worker.terminate().await;
        starts.read(&worker.log());
    }
    let counted = jobs - schedule.jobs(schedule.warm_up);
    assert_eq!(starts.count(), counted as u64, "each job started once");
    LoadResults { starts, late, lengths }
}

/// Submits and drains as fast as both can go at once: the next jobs are submitted when few of those before them wait. So
/// the workers always have jobs, and the queue does not grow.
async fn sustained_rate(arguments: &Arguments) -> f64 {
    let mut testbed = Testbed::start(SHIPPED).await;
    let _workers = testbed.start_workers(arguments.workers, arguments.slots, 1).await;
    let start = Instant::now();
    for _ in 0..TRIAL / TRIAL_STEP {
        testbed.fill(TRIAL_STEP, PAYLOAD, 1).await;
        testbed.wait_for_live(TRIAL_QUEUED, 1).await;
    }
    testbed.wait_for_live(0, 1).await;
    TRIAL as f64 / start.elapsed().as_secs_f64()
}

/// Lengths of the queue while batches are sent.
async fn lengths<T>(broker: &Broker, sender: &JoinHandle<T>) -> Vec<u64> {
    let mut lengths = Vec::new();
    while !sender.is_finished() {
        tokio::time::sleep(POLL_INTERVAL).await;
        let queue = broker.queue(&TASK.parse().unwrap()).await.unwrap();
        lengths.push(queue.map_or(0, |queue| queue.queued));
    }
    lengths
}

/// When each batch is due.
#[derive(Clone, Copy)]
struct Schedule {
    rate: f64,
    every: Duration,
    /// Batches before the counted ones: connections are opened, and memory is allocated.
    warm_up: u32,
    /// Number of all batches.
    batches: u32,
}

/// How long it takes to reach a steady state.
const WARM_UP: Duration = Duration::from_secs(1);

impl Schedule {
    fn new(rate: f64, arguments: &Arguments) -> Self {
        let every = Duration::from_millis(arguments.every_ms);
        let total = WARM_UP + Duration::from_secs(arguments.seconds);
        let [warm_up, batches] = [WARM_UP, total].map(|time| time.div_duration_f64(every) as u32);
        Self { rate, every, warm_up, batches }
    }

    /// How many jobs are in this many batches.
    fn jobs(self, batches: u32) -> usize {
        (self.rate * (self.every * batches).as_secs_f64()) as usize
    }

    /// Submits every batch when it is due, without waiting for earlier ones; returns by how much each was late, and the
    /// submissions. It blocks its thread, because timers of the runtime have a resolution of a millisecond.
    fn send(self, broker: &Broker, runtime: &Handle) -> (Samples, Vec<JoinHandle<()>>) {
        let (mut late, mut sent) = (Vec::new(), Vec::new());
        let (start, clock) = (Instant::now() + self.every, clock::now());
        let clock = clock + u64::try_from(self.every.as_micros()).unwrap();
        for at in 0..self.batches {
            let offset = self.every * at;
            let due = clock + u64::try_from(offset.as_micros()).unwrap();
            let due = (at >= self.warm_up).then_some(due);
            let jobs = self.jobs(at + 1) - self.jobs(at);
            let batch: Vec<_> = (0..jobs).map(|_| job_due_at(broker, due)).collect();
            std::thread::sleep((start + offset).saturating_duration_since(Instant::now()));
            late.push((start + offset).elapsed());
            let broker = broker.clone();
            sent.push(runtime.spawn(async move { submit(&broker, &batch).await }));
        }
        (Samples::new(late), sent)
    }
}

/// A job of the usual size that contains when it was due.
fn job_due_at(broker: &Broker, due: Option<u64>) -> NewJob {
    let due = due.map_or_else(|| "null".to_owned(), |due| due.to_string());
    let start = format!("{{\"due\":{due},\"pad\":\"");
    let pad = "x".repeat(PAYLOAD.saturating_sub(start.len() + 2));
    job_with(broker, TASK, format!("{start}{pad}\"}}"))
}
