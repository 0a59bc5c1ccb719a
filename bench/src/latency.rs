//! How soon jobs start on an idle system: one job, a delayed job, and four jobs on four one-slot workers.
//!
//! Workers run in this process, so that submission and start are read from one clock. The control is a `PING` over a
//! connection of its own between the samples: one round trip to Redis, here, now.

use std::time::{Duration, Instant};

use crunch_common::broker::{Broker, Durability, Enqueued, NewJob, Start};
use crunch_common::config;
use crunch_common::job::{JobOptions, Priority};
use crunch_common::task::TaskDescriptor;
use crunch_tests::RedisServer;
use crunch_worker::{JobContext, Shutdown, Task, Worker, WorkerConfig};
use tokio::sync::mpsc;

use crate::figures::Samples;

/// How much is measured.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Jobs submitted one by one.
    #[arg(long, default_value_t = 1000)]
    jobs: usize,
    /// Jobs delayed by 500 ms, one after the other.
    #[arg(long, default_value_t = 20)]
    delayed: usize,
    /// Batches of four.
    #[arg(long, default_value_t = 200)]
    batches: usize,
}

/// One-slot workers that take a batch of as many jobs.
const WORKERS: usize = 4;
const DELAY: Duration = Duration::from_millis(500);

/// Prints the table.
pub(crate) async fn measure(arguments: &Arguments) {
    let mut bench = Bench::start().await;
    println!("{:<44} {:>9} {:>9} {:>9} {:>8}", "milliseconds", "p50", "p99", "worst", "PINGs");
    let (single, control) = bench.single(arguments.jobs).await;
    control.print("control: PING", &control);
    single.print("submit → handler start", &control);
    bench
        .delayed(arguments.delayed)
        .await
        .print("delayed by 500 ms: due → handler start", &control);
    bench
        .batches(arguments.batches)
        .await
        .print("four jobs, four workers: submit → last start", &control);
    bench.stop().await;
}

struct Bench {
    broker: Broker,
    redis: redis::aio::MultiplexedConnection,
    starts: mpsc::UnboundedReceiver<Instant>,
    shutdown: Shutdown,
    workers: Vec<tokio::task::JoinHandle<()>>,
    _server: RedisServer,
}

impl Bench {
    async fn start() -> Self {
        let server = RedisServer::start();
        let (started, starts) = mpsc::unbounded_channel();
        let shutdown = Shutdown::default();
        let workers = (0..WORKERS)
            .map(|_| {
                let worker = worker(&server.url(), started.clone());
                let shutdown = shutdown.clone();
                tokio::spawn(async move { worker.run_until(shutdown).await.unwrap() })
            })
            .collect();
        let config = configuration(&server.url());
        let broker = Broker::new(&config.common.broker).unwrap();
        let redis = server.connect().await;
        let mut bench = Self { broker, redis, starts, shutdown, workers, _server: server };
        // Everybody has connected and waits once a few jobs went through.
        for _ in 0..10 * WORKERS {
            bench.submit(Start::Now, 1).await;
            bench.started().await;
        }
        bench
    }

    /// One job at a time, each followed by a control.
    async fn single(&mut self, count: usize) -> (Samples, Samples) {
        let (mut starts, mut controls) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let submitted = self.submit(Start::Now, 1).await;
            starts.push(self.started().await - submitted);
            self.idle().await;
            let asked = Instant::now();
            let () = redis::cmd("PING").exec_async(&mut self.redis).await.unwrap();
            controls.push(asked.elapsed());
        }
        (Samples::new(starts), Samples::new(controls))
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
        let jobs: Vec<_> = (0..count).map(|_| job(&self.broker, start)).collect();
        let submitted = Instant::now();
        let answers = self.broker.enqueue(&jobs).await;
        assert!(answers.iter().all(|answer| matches!(answer, Ok(Enqueued::Created(_)))));
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

fn configuration(redis_url: &str) -> WorkerConfig {
    let line = ["crunch-bench", "--redis-url", redis_url, "--concurrency", "1"];
    config::read_from(line.map(Into::into)).map_err(|exit| exit.message).unwrap()
}

/// Tells when each of its jobs starts.
fn worker(redis_url: &str, started: mpsc::UnboundedSender<Instant>) -> Worker {
    Worker::new(configuration(redis_url)).task(Task::new(
        "probe",
        move |_job: JobContext, _: ()| {
            let _ = started.send(Instant::now());
            async { Ok(()) }
        },
    ))
}

fn job(broker: &Broker, start: Start) -> NewJob {
    let task = TaskDescriptor::new("probe".parse().unwrap());
    NewJob {
        id: broker.new_id(None),
        queue: task.queue.clone(),
        priority: Priority::Normal,
        start,
        payload: "null".into(),
        options: JobOptions {
            max_attempts: task.max_attempts,
            timeout: task.timeout,
            deadline: None,
            backoff: task.backoff,
            content_type: task.content_type,
            payload_size: 4,
            metadata: Default::default(),
            trace: None,
        },
        retention: None,
        idempotency: None,
        durability: Durability::MEMORY,
        webhook: None,
        task: task.name,
    }
}
