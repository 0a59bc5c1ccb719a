//! What Redis itself spends on the protocol: submissions, and claims with their settlements, over one connection and
//! without any worker, in batches of several sizes.

use std::time::Duration;

use crunch_common::broker::{Exchange, Settlement, WorkerId};
use crunch_common::job::{Partition, Payload};

use crate::figures::Unit;
use crate::ground::{Ground, PAYLOAD, SHIPPED, TASK, job, submit};
use crate::session::Session;
use crate::usage::RedisInfo;

/// How much is measured.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Jobs of each size of batch.
    #[arg(long, default_value_t = 50_000)]
    jobs: usize,
}

/// The last is more than a call of ours carries, which are then several.
const BATCHES: [usize; 3] = [1, 10, 100];

/// Takes the figures.
pub(crate) async fn measure(session: &mut Session, arguments: &Arguments) {
    session.refresh_control();
    for batch in BATCHES {
        let ground = Ground::on(SHIPPED).await;
        // Single calls take longer: fewer say as much.
        let jobs = if batch == 1 { arguments.jobs / 5 } else { arguments.jobs } / batch * batch;
        let before = RedisInfo::of(ground.server());
        for _ in 0..jobs / batch {
            let jobs: Vec<_> = (0..batch).map(|_| job(&ground.broker, TASK, PAYLOAD)).collect();
            submit(&ground.broker, &jobs).await;
        }
        let enqueued = before.until_now(ground.server());
        let before = RedisInfo::of(ground.server());
        drain(&ground, jobs, batch).await;
        let drained = before.until_now(ground.server());
        let each = 1e5 / jobs as f64;
        session.note(
            &format!("enqueue, {batch} a call: CPU of Redis"),
            enqueued.cpu * each,
            Unit::CpuSeconds,
        );
        session.note(
            &format!("exchange, {batch} a call: CPU of Redis"),
            drained.cpu * each,
            Unit::CpuSeconds,
        );
    }
}

/// Claims and settles everything, as a worker would that does nothing else.
async fn drain(ground: &Ground, jobs: usize, batch: usize) {
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
        let exchanged = ground.broker.exchange(Partition::default(), &exchange).await.unwrap();
        settled += exchange.settlements.len();
        exchange.settlements =
            exchanged.claims.into_iter().map(|claim| done(claim.lease)).collect();
    }
}

fn done(lease: crunch_common::broker::Lease) -> Settlement {
    lease.complete(Payload { bytes: r#"{"ok":true}"#.into(), content_type: Default::default() })
}
