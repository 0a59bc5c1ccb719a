//! How fast jobs are taken, one by one: from one submitter and from many at once, at each durability that one machine
//! can give.
//!
//! The control is a `PING` over a connection of its own: one round trip to Redis, here, now. Wall time on small machines is
//! noisy; the calls that Redis saw and the CPU it used are not.

use std::time::{Duration, Instant};

use crunch_common::broker::{Broker, Durability, Enqueued, NewJob, Start};
use crunch_common::config::{BrokerConfig, DurabilityConfig};
use crunch_common::job::{JobOptions, Priority};
use crunch_common::task::TaskDescriptor;
use crunch_tests::RedisServer;
use futures_util::future::join_all;

use crate::figures::Samples;

/// How much is measured.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Jobs that one submitter submits.
    #[arg(long, default_value_t = 5000)]
    jobs: usize,
    /// Jobs that each of many submitters submits.
    #[arg(long, default_value_t = 500)]
    each: usize,
    /// How many submitters are many.
    #[arg(long, default_value_t = 64)]
    submitters: usize,
}

/// Prints the table.
pub(crate) async fn measure(arguments: &Arguments) {
    let head = ["jobs/s", "calls/job", "CPU s/100k"];
    println!("{:<44} {:>9} {:>9} {:>10}", "submitters", head[0], head[1], head[2]);
    for durability in [Durability::MEMORY, Durability::FSYNC] {
        let bench = Bench::start(durability).await;
        let control = bench.control().await;
        let one = bench.run("1", 1, arguments.jobs).await;
        let many = arguments.submitters;
        let all = bench.run(&many.to_string(), many, arguments.each).await;
        println!();
        println!("{:<44} {:>9} {:>9} {:>9} {:>8}", "milliseconds", "p50", "p99", "worst", "PINGs");
        control.print("control: PING", &control);
        one.print(&format!("{durability}, 1 submitter"), &control);
        all.print(&format!("{durability}, {many} submitters"), &control);
        println!();
    }
}

struct Bench {
    broker: Broker,
    durability: Durability,
    server: RedisServer,
}

impl Bench {
    async fn start(durability: Durability) -> Self {
        let server = match durability {
            Durability::MEMORY => RedisServer::start(),
            _ => RedisServer::durable(),
        };
        let config = BrokerConfig { redis_url: server.url(), ..BrokerConfig::default() };
        let broker = Broker::new(&config).unwrap();
        let broker = broker.insisting_on(&DurabilityConfig { durability, replicas: 1 });
        let bench = Self { broker, durability, server };
        bench.submitter(100).await;
        bench
    }

    async fn control(&self) -> Samples {
        let mut redis = self.server.client().get_multiplexed_async_connection().await.unwrap();
        let mut samples = Vec::new();
        for _ in 0..2000 {
            let asked = Instant::now();
            let () = redis::cmd("PING").exec_async(&mut redis).await.unwrap();
            samples.push(asked.elapsed());
        }
        Samples::new(samples)
    }

    /// Lets so many submit so many jobs each, prints a line, and returns how long each submission took.
    async fn run(&self, name: &str, submitters: usize, each: usize) -> Samples {
        let (calls, cpu) = (self.calls(), self.cpu());
        let begun = Instant::now();
        let samples = join_all((0..submitters).map(|_| tokio::spawn(self.submitter(each)))).await;
        let jobs = (submitters * each) as f64;
        let rate = jobs / begun.elapsed().as_secs_f64();
        let (calls, cpu) = ((self.calls() - calls) / jobs, (self.cpu() - cpu) / jobs * 1e5);
        let what = format!("{}, {name}", self.durability);
        println!("{what:<44} {rate:>9.0} {calls:>9.2} {cpu:>10.2}");
        Samples::new(samples.into_iter().flat_map(Result::unwrap).collect())
    }

    fn submitter(&self, count: usize) -> impl Future<Output = Vec<Duration>> + Send + use<> {
        let broker = self.broker.clone();
        async move {
            let mut samples = Vec::with_capacity(count);
            for _ in 0..count {
                let job = [job(&broker)];
                let begun = Instant::now();
                let answers = broker.enqueue(&job).await;
                samples.push(begun.elapsed());
                assert!(matches!(answers[..], [Ok(Enqueued::Created(_))]), "{answers:?}");
            }
            samples
        }
    }

    fn calls(&self) -> f64 {
        self.figure("commandstats", "cmdstat_fcall:calls=")
    }

    fn cpu(&self) -> f64 {
        self.figure("cpu", "used_cpu_user:") + self.figure("cpu", "used_cpu_sys:")
    }

    fn figure(&self, section: &str, name: &str) -> f64 {
        let mut connection = self.server.client().get_connection().unwrap();
        let text: String = redis::cmd("INFO").arg(section).query(&mut connection).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        value.split(',').next().unwrap_or("0").parse().unwrap()
    }
}

fn job(broker: &Broker) -> NewJob {
    let task = TaskDescriptor::new("probe".parse().unwrap());
    let payload = vec![b' '; 100];
    NewJob {
        id: broker.new_id(None),
        queue: task.queue.clone(),
        priority: Priority::Normal,
        start: Start::Now,
        options: JobOptions {
            max_attempts: task.max_attempts,
            timeout: task.timeout,
            deadline: None,
            backoff: task.backoff,
            content_type: task.content_type,
            payload_size: payload.len() as u64,
            metadata: Default::default(),
            trace: None,
        },
        payload: payload.into(),
        retention: None,
        idempotency: None,
        durability: Durability::MEMORY,
        webhook: None,
        task: task.name,
    }
}
