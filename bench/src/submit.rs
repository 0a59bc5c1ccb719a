//! How fast jobs are accepted one by one, from one submitter and from many at once, at each durability that one machine
//! can provide: many submitters that wait for the disk share its flushes.

use std::time::{Duration, Instant};

use crunch_common::broker::DurabilityConfig;
use crunch_common::broker::{Broker, Durability};
use futures_util::future::join_all;

use crate::figures::{Samples, Unit};
use crate::ground::{ALWAYS_ON_DISK, Ground, PAYLOAD, SHIPPED, TASK, job, submit};
use crate::session::Session;
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
    /// Number of submitters for the second figure.
    #[arg(long, default_value_t = 64)]
    submitters: usize,
}

/// Runs the measure.
pub(crate) async fn measure(session: &mut Session, arguments: &Arguments) {
    let setups = [(Durability::MEMORY, SHIPPED), (Durability::FSYNC, ALWAYS_ON_DISK)];
    for (durability, redis) in setups {
        session.refresh_control();
        let ground = Ground::on(redis).await;
        let config = DurabilityConfig { durability, replicas: 1 };
        let broker = ground.broker.clone().with_min_durability(&config);
        submitter(broker.clone(), 100).await;
        let run = async |session: &mut Session, submitters, each| {
            let name = format!("submit, {durability}, {submitters} at once");
            run(session, &name, (&ground, &broker), (submitters, each)).await
        };
        let one = run(session, 1, arguments.jobs).await;
        let many = run(session, arguments.submitters, arguments.each).await;
        let name = format!("submit, {durability}, {} at once / 1", arguments.submitters);
        session.note(&name, many / one, Unit::Times);
    }
}

/// Lets `submitters` submit `each` jobs each; returns jobs per second.
async fn run(
    session: &mut Session,
    name: &str,
    (ground, broker): (&Ground, &Broker),
    (submitters, each): (usize, usize),
) -> f64 {
    let before = RedisInfo::of(ground.server());
    let begun = Instant::now();
    let submitting = (0..submitters).map(|_| tokio::spawn(submitter(broker.clone(), each)));
    let samples = join_all(submitting.collect::<Vec<_>>()).await;
    let jobs = (submitters * each) as f64;
    let rate = jobs / begun.elapsed().as_secs_f64();
    let cost = before.until_now(ground.server());
    session.note(name, rate, Unit::Sequential);
    session.note(&format!("{name}: CPU of Redis"), cost.cpu / jobs * 1e5, Unit::CpuSeconds);
    session.note(&format!("{name}: socket reads"), cost.reads / jobs, Unit::Counted("/job"));
    let samples = Samples::new(samples.into_iter().flat_map(Result::unwrap).collect());
    session.note_quantiles(name, &samples);
    rate
}

async fn submitter(broker: Broker, count: usize) -> Vec<Duration> {
    let mut samples = Vec::with_capacity(count);
    for _ in 0..count {
        let job = [job(&broker, TASK, PAYLOAD)];
        let begun = Instant::now();
        submit(&broker, &job).await;
        samples.push(begun.elapsed());
    }
    samples
}
