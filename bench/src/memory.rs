//! How much memory jobs take in Redis, pending and finished with their results, with the shipped and with the default
//! settings; and how much memory an API and a worker take, idle and after a load.

use std::time::Duration;

use crunch_tests::Process;

use crate::clients::Clients;
use crate::metrics::Unit;
use crate::session::Session;
use crate::testbed::{PAYLOAD, REDIS_DEFAULTS, SHIPPED, Testbed, envelope};
use crate::usage::{RedisInfo, memory_of};
use crate::wire::post;

/// Size of the measurement.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Jobs that are stored, and that API and worker process as load.
    #[arg(long, default_value_t = 100_000)]
    jobs: usize,
}

/// Slots of the worker whose memory is measured.
const SLOTS: usize = 2;
/// Slots of the worker that finishes the stored jobs quickly.
const MANY_SLOTS: usize = 300;
/// Clients of the API under load.
const CLIENTS: usize = 64;
/// How long it takes until all threads are started, and one or two heartbeats were sent.
const WARM_UP: Duration = Duration::from_secs(3);

/// Runs the benchmark.
pub(crate) async fn measure(session: &mut Session, arguments: &Arguments) {
    session.refresh_control();
    for (name, redis) in [("shipped", SHIPPED), ("stock", REDIS_DEFAULTS)] {
        jobs(session, name, redis, arguments.jobs).await;
    }
    processes(session, arguments.jobs).await;
}

async fn jobs(session: &mut Session, name: &str, redis: &[&str], jobs: usize) {
    let mut testbed = Testbed::start(redis).await;
    let _workers = testbed.start_workers(1, MANY_SLOTS, 1).await;
    testbed.pause(1).await;
    let before = RedisInfo::of(testbed.server());
    let mut record = |testbed: &Testbed, what: &str| {
        let memory = before.until_now(testbed.server()).memory / jobs as f64 * 1e5 / 1e6;
        let unit = Unit::Counted("MB/100k");
        session.record(&format!("memory: {what} jobs, Redis as {name}"), memory, unit);
    };
    testbed.fill(jobs, PAYLOAD, 1).await;
    record(&testbed, "pending");
    testbed.resume(1).await;
    testbed.wait_for_live(0, 1).await;
    record(&testbed, "finished");
}

async fn processes(session: &mut Session, jobs: usize) {
    let mut testbed = Testbed::start(SHIPPED).await;
    let api = testbed.start_api().await;
    let worker = testbed.start_workers(1, SLOTS, 1).await.remove(0);
    tokio::time::sleep(WARM_UP).await;
    let mut record = |when: &str| {
        let resident = |process: &Process| memory_of(process.pid()) as f64 / 1024.0;
        for (program, process) in [("API", &api.process), ("worker", &worker)] {
            let name = format!("memory: {program} {when}");
            session.record(&name, resident(process), Unit::Counted("MiB"));
        }
    };
    record("idle");
    let request = post("/jobs", &envelope());
    let mut clients = Clients::new(CLIENTS, api.address(), api.process.pid(), request).await;
    let mut submitted = 0;
    while submitted < jobs {
        let served = clients.send(testbed.server(), Duration::from_millis(500)).await;
        submitted += served.requests as usize;
    }
    testbed.wait_for_live(0, 1).await;
    drop(clients);
    tokio::time::sleep(WARM_UP).await;
    record("after a load");
}
