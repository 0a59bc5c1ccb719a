//! How fast tasks in Python run in long-lived children: jobs that do nothing, beside one-shot commands and other task
//! systems; one job at a time, beside a handler in Rust; a large array, by file; what an idle pool takes; and jobs at a
//! steady rate while children are replaced.

mod peers;
mod pool;
mod python;

use std::time::{Duration, Instant};

use crunch_common::broker::{Lookup, NewJob};
use crunch_common::job::{JobId, Status};
use crunch_common::task::TaskDescriptor;

use pool::Pool;
use python::Python;

use crate::clock;
use crate::drain::drain_paused;
use crate::metrics::{Samples, Unit};
use crate::session::Session;
use crate::testbed::{PAYLOAD, TASK, job, submit, time_to_result};
use crate::usage::{cpu_of_all, memory_of};

/// Size of the measurement.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Jobs that do nothing, for the children. Commands and other systems get fewer, for about as long.
    #[arg(long, default_value_t = 60_000)]
    jobs: usize,
    /// Jobs one at a time, of each kind.
    #[arg(long, default_value_t = 2000)]
    sequential: usize,
    /// Arrays of 20 MiB.
    #[arg(long, default_value_t = 20)]
    arrays: usize,
    /// How long jobs are submitted while children are replaced, in seconds.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Leaves out other task systems, which are installed from PyPI.
    #[arg(long)]
    alone: bool,
}

/// Children, commands at once, and processes of other task systems.
const PROCESSES: usize = 4;
/// How many jobs the children run before they are measured.
const WARM_UP: usize = 1000;
/// How many times as many jobs the children get as the commands.
const COMMANDS_SHARE: usize = 150;
/// 20 MiB of numbers with 8 bytes.
const ARRAY_BYTES: usize = 20 * 1024 * 1024;
/// Between two jobs of a steady rate: 100 a second.
const PACE: Duration = Duration::from_millis(10);
/// The number of jobs after which a child is replaced.
const MAX_JOBS: usize = 100;
/// Lets the worker settle a job and wait for the next one.
const PAUSE: Duration = Duration::from_millis(2);

/// Runs the benchmark.
pub(crate) async fn measure(session: &mut Session, arguments: &Arguments) {
    let python = Python::install(!arguments.alone);
    let children = drain(session, &python, arguments.jobs).await;
    let commands = drain_commands(session, &python, arguments.jobs / COMMANDS_SHARE).await;
    session.record("children: drain / commands", children / commands, Unit::Times);
    for peer in peers::ALL.iter().filter(|_| !arguments.alone) {
        session.refresh_control();
        let rate = peer.drain(&python, arguments.jobs, PROCESSES).await;
        session.record(
            &format!("children: {}, {PROCESSES} processes", peer.name),
            rate,
            Unit::PerSecond,
        );
        session.record(&format!("children: drain / {}", peer.name), children / rate, Unit::Times);
    }
    one_at_a_time(session, &python, arguments.sequential).await;
    arrays(session, &python, arguments.arrays).await;
    replaced(session, &python, arguments.seconds).await;
}

/// Drains a queue; returns jobs a second.
async fn drain(session: &mut Session, python: &Python, jobs: usize) -> f64 {
    session.refresh_control();
    let mut pool = Pool::start(&python.server(&format!("processes = {PROCESSES}")), TASK).await;
    let mut record = |name: &str, bytes: f64| {
        session.record(&format!("children: {name}"), bytes / 1024.0, Unit::Counted("MiB"));
    };
    let worker = memory_of(pool.worker.pid()) as f64;
    let rest: u64 = pool.descendants().into_iter().map(memory_of).sum();
    record("idle worker", worker);
    record("idle child and its launcher", rest as f64 / PROCESSES as f64);
    pool.warm_up().await;
    pool.testbed.pause(1).await;
    pool.testbed.fill(jobs, PAYLOAD, 1).await;
    let cpu = cpu_of_all(&pool.descendants());
    let workers = std::slice::from_ref(&pool.worker);
    let drained = drain_paused(&mut pool.testbed, workers, jobs, 1).await;
    let children = (cpu_of_all(&pool.descendants()) - cpu) / jobs as f64 * 1e5;
    drained.record(session, &format!("children: drain, {PROCESSES} children"));
    session.record("children: drain: CPU of children", children, Unit::CpuSeconds);
    drained.rate()
}

async fn drain_commands(session: &mut Session, python: &Python, jobs: usize) -> f64 {
    session.refresh_control();
    let mut pool = Pool::start(&python.command(TASK), TASK).await;
    pool.testbed.pause(1).await;
    pool.testbed.fill(jobs, PAYLOAD, 1).await;
    let workers = std::slice::from_ref(&pool.worker);
    let drained = drain_paused(&mut pool.testbed, workers, jobs, 1).await;
    session.record(
        &format!("children: {PROCESSES} commands at once"),
        drained.rate(),
        Unit::PerSecond,
    );
    drained.rate()
}

/// Jobs one at a time, in turn by a handler in Rust and by a child.
async fn one_at_a_time(session: &mut Session, python: &Python, jobs: usize) {
    session.refresh_control();
    let mut pool = Pool::start(&python.server("processes = 1"), "now").await;
    let _rust = pool.testbed.start_workers(1, 1, 1).await;
    let broker = pool.testbed.broker.clone();
    let mut changes = broker.changes().await.unwrap();
    let (mut rust, mut child) = (Vec::new(), Vec::new());
    for _ in 0..jobs {
        for (task, samples) in [(TASK, &mut rust), ("now", &mut child)] {
            samples.push(time_to_result(&broker, &mut changes, task).await);
            tokio::time::sleep(PAUSE).await;
        }
    }
    let (rust, child) = (Samples::new(rust), Samples::new(child));
    session.record_quantiles("children: submit → result seen, handler in Rust", &rust);
    session.record_quantiles("children: submit → result seen, child", &child);
    for (quantile, share) in [("p50", 0.5), ("p99", 0.99)] {
        let name = format!("children: submit → result seen, difference, {quantile}");
        session.record(&name, child.ms(share) - rust.ms(share), Unit::Milliseconds);
    }
}

/// Large arrays one at a time, from claim to settlement: to the worker and back to Redis, too.
async fn arrays(session: &mut Session, python: &Python, count: usize) {
    session.refresh_control();
    let pool = Pool::start(&python.server("processes = 1"), "array").await;
    let broker = &pool.testbed.broker;
    let mut samples = Vec::new();
    for _ in 0..count {
        let task = TaskDescriptor::new("array".parse().unwrap());
        let mut job = NewJob::of(&task, broker.new_id(None), vec![0; ARRAY_BYTES]);
        job.options.content_type = "application/octet-stream".parse().unwrap();
        let id = job.id;
        submit(broker, &[job]).await;
        let record = pool.ended(id).await;
        let [start, end] = [record.started_at, record.finished_at].map(Option::unwrap);
        samples.push(start.until(end));
    }
    session.record_quantiles("children: array of 20 MiB, claim → settled", &Samples::new(samples));
}

/// Jobs at a steady rate while every child is replaced again and again: how long after its submission each starts.
async fn replaced(session: &mut Session, python: &Python, seconds: u64) {
    session.refresh_control();
    let options = format!("processes = 2\nmax_jobs = {MAX_JOBS}");
    let pool = Pool::start(&python.server(&options), "now").await;
    let mut pace = tokio::time::interval(PACE);
    let (end, mut submitted) = (Instant::now() + Duration::from_secs(seconds), Vec::new());
    while Instant::now() < end {
        pace.tick().await;
        let job = job(&pool.testbed.broker, "now", PAYLOAD);
        submitted.push((job.id, clock::now()));
        submit(&pool.testbed.broker, &[job]).await;
    }
    let (mut waits, mut failed) = (Vec::new(), 0);
    for (id, at) in submitted {
        match pool.started(id).await {
            Some(started) => waits.push(Duration::from_micros(started.saturating_sub(at))),
            None => failed += 1,
        }
    }
    let waits = Samples::new(waits);
    let name = "children: replaced after 100 jobs";
    session.record_quantiles(&format!("{name}: submit → start"), &waits);
    session.record(&format!("{name}: submit → start, longest"), waits.ms(1.0), Unit::Milliseconds);
    session.record(&format!("{name}: failed"), f64::from(failed), Unit::Counted("jobs"));
}

impl Pool {
    /// Runs jobs of another queue until all children have run some.
    async fn warm_up(&self) {
        let broker = &self.testbed.broker;
        let jobs: Vec<_> = (0..WARM_UP).map(|_| job(broker, "now", PAYLOAD)).collect();
        submit(broker, &jobs).await;
        for job in jobs {
            self.ended(job.id).await;
        }
    }

    /// Waits until a job has ended; returns when it started, if it succeeded.
    async fn started(&self, id: JobId) -> Option<u64> {
        let record = self.ended(id).await;
        if record.status != Status::Succeeded {
            return None;
        }
        let result = self.testbed.broker.result(id).await.unwrap();
        let Lookup::Found((_, Some(result))) = result else { panic!("no result: {result:?}") };
        Some(serde_json::from_slice(&result.bytes).unwrap())
    }
}
