//! Groups that take turns: what they cost Redis, how long the jobs of quiet groups wait beside one with very many, the
//! shares that weights give, and how exactly rules are kept.

use std::time::{Duration, Instant};

use crunch_common::broker::{
    Bindings, Broker, Exchange, GroupId, GroupRule, Lease, NewJob, Rate, RuleChange, Settlement,
    Weight, WorkerId,
};
use crunch_common::job::{GroupName, Partition};
use crunch_common::queue::QueueName;

use crate::clock;
use crate::histogram::Histogram;
use crate::metrics::Unit;
use crate::protocol::complete;
use crate::session::Session;
use crate::testbed::{BATCH, PAYLOAD, SHIPPED, TASK, Testbed, job_with, payload_of, submit};
use crate::usage::RedisInfo;

/// Size of the measurement.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Jobs of each case of the cost.
    #[arg(long, default_value_t = 100_000)]
    jobs: usize,
    /// The maximum number of groups.
    #[arg(long, default_value_t = 100_000)]
    groups: usize,
    /// Jobs of the large group.
    #[arg(long, default_value_t = 1_000_000)]
    large: usize,
    /// How long the load of the quiet groups, and each rule, is observed, in seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Slots of the one worker.
    #[arg(long, default_value_t = 300)]
    slots: usize,
}

const GROUPS: [usize; 3] = [10, 1000, 100_000];
/// The quiet groups, and how many jobs a second they submit together.
const QUIET: usize = 1000;
const QUIET_RATE: u64 = 1000;
/// How long jobs run beside each other, and in how many slots: more than the quiet groups need.
const RUN_MS: u64 = 10;
const FEW_SLOTS: usize = 32;

/// Runs the benchmark.
pub(crate) async fn measure(session: &mut Session, arguments: &Arguments) {
    session.refresh_control();
    costs(session, arguments).await;
    waits(session, arguments).await;
    shares(session, arguments).await;
    rules(session, arguments).await;
}

fn queue() -> QueueName {
    TASK.parse().unwrap()
}

fn named(number: usize) -> GroupName {
    format!("group-{number}").parse().unwrap()
}

/// A job of the group with this number.
fn job_of(broker: &Broker, group: Option<usize>, payload: String) -> NewJob {
    let mut job = job_with(broker, TASK, payload);
    if let Some(group) = group {
        let bindings = Bindings { at_home_of: Some(&job.queue), ..Bindings::default() };
        job.id = broker.new_bound_id(bindings);
        job.options.group = Some(named(group));
    }
    job
}

/// Submits jobs to that many groups in turn; with 0, jobs without a group.
async fn fill(broker: &Broker, jobs: usize, groups: usize, payload: &str) {
    for first in (0..jobs).step_by(BATCH) {
        let group = |at: usize| (groups > 0).then(|| at % groups);
        let batch = first..jobs.min(first + BATCH);
        let batch = batch.map(|at| job_of(broker, group(at), payload.to_owned()));
        submit(broker, &batch.collect::<Vec<_>>()).await;
    }
}

async fn set_rule(broker: &Broker, group: Option<usize>, rule: GroupRule) {
    let group = group.map(named);
    let changed = broker.set_group_rule(&queue(), true, group.as_ref(), Some(&rule)).await;
    assert_eq!(changed.unwrap(), RuleChange::Done);
}

/// What a job costs Redis: without groups, with few and with many, and with rules that limit nothing.
async fn costs(session: &mut Session, arguments: &Arguments) {
    let with_groups = GROUPS.into_iter().filter(|&groups| groups <= arguments.groups);
    let cases = [(0, false)].into_iter().chain(with_groups.map(|groups| (groups, false)));
    let most = arguments.groups;
    let mut plain = None;
    for (groups, has_rules) in cases.chain([(most, true)]) {
        let rules = if has_rules { "with rules" } else { "without rules" };
        let costs = cost(groups, has_rules, arguments.jobs).await;
        let without = *plain.get_or_insert(costs);
        for (step, what) in STEPS.into_iter().enumerate() {
            let name = format!("groups, {groups} {rules}: {what}");
            session.record(&name, costs[step], Unit::Counted("µs of Redis a job"));
            if groups > 0 {
                let more = costs[step] - without[step];
                session.record(&format!("{name}, more than without"), more, Unit::Counted("µs"));
            }
        }
    }
}

/// How many jobs run at once where costs are measured.
const RUNNING: usize = 2000;
/// The steps of a job.
const STEPS: [&str; 3] = ["submission", "claim", "settlement"];

/// Microseconds of Redis' CPU for each step of a job. One connection, no worker process.
async fn cost(groups: usize, has_rules: bool, jobs: usize) -> [f64; 3] {
    let testbed = Testbed::start(SHIPPED).await;
    if has_rules {
        let rate = Rate { starts: 1_000_000, per: Duration::from_secs(1), burst: 1_000_000 };
        let rule = GroupRule { concurrency: Some(1000), rate: Some(rate), ..GroupRule::default() };
        set_rule(&testbed.broker, None, rule).await;
    }
    let per_job = |before: RedisInfo| before.until_now(testbed.server()).cpu / jobs as f64 * 1e6;
    let before = RedisInfo::of(testbed.server());
    fill(&testbed.broker, jobs, groups, &payload_of(PAYLOAD)).await;
    let submission = per_job(before);
    let (mut worker, mut done) = (Worker::new(&testbed.broker), 0);
    let (mut claim, mut settlement) = (0.0, 0.0);
    while done < jobs {
        let before = RedisInfo::of(testbed.server());
        let mut leases = Vec::new();
        while leases.len() < RUNNING.min(jobs - done) {
            leases.extend(worker.exchange(Vec::new(), Exchange::MAX_CLAIMS).await);
        }
        claim += per_job(before);
        done += leases.len();
        let before = RedisInfo::of(testbed.server());
        let mut leases = leases.into_iter();
        while leases.len() > 0 {
            let some = leases.by_ref().take(Exchange::MAX_CLAIMS).map(complete).collect();
            worker.exchange(some, 0).await;
        }
        settlement += per_job(before);
    }
    [submission, claim, settlement]
}

/// A worker that only exchanges.
pub(crate) struct Worker<'a> {
    broker: &'a Broker,
    exchange: Exchange,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(broker: &'a Broker) -> Self {
        let exchange = Exchange {
            worker: WorkerId::generate(),
            number: 0,
            lease: Duration::from_secs(600),
            tasks: [&TASK.parse().unwrap()].into_iter().collect(),
            queues: vec![queue()],
            settlements: Vec::new(),
            want: 0,
            busy: 0,
        };
        Self { broker, exchange }
    }

    pub(crate) async fn exchange(
        &mut self,
        settlements: Vec<Settlement>,
        want: usize,
    ) -> Vec<Lease> {
        self.exchange.number += 1;
        (self.exchange.settlements, self.exchange.want) = (settlements, want);
        let exchanged = self.broker.exchange(Partition::default(), &self.exchange).await.unwrap();
        exchanged.claims.into_iter().map(|claim| claim.lease).collect()
    }
}

/// How long the jobs of quiet groups wait: alone, and beside a group with very many.
async fn waits(session: &mut Session, arguments: &Arguments) {
    let alone = wait(0, arguments).await;
    let beside = wait(arguments.large, arguments).await;
    for (case, waits) in [("alone", &alone), ("beside a large group", &beside)] {
        for (quantile, share) in [("p50", 0.5), ("p99", 0.99)] {
            let name = format!("groups, quiet ones {case}: wait, {quantile}");
            session.record(&name, waits.ms(share), Unit::Milliseconds);
        }
    }
    let bound = alone.ms(0.99) + RUN_MS as f64;
    let ratio = beside.ms(0.99) / bound;
    session.record("groups, wait p99 of (alone + run time)", ratio, Unit::Counted("×"));
}

async fn wait(large: usize, arguments: &Arguments) -> Histogram {
    let mut testbed = Testbed::start(SHIPPED).await;
    let mut workers = testbed.start_workers_with(1, FEW_SLOTS, &["--timed"]).await;
    testbed.pause(1).await;
    let payload = format!("{{\"ms\":{RUN_MS}}}");
    for first in (0..large).step_by(BATCH) {
        let batch = first..large.min(first + BATCH);
        let batch = batch.map(|_| job_of(&testbed.broker, Some(QUIET), payload.clone()));
        submit(&testbed.broker, &batch.collect::<Vec<_>>()).await;
    }
    testbed.resume(1).await;
    let (start, mut submitted) = (Instant::now(), 0);
    let mut tick = tokio::time::interval(Duration::from_millis(1000 / QUIET_RATE));
    while start.elapsed() < Duration::from_secs(arguments.seconds) {
        tick.tick().await;
        let payload = format!("{{\"due\":{},\"ms\":{RUN_MS}}}", clock::now());
        let (job, broker) =
            (job_of(&testbed.broker, Some(submitted % QUIET), payload), testbed.broker.clone());
        tokio::spawn(async move { submit(&broker, &[job]).await });
        submitted += 1;
    }
    // The last of them have started by then.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut waits = Histogram::default();
    for worker in &mut workers {
        worker.terminate().await;
        waits.read(&worker.log());
    }
    assert_eq!(waits.count(), submitted as u64, "a job that did not start has no wait");
    waits
}

/// Which shares weights of 1, 2 and 4 give while all have jobs.
async fn shares(session: &mut Session, arguments: &Arguments) {
    const WEIGHTS: [f64; 3] = [1.0, 2.0, 4.0];
    let mut testbed = Testbed::start(SHIPPED).await;
    let _workers = testbed.start_workers(1, arguments.slots, 1).await;
    testbed.pause(1).await;
    for (group, weight) in WEIGHTS.into_iter().enumerate() {
        let weight = Weight::new(weight).unwrap();
        set_rule(&testbed.broker, Some(group), GroupRule { weight, ..GroupRule::default() }).await;
    }
    fill(&testbed.broker, arguments.jobs, WEIGHTS.len(), "{}").await;
    let each = arguments.jobs / WEIGHTS.len();
    testbed.resume(1).await;
    testbed.wait_for_live(arguments.jobs - each * 3 / 2, 1).await;
    testbed.pause(1).await;
    let mut started = Vec::new();
    for group in 0..WEIGHTS.len() {
        started.push(each as f64 - waiting(&mut testbed, group).await);
    }
    let sum: f64 = started.iter().sum();
    for (weight, started) in WEIGHTS.into_iter().zip(started) {
        let share = started / sum / (weight / WEIGHTS.iter().sum::<f64>());
        let name = format!("groups, weight {weight}: share of what it should have");
        session.record(&name, share, Unit::Counted("×"));
    }
}

/// How many jobs of a group wait.
async fn waiting(testbed: &mut Testbed, group: usize) -> f64 {
    let key = format!("crunch:{{0}}:queue:{TASK}:group:{}", GroupId::of(&named(group)));
    redis::cmd("ZCARD").arg(key).query_async(&mut testbed.redis).await.unwrap()
}

/// How many jobs of a group run.
async fn running(testbed: &mut Testbed, group: usize) -> f64 {
    let group = GroupId::of(&named(group));
    let mut count = redis::cmd("ZLEXCOUNT");
    count.arg(format!("crunch:{{0}}:queue:{TASK}:grouped_running"));
    let count = count.arg(format!("[{group} ")).arg(format!("({group}!"));
    count.query_async(&mut testbed.redis).await.unwrap()
}

/// How exactly a concurrency is reached and a rate kept.
async fn rules(session: &mut Session, arguments: &Arguments) {
    const CONCURRENCY: u32 = 20;
    const STARTS: u32 = 200;
    let rate = Rate { starts: STARTS, per: Duration::from_secs(1), burst: STARTS / 10 };
    let mut testbed = Testbed::start(SHIPPED).await;
    let _workers = testbed.start_workers_with(1, FEW_SLOTS, &["--timed"]).await;
    let limited = GroupRule { concurrency: Some(CONCURRENCY), ..GroupRule::default() };
    set_rule(&testbed.broker, Some(0), limited).await;
    set_rule(&testbed.broker, Some(1), GroupRule { rate: Some(rate), ..GroupRule::default() })
        .await;
    testbed.pause(1).await;
    let jobs = usize::try_from(arguments.seconds * 3 * u64::from(STARTS)).unwrap();
    for (group, ms) in [(0, 50), (1, 1)] {
        for _ in 0..jobs.div_ceil(BATCH) {
            let payload = format!("{{\"ms\":{ms}}}");
            let job = |_| job_of(&testbed.broker, Some(group), payload.clone());
            submit(&testbed.broker, &(0..BATCH).map(job).collect::<Vec<_>>()).await;
        }
    }
    testbed.resume(1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = waiting(&mut testbed, 1).await;
    let (start, mut sum, mut most, mut looks) = (Instant::now(), 0.0, 0.0_f64, 0.0);
    while start.elapsed() < Duration::from_secs(arguments.seconds) {
        let now = running(&mut testbed, 0).await;
        (sum, most, looks) = (sum + now, most.max(now), looks + 1.0);
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let started = before - waiting(&mut testbed, 1).await;
    let kept = started / start.elapsed().as_secs_f64() / f64::from(STARTS);
    session.record("groups, a rate: starts of what it allows", kept, Unit::Counted("×"));
    let concurrency = f64::from(CONCURRENCY);
    let reached = sum / looks / concurrency;
    session.record("groups, a concurrency: running of what may", reached, Unit::Counted("×"));
    session.record(
        "groups, a concurrency: most that ran of what may",
        most / concurrency,
        Unit::Counted("×"),
    );
}
