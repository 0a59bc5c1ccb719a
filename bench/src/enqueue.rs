//! How fast jobs are taken through the broker: one by one, and in batches from several callers.

use std::time::Instant;

use crate::figures::Unit;
use crate::ground::{Ground, PAYLOAD, SHIPPED, TASK, job, submit};
use crate::session::Session;
use crate::usage::RedisInfo;

/// How much is measured.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Jobs submitted one by one.
    #[arg(long, default_value_t = 20_000)]
    single: usize,
    /// Jobs submitted in batches.
    #[arg(long, default_value_t = 300_000)]
    jobs: usize,
}

/// Takes the figures.
pub(crate) async fn measure(session: &mut Session, arguments: &Arguments) {
    session.refresh_control();
    let ground = Ground::on(SHIPPED).await;
    let jobs: Vec<_> = (0..arguments.single).map(|_| job(&ground.broker, TASK, PAYLOAD)).collect();
    let begun = Instant::now();
    for job in jobs {
        submit(&ground.broker, &[job]).await;
    }
    let rate = arguments.single as f64 / begun.elapsed().as_secs_f64();
    session.note("enqueue one by one", rate, Unit::InTurn);

    let before = RedisInfo::of(ground.server());
    let took = ground.fill(arguments.jobs, PAYLOAD, 1).await;
    let cost = before.until_now(ground.server());
    let jobs = arguments.jobs as f64;
    session.note("enqueue in batches", jobs / took.as_secs_f64(), Unit::PerSecond);
    session.note("enqueue in batches: CPU of Redis", cost.cpu / jobs * 1e5, Unit::CpuSeconds);
    session.note("enqueue in batches: traffic", cost.bytes / jobs, Unit::Counted("B/job"));
}
