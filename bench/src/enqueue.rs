//! How fast jobs are accepted through the broker: one by one, and in batches from several callers.

use std::time::{Duration, Instant};

use crunch_common::broker::Broker;

use crate::metrics::Unit;
use crate::session::Session;
use crate::testbed::{PAYLOAD, SHIPPED, TASK, Testbed, broker, job, submit};
use crate::usage::RedisInfo;

/// Size of the measurement.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Jobs submitted one by one.
    #[arg(long, default_value_t = 20_000)]
    single: usize,
    /// Jobs submitted in batches.
    #[arg(long, default_value_t = 300_000)]
    jobs: usize,
}

/// Runs the benchmark.
pub(crate) async fn measure(session: &mut Session, arguments: &Arguments) {
    session.refresh_control();
    let testbed = Testbed::start(SHIPPED).await;
    let broker = broker(testbed.server());
    let count = arguments.single;
    let took = tokio::task::spawn_blocking(move || one_by_one(&broker, count)).await.unwrap();
    session.record(
        "enqueue one by one",
        arguments.single as f64 / took.as_secs_f64(),
        Unit::Sequential,
    );

    let before = RedisInfo::of(testbed.server());
    let took = testbed.fill(arguments.jobs, PAYLOAD, 1).await;
    let cost = before.until_now(testbed.server());
    let jobs = arguments.jobs as f64;
    session.record("enqueue in batches", jobs / took.as_secs_f64(), Unit::PerSecond);
    session.record("enqueue in batches: CPU of Redis", cost.cpu / jobs * 1e5, Unit::CpuSeconds);
    session.record("enqueue in batches: traffic", cost.bytes / jobs, Unit::Counted("B/job"));
}

/// Submits from one thread, as each thread of the API does: a multi-threaded runtime would wake another thread for each
/// step.
fn one_by_one(broker: &Broker, count: usize) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let jobs: Vec<_> = (0..count).map(|_| job(broker, TASK, PAYLOAD)).collect();
        let start = Instant::now();
        for job in jobs {
            submit(broker, &[job]).await;
        }
        start.elapsed()
    })
}
