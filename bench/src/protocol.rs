//! How much CPU Redis uses for submissions, and for claims with their settlements: over one connection, without worker
//! processes, in batches of several sizes.

use std::time::Duration;

use crunch_common::broker::{Exchange, Lease, Settlement, WorkerId};
use crunch_common::job::{Partition, Payload};

use crate::metrics::Unit;
use crate::session::Session;
use crate::testbed::{PAYLOAD, SHIPPED, TASK, Testbed, job, submit};
use crate::usage::RedisInfo;

/// Size of the measurement.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Jobs for each batch size.
    #[arg(long, default_value_t = 50_000)]
    jobs: usize,
}

/// How many jobs are submitted, or wanted, at once. The last is more than a call may have: the broker submits it in
/// several calls, and each exchange claims [`Exchange::MAX_CLAIMS`].
const BATCH_SIZES: [usize; 3] = [1, 10, 100];

/// Runs the benchmark.
pub(crate) async fn measure(session: &mut Session, arguments: &Arguments) {
    session.refresh_control();
    for batch in BATCH_SIZES {
        let testbed = Testbed::start(SHIPPED).await;
        // Jobs take longer one by one, and fewer are enough. A multiple of the batch size.
        let jobs = if batch == 1 { arguments.jobs / 5 } else { arguments.jobs } / batch * batch;
        let before = RedisInfo::of(testbed.server());
        for _ in 0..jobs / batch {
            let jobs: Vec<_> = (0..batch).map(|_| job(&testbed.broker, TASK, PAYLOAD)).collect();
            submit(&testbed.broker, &jobs).await;
        }
        let enqueue_usage = before.until_now(testbed.server());
        let before = RedisInfo::of(testbed.server());
        claim_and_settle(&testbed, jobs, batch).await;
        let exchange_usage = before.until_now(testbed.server());
        let per_100_000 = 1e5 / jobs as f64;
        session.record(
            &format!("enqueue, {batch} a call: CPU of Redis"),
            enqueue_usage.cpu * per_100_000,
            Unit::CpuSeconds,
        );
        session.record(
            &format!("exchange, {batch} a call: CPU of Redis"),
            exchange_usage.cpu * per_100_000,
            Unit::CpuSeconds,
        );
    }
}

/// Claims all jobs and settles them, each exchange with the claims of the one before, as a worker does.
async fn claim_and_settle(testbed: &Testbed, jobs: usize, batch: usize) {
    let mut exchange = Exchange {
        worker: WorkerId::generate(),
        number: 0,
        lease: Duration::from_secs(10),
        tasks: [&TASK.parse().unwrap()].into_iter().collect(),
        queues: vec![TASK.parse().unwrap()],
        settlements: Vec::new(),
        want: batch,
        busy: 0,
    };
    let mut settled = 0;
    while settled < jobs {
        exchange.number += 1;
        let exchanged = testbed.broker.exchange(Partition::default(), &exchange).await.unwrap();
        settled += exchange.settlements.len();
        exchange.settlements =
            exchanged.claims.into_iter().map(|claim| complete(claim.lease)).collect();
    }
}

pub(crate) fn complete(lease: Lease) -> Settlement {
    lease.complete(Payload { bytes: r#"{"ok":true}"#.into(), content_type: Default::default() })
}
