//! Unique jobs: what a lock costs Redis at each step of its job, and what submissions cost whose lock is held.

use crunch_common::broker::{Bindings, Broker, Enqueued, Exchange, LockId, NewJob};
use crunch_common::job::{OnConflict, Unique};

use crate::groups::Worker;
use crate::metrics::Unit;
use crate::protocol::complete;
use crate::session::Session;
use crate::testbed::{BATCH, PAYLOAD, SHIPPED, TASK, Testbed, job_with, payload_of, submit};
use crate::usage::RedisInfo;

/// Size of the measurement.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Jobs of each case.
    #[arg(long, default_value_t = 100_000)]
    jobs: usize,
    /// How many locks those have that conflict.
    #[arg(long, default_value_t = 1000)]
    locks: usize,
}

/// The steps of a job.
const STEPS: [&str; 3] = ["submission", "claim", "settlement"];

/// Runs the benchmark.
pub(crate) async fn measure(session: &mut Session, arguments: &Arguments) {
    session.refresh_control();
    let plain = cost(None, arguments.jobs).await;
    let unique = cost(Some(&Unique::by_payload()), arguments.jobs).await;
    for (step, what) in STEPS.into_iter().enumerate() {
        let more = unique[step] - plain[step];
        session.record(&format!("jobs without locks: {what}"), plain[step], PER_JOB);
        session.record(&format!("unique jobs: {what}"), unique[step], PER_JOB);
        session.record(&format!("unique jobs: {what}, more"), more, Unit::Counted("µs"));
    }
    for on_conflict in [OnConflict::Existing, OnConflict::Reject, OnConflict::Replace] {
        let cost = conflict(on_conflict, arguments).await;
        session.record(&format!("a lock is held: {on_conflict}"), cost, PER_JOB);
    }
}

const PER_JOB: Unit = Unit::Counted("µs of Redis a job");

/// A job with the lock of that number, if it has one.
fn job_of(broker: &Broker, unique: Option<&Unique>, lock: usize) -> NewJob {
    let mut job = job_with(broker, TASK, payload_of(PAYLOAD));
    if let Some(unique) = unique {
        let bindings = Bindings { at_home_of: Some(&job.queue), ..Bindings::default() };
        job.id = broker.new_bound_id(bindings);
        job.options.unique = Some(unique.clone());
        job.lock = Some(LockId::new(&job.task, &job.queue, None, &[&lock.to_be_bytes()]));
    }
    job
}

/// Microseconds of Redis' CPU for each step of a job. One connection, no worker process.
async fn cost(unique: Option<&Unique>, jobs: usize) -> [f64; 3] {
    let testbed = Testbed::start(SHIPPED).await;
    let per_job = |before: RedisInfo| before.until_now(testbed.server()).cpu / jobs as f64 * 1e6;
    let before = RedisInfo::of(testbed.server());
    for first in (0..jobs).step_by(BATCH) {
        let batch = first..jobs.min(first + BATCH);
        let batch = batch.map(|lock| job_of(&testbed.broker, unique, lock));
        submit(&testbed.broker, &batch.collect::<Vec<_>>()).await;
    }
    let submission = per_job(before);
    let mut worker = Worker::new(&testbed.broker);
    let before = RedisInfo::of(testbed.server());
    let mut leases = Vec::new();
    while leases.len() < jobs {
        leases.extend(worker.exchange(Vec::new(), Exchange::MAX_CLAIMS).await);
    }
    let claim = per_job(before);
    let before = RedisInfo::of(testbed.server());
    let mut leases = leases.into_iter();
    while leases.len() > 0 {
        let some = leases.by_ref().take(Exchange::MAX_CLAIMS).map(complete).collect();
        worker.exchange(some, 0).await;
    }
    [submission, claim, per_job(before)]
}

/// Microseconds of Redis' CPU for a submission whose lock a waiting job holds.
async fn conflict(on_conflict: OnConflict, arguments: &Arguments) -> f64 {
    let testbed = Testbed::start(SHIPPED).await;
    let unique = Unique::by_payload().on_conflict(on_conflict);
    let job = |number: usize| job_of(&testbed.broker, Some(&unique), number % arguments.locks);
    submit(&testbed.broker, &(0..arguments.locks).map(job).collect::<Vec<_>>()).await;
    let before = RedisInfo::of(testbed.server());
    for first in (0..arguments.jobs).step_by(BATCH) {
        let batch: Vec<_> = (first..arguments.jobs.min(first + BATCH)).map(job).collect();
        for answer in testbed.broker.enqueue(&batch).await {
            assert!(!matches!(answer, Ok(Enqueued::Created(_)) | Err(_)), "{answer:?}");
        }
    }
    before.until_now(testbed.server()).cpu / arguments.jobs as f64 * 1e6
}
