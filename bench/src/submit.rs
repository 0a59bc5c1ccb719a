//! How fast jobs are accepted one by one, from one submitter and from many at once, at each durability that one machine
//! can provide: many submitters that wait for the disk share its flushes.

use std::time::{Duration, Instant};

use crunch_common::broker::DurabilityConfig;
use crunch_common::broker::{Broker, Durability};
use futures_util::future::join_all;

use crate::metrics::{Samples, Unit};
use crate::session::Session;
use crate::testbed::{ALWAYS_ON_DISK, PAYLOAD, SHIPPED, TASK, Testbed, job, submit};
use crate::usage::RedisInfo;

/// Size of the measurement.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Jobs that one submitter submits.
    #[arg(long, default_value_t = 5000)]
    jobs: usize,
    /// Jobs that each of many submitters submits.
    #[arg(long, default_value_t = 500)]
    each: usize,
    /// Number of submitters for the second metric.
    #[arg(long, default_value_t = 64)]
    submitters: usize,
}

/// Runs the benchmark.
pub(crate) async fn measure(session: &mut Session, arguments: &Arguments) {
    let setups = [(Durability::MEMORY, SHIPPED), (Durability::FSYNC, ALWAYS_ON_DISK)];
    for (durability, redis) in setups {
        session.refresh_control();
        let testbed = Testbed::start(redis).await;
        let config = DurabilityConfig { durability, replicas: 1 };
        let broker = testbed.broker.clone().with_min_durability(&config);
        submitter(broker.clone(), 100).await;
        let run = async |session: &mut Session, submitters, each| {
            let name = format!("submit, {durability}, {submitters} at once");
            run(session, &name, (&testbed, &broker), (submitters, each)).await
        };
        let one = run(session, 1, arguments.jobs).await;
        let many = run(session, arguments.submitters, arguments.each).await;
        let name = format!("submit, {durability}, {} at once / 1", arguments.submitters);
        session.record(&name, many / one, Unit::Times);
    }
}

/// Lets `submitters` submit `each` jobs each; returns jobs per second.
async fn run(
    session: &mut Session,
    name: &str,
    (testbed, broker): (&Testbed, &Broker),
    (submitters, each): (usize, usize),
) -> f64 {
    let before = RedisInfo::of(testbed.server());
    let start = Instant::now();
    let submitting = (0..submitters).map(|_| tokio::spawn(submitter(broker.clone(), each)));
    let samples = join_all(submitting.collect::<Vec<_>>()).await;
    let jobs = (submitters * each) as f64;
    let rate = jobs / start.elapsed().as_secs_f64();
    let cost = before.until_now(testbed.server());
    session.record(name, rate, Unit::Sequential);
    session.record(&format!("{name}: CPU of Redis"), cost.cpu / jobs * 1e5, Unit::CpuSeconds);
    session.record(&format!("{name}: socket reads"), cost.reads / jobs, Unit::Counted("/job"));
    let samples = Samples::new(samples.into_iter().flat_map(Result::unwrap).collect());
    session.record_quantiles(name, &samples);
    rate
}

async fn submitter(broker: Broker, count: usize) -> Vec<Duration> {
    let mut samples = Vec::with_capacity(count);
    for _ in 0..count {
        let job = [job(&broker, TASK, PAYLOAD)];
        let start = Instant::now();
        submit(&broker, &job).await;
        samples.push(start.elapsed());
    }
    samples
}
