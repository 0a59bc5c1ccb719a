//! How fast workers whose tasks do nothing empty a queue, and what a job costs from claim to end: leases, epochs,
//! heartbeats, results and retention are enabled. Here *drain* means to empty a queue, not to stop a worker.

use std::time::Instant;

use crunch_tests::Process;

use crate::metrics::Unit;
use crate::session::Session;
use crate::testbed::{PAYLOAD, SHIPPED, Testbed};
use crate::usage::{RedisInfo, cpu_of};

/// Size of the benchmark.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Jobs in the queue.
    #[arg(long, default_value_t = 300_000)]
    jobs: usize,
    /// Slots of each worker.
    #[arg(long, default_value_t = 300)]
    slots: usize,
}

/// Runs the benchmark.
pub(crate) async fn measure(session: &mut Session, arguments: &Arguments) {
    for workers in [1, 2] {
        session.refresh_control();
        let drained = drain(SHIPPED, workers, arguments).await;
        let name = match workers {
            1 => "drain, 1 worker".to_owned(),
            _ => format!("drain, {workers} workers"),
        };
        drained.record(session, &name);
    }
}

/// How long it took to drain a queue, and what it cost.
pub(crate) struct Drained {
    /// How many jobs ended.
    pub(crate) jobs: f64,
    seconds: f64,
    worker_cpu: f64,
    pub(crate) cost: RedisInfo,
}

impl Drained {
    pub(crate) fn rate(&self) -> f64 {
        self.jobs / self.seconds
    }

    /// Seconds of CPU that Redis took for 100 000 jobs.
    pub(crate) fn redis_cpu(&self) -> f64 {
        self.cost.cpu / self.jobs * 1e5
    }

    pub(crate) fn record(&self, session: &mut Session, name: &str) {
        let per_job = |total: f64| total / self.jobs;
        session.record(name, self.rate(), Unit::PerSecond);
        session.record(&format!("{name}: CPU of Redis"), self.redis_cpu(), Unit::CpuSeconds);
        session.record(
            &format!("{name}: CPU of workers"),
            per_job(self.worker_cpu) * 1e5,
            Unit::CpuSeconds,
        );
        session.record(
            &format!("{name}: traffic"),
            per_job(self.cost.bytes),
            Unit::Counted("B/job"),
        );
        session.record(
            &format!("{name}: socket reads"),
            per_job(self.cost.reads),
            Unit::Counted("/job"),
        );
        session.record(
            &format!("{name}: commands"),
            per_job(self.cost.commands),
            Unit::Counted("/job"),
        );
    }
}

/// Starts a Redis with these arguments, then the workers, fills a paused queue, and measures how they empty it.
pub(crate) async fn drain(redis: &[&str], workers: usize, arguments: &Arguments) -> Drained {
    let mut testbed = Testbed::start(redis).await;
    let processes = testbed.start_workers(workers, arguments.slots, 1).await;
    testbed.pause(1).await;
    testbed.fill(arguments.jobs, PAYLOAD, 1).await;
    drain_paused(&mut testbed, &processes, arguments.jobs, 1).await
}

/// Resumes queues that are filled and paused, and waits until at least this many jobs have ended.
pub(crate) async fn drain_paused(
    testbed: &mut Testbed,
    workers: &[Process],
    jobs: usize,
    queues: usize,
) -> Drained {
    let waiting = testbed.live(queues).await;
    let before = RedisInfo::of(testbed.server());
    let cpu = || workers.iter().map(|worker| cpu_of(worker.pid())).sum::<f64>();
    let (worker_cpu, start) = (cpu(), Instant::now());
    testbed.resume(queues).await;
    let ended = waiting - testbed.wait_for_live(waiting - jobs, queues).await;
    let seconds = start.elapsed().as_secs_f64();
    let cost = before.until_now(testbed.server());
    Drained { jobs: ended as f64, seconds, worker_cpu: cpu() - worker_cpu, cost }
}
