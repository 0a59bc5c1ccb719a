//! How much CPU Redis spends on submissions, and on claims with their settlements, over one connection and without
//! workers, in batches of several sizes.

use std::time::Duration;

use crunch_common::broker::{Exchange, Settlement, WorkerId};
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

/// The last is larger than one call allows, so the broker sends several calls.
const BATCHES: [usize; 3] = [1, 10, 100];

/// Runs the benchmark.
pub(crate) async fn measure(session: &mut Session, arguments: &Arguments) {
    session.refresh_control();
    for batch in BATCHES {
        let testbed = Testbed::start(SHIPPED).await;
        // Single calls take longer, and fewer are enough.
        let jobs = if batch == 1 { arguments.jobs / 5 } else { arguments.jobs } / batch * batch;
        let before = RedisInfo::of(testbed.server());
        for _ in 0..jobs / batch {
            let jobs: Vec<_> = (0..batch).map(|_| job(&testbed.broker, TASK, PAYLOAD)).collect();
            submit(&testbed.broker, &jobs).await;
        }
        let enqueued = before.until_now(testbed.server());
        let before = RedisInfo::of(testbed.server());
        drain(&testbed, jobs, batch).await;
        let drained = before.until_now(testbed.server());
        let each = 1e5 / jobs as f64;
        session.record(
            &format!("enqueue, {batch} a call: CPU of Redis"),
            enqueued.cpu * each,
            Unit::CpuSeconds,
        );
        session.record(
            &format!("exchange, {batch} a call: CPU of Redis"),
            drained.cpu * each,
            Unit::CpuSeconds,
        );
    }
}

/// Claims and settles all jobs, as a worker without other work does.
async fn drain(testbed: &Testbed, jobs: usize, batch: usize) {
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
            exchanged.claims.into_iter().map(|claim| done(claim.lease)).collect();
    }
}

fn done(lease: crunch_common::broker::Lease) -> Settlement {
    lease.complete(Payload { bytes: r#"{"ok":true}"#.into(), content_type: Default::default() })
}
