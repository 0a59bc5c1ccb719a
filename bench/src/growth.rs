//! How the cost of a job changes when one quantity grows and all others are constant: queued jobs, queues, workers,
//! waiting clients, bytes of a payload.
//!
//! Each case is compared with the smallest of its kind. Each also reports the 99.9th percentile of the duration of
//! function calls, as measured by Redis, and that of pushing a hundred items on the same server meanwhile: slow pushes
//! are caused by the machine. Redis has its own processor, if there are two.

mod probe;

use probe::Probe;

use crate::drain::drain_paused;
use crate::metrics::Unit;
use crate::processors::ReservedProcessor;
use crate::session::Session;
use crate::testbed::{PAYLOAD, SHIPPED, Testbed};
use crate::usage::{RedisActivity, RedisInfo};
use crate::waiters;

/// The largest cases.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Jobs of each case: they need enough calls for one in a thousand to be meaningful.
    #[arg(long, default_value_t = 100_000)]
    jobs: usize,
    /// Slots of the one worker.
    #[arg(long, default_value_t = 300)]
    slots: usize,
    /// The maximum number of queued jobs; 0 skips these cases, also for the other limits.
    #[arg(long, default_value_t = 1_000_000)]
    queued: usize,
    /// The maximum number of queues.
    #[arg(long, default_value_t = 1000)]
    queues: usize,
    /// The maximum number of workers.
    #[arg(long, default_value_t = 200)]
    workers: usize,
    /// The maximum number of waiting clients.
    #[arg(long, default_value_t = 10_000)]
    clients: usize,
    /// The largest payload, in bytes.
    #[arg(long, default_value_t = 1024 * 1024)]
    payload: usize,
}

const QUEUED: [usize; 4] = [1000, 10_000, 100_000, 1_000_000];
const QUEUES: [usize; 4] = [1, 10, 100, 1000];
const WORKERS: [usize; 4] = [1, 10, 50, 200];
const CLIENTS: [usize; 4] = [1, 100, 1000, 10_000];
const PAYLOADS: [usize; 5] = [100, 1024, 10_240, 102_400, 1_048_576];

/// Slots of each of many workers.
const FEW_SLOTS: usize = 2;
/// The maximum total size of the payloads of one case, in bytes.
const MAX_BYTES: usize = 200_000_000;
/// How long idle workers and waiting clients are observed, in seconds.
const OBSERVED_SECONDS: u64 = 5;
/// How many jobs of waiting clients are ended.
const ENDED: usize = 100;

/// Runs the benchmark.
pub(crate) async fn measure(session: &mut Session, arguments: &Arguments) {
    let up_to = |sizes: &[usize], max: usize| -> Vec<usize> {
        sizes.iter().copied().filter(|&size| size <= max).collect()
    };
    queued(session, arguments, &up_to(&QUEUED, arguments.queued)).await;
    queues(session, arguments, &up_to(&QUEUES, arguments.queues)).await;
    workers(session, arguments, &up_to(&WORKERS, arguments.workers)).await;
    clients(session, &up_to(&CLIENTS, arguments.clients)).await;
    payloads(session, arguments, &up_to(&PAYLOADS, arguments.payload)).await;
}

async fn queued(session: &mut Session, arguments: &Arguments, sizes: &[usize]) {
    session.refresh_control();
    let processor = ReservedProcessor::new();
    let (mut submission, mut drain) = (Row::new("submission"), Row::new("drain"));
    for &queued in sizes {
        let case = format!("queued {queued}");
        let mut testbed = start_testbed(processor.as_ref()).await;
        let workers = testbed.start_workers(1, arguments.slots, 1).await;
        testbed.pause(1).await;
        testbed.fill(queued, PAYLOAD, 1).await;
        let probe = Probe::start(&mut testbed).await;
        submission.record(session, &case, fill_cost(&testbed, arguments.jobs, PAYLOAD, 1).await);
        let drained = drain_paused(&mut testbed, &workers, arguments.jobs, 1).await;
        probe.end(session, &case, &mut testbed).await;
        drain.record(session, &case, drained.redis_cpu());
    }
}

async fn queues(session: &mut Session, arguments: &Arguments, sizes: &[usize]) {
    session.refresh_control();
    let processor = ReservedProcessor::new();
    let (mut submission, mut drain) = (Row::new("submission"), Row::new("drain"));
    for &queues in sizes {
        let case = format!("queues {queues}");
        let mut testbed = start_testbed(processor.as_ref()).await;
        let workers = testbed.start_workers(1, arguments.slots, queues).await;
        testbed.pause(queues).await;
        let probe = Probe::start(&mut testbed).await;
        submission.record(
            session,
            &case,
            fill_cost(&testbed, arguments.jobs, PAYLOAD, queues).await,
        );
        let drained = drain_paused(&mut testbed, &workers, arguments.jobs, queues).await;
        probe.end(session, &case, &mut testbed).await;
        drain.record(session, &case, drained.redis_cpu());
    }
}

async fn workers(session: &mut Session, arguments: &Arguments, sizes: &[usize]) {
    session.refresh_control();
    let processor = ReservedProcessor::new();
    let (mut drain, mut idle) = (Row::new("drain"), Row::counting("idle worker", "commands/s"));
    for &count in sizes {
        let case = format!("workers {count}");
        let mut testbed = start_testbed(processor.as_ref()).await;
        let workers = testbed.start_workers(count, FEW_SLOTS, 1).await;
        let commands = RedisActivity::observe(&mut testbed.redis, OBSERVED_SECONDS).await.commands;
        idle.record(session, &case, commands / count as f64);
        testbed.pause(1).await;
        testbed.fill(arguments.jobs, PAYLOAD, 1).await;
        let probe = Probe::start(&mut testbed).await;
        let drained = drain_paused(&mut testbed, &workers, arguments.jobs, 1).await;
        probe.end(session, &case, &mut testbed).await;
        drain.record(session, &case, drained.redis_cpu());
    }
}

async fn clients(session: &mut Session, sizes: &[usize]) {
    session.refresh_control();
    let mut wake = Row::counting("cancel → answer, p50", "ms");
    for &clients in sizes {
        let case = format!("waiting clients {clients}");
        let results = waiters::wait(clients, OBSERVED_SECONDS, ENDED).await;
        wake.record(session, &case, results.wake_ups.ms(0.5));
        let name = |what| format!("growth, {case}: {what}");
        session.record(&name("commands"), results.commands_with, Unit::Counted("/s"));
        // For few clients memory is not meaningful: it is allocated in pages.
        if clients >= 1000 {
            session.record(&name("memory of each"), results.waiting, Unit::Counted("KiB"));
        }
    }
}

async fn payloads(session: &mut Session, arguments: &Arguments, sizes: &[usize]) {
    session.refresh_control();
    let processor = ReservedProcessor::new();
    for &payload in sizes {
        let case = format!("payload {payload} B");
        let jobs = arguments.jobs.min(MAX_BYTES / payload);
        let mut testbed = start_testbed(processor.as_ref()).await;
        let workers = testbed.start_workers(1, arguments.slots, 1).await;
        testbed.pause(1).await;
        let probe = Probe::start(&mut testbed).await;
        let submission = fill_cost(&testbed, jobs, payload, 1).await;
        let drain = drain_paused(&mut testbed, &workers, jobs, 1).await.redis_cpu();
        probe.end(session, &case, &mut testbed).await;
        let name = |what| format!("growth, {case}: {what}");
        session.record(&name("submission"), submission, Unit::CpuSeconds);
        session.record(&name("drain"), drain, Unit::CpuSeconds);
        // Of 100 000 jobs.
        let megabytes = payload as f64 / 1e6 * 1e5;
        let cost = (submission + drain) / megabytes * 1e3;
        session.record(&name("CPU of Redis"), cost, Unit::Counted("ms/MB"));
    }
}

/// Starts a Redis on its reserved processor, if there is one.
async fn start_testbed(processor: Option<&ReservedProcessor>) -> Testbed {
    let testbed = Testbed::start(SHIPPED).await;
    if let Some(processor) = processor {
        processor.assign(testbed.server());
    }
    testbed
}

/// Seconds of CPU that Redis takes to accept 100 000 jobs.
async fn fill_cost(testbed: &Testbed, jobs: usize, payload: usize, queues: usize) -> f64 {
    let before = RedisInfo::of(testbed.server());
    testbed.fill(jobs, payload, queues).await;
    before.until_now(testbed.server()).cpu / jobs as f64 * 1e5
}

/// One cost over all cases of one kind.
struct Row {
    what: &'static str,
    unit: Unit,
    smallest: Option<f64>,
}

impl Row {
    /// Seconds of Redis' CPU for 100 000 jobs.
    const fn new(what: &'static str) -> Self {
        Self { what, unit: Unit::CpuSeconds, smallest: None }
    }

    const fn counting(what: &'static str, unit: &'static str) -> Self {
        Self { what, unit: Unit::Counted(unit), smallest: None }
    }

    /// Records the value, and its ratio to that of the first case.
    fn record(&mut self, session: &mut Session, case: &str, value: f64) {
        let name = format!("growth, {case}: {}", self.what);
        session.record(&name, value, self.unit);
        match self.smallest {
            None => self.smallest = Some(value),
            Some(smallest) => {
                session.record(
                    &format!("{name}, of the smallest"),
                    value / smallest,
                    Unit::Counted("×"),
                );
            }
        }
    }
}
