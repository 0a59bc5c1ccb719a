//! What it costs Redis that Prometheus collects the metrics of an API, and how long pages of the dashboard take, with many
//! jobs, queues and workers.
//!
//! The CPU of Redis is the median of that around each scrape, without that of asking for it. How long single commands take is what Redis' slow log says, with all of them
//! in it; a busy machine that preempts Redis makes the longest ones longer.

use std::time::{Duration, Instant};

use crunch_common::Broker;
use crunch_common::broker::{NewJob, Start, WorkerInfo};
use crunch_common::job::Priority;
use crunch_common::queue::QueueName;
use crunch_tests::Api;
use redis::Value;
use tokio::time::sleep;

use crate::fleet::{HEARTBEAT, register};
use crate::metrics::{Samples, Unit};
use crate::session::Session;
use crate::testbed::{PAYLOAD, SHIPPED, Testbed, job, submit, task_name};
use crate::usage::RedisInfo;

/// Size of the measurement.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Jobs that wait.
    #[arg(long, default_value_t = 1_000_000)]
    jobs: usize,
    /// Queues; every tenth also has a delayed job and one of another priority.
    #[arg(long, default_value_t = 1000)]
    queues: usize,
    /// Workers, which are only registered.
    #[arg(long, default_value_t = 200)]
    workers: usize,
    /// How often the metrics are collected.
    #[arg(long, default_value_t = 20)]
    scrapes: u32,
    /// How often each page is read.
    #[arg(long, default_value_t = 100)]
    views: u32,
}

/// Longer than what an API has read is kept.
const PAUSE: Duration = Duration::from_millis(2100);
/// Longer than a page is kept.
const PAGE_KEPT: Duration = Duration::from_millis(1050);
/// Queues that a worker claims from: each is some bytes to read.
const QUEUES_OF_A_WORKER: usize = 20;

/// Runs the benchmark.
pub(crate) async fn measure(session: &mut Session, arguments: &Arguments) {
    session.refresh_control();
    let Arguments { jobs, queues, workers, scrapes, views } = *arguments;
    let mut testbed = Testbed::start(SHIPPED).await;
    testbed.fill(jobs, PAYLOAD, queues).await;
    fill_side_lanes(&testbed.broker, queues).await;
    let infos = (0..workers).map(|at| info(at, queues)).collect();
    let registered = tokio::spawn(register(testbed.broker.clone(), infos));
    let api = testbed.start_api().await;
    sleep(HEARTBEAT * 2).await;

    let (mut answers, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..scrapes {
        let [asking, before] = [(); 2].map(|()| RedisInfo::of(testbed.server()));
        answers.push(scrape(&api, workers).await);
        let after = RedisInfo::of(testbed.server());
        let taken = (after.cpu - before.cpu) - (before.cpu - asking.cpu);
        cpu.push(Duration::from_secs_f64(taken.max(0.0)));
        sleep(PAUSE).await;
    }
    let calls = commands_of_a_scrape(&mut testbed, &api, workers).await;
    let pages = read_pages(&api, &task_name(0, queues), views).await;
    registered.abort();

    session.record("scrape: CPU of Redis", Samples::new(cpu).ms(0.5), Unit::Counted("ms"));
    session.record("scrape: answer, p50", Samples::new(answers).ms(0.5), Unit::Milliseconds);
    session.record("scrape: commands", calls.len() as f64, Unit::Counted(""));
    session.record("scrape: longest command", Samples::new(calls).ms(1.0), Unit::Counted("ms"));
    for (path, taken) in pages {
        let name = format!("page /dashboard{path}, p99");
        session.record(&name, Samples::new(taken).ms(0.99), Unit::Milliseconds);
    }
}

/// Reads each page so often, and never one that is kept. Returns how long each took.
async fn read_pages(api: &Api, queue: &str, views: u32) -> Vec<(String, Vec<Duration>)> {
    let newest = api.get("/jobs?limit=1").await.json();
    let id = newest["items"][0]["id"].as_str().expect("there are jobs");
    let one_queue = [format!("/queues/{queue}"), format!("/jobs?queue={queue}&status=queued")];
    let one_job = [format!("/jobs?task={queue}"), format!("/jobs/{id}")];
    let fixed = ["", "/queues", "/jobs", "/errors", "/workers", "/tasks", "/deliveries", "/system"];
    let paths = fixed.map(str::to_owned).into_iter().chain(one_queue).chain(one_job);
    let mut pages: Vec<_> = paths.map(|path| (path, Vec::new())).collect();
    for _ in 0..views {
        let round = Instant::now();
        for (path, taken) in &mut pages {
            let start = Instant::now();
            let answer = api.get(&format!("/dashboard{path}")).await;
            taken.push(start.elapsed());
            assert_eq!(answer.status.as_u16(), 200, "{path}");
        }
        sleep(PAGE_KEPT.saturating_sub(round.elapsed())).await;
    }
    pages
}

/// Gives every tenth queue jobs outside its normal lane.
async fn fill_side_lanes(broker: &Broker, queues: usize) {
    let jobs = (0..queues).step_by(10).flat_map(|at| {
        let job = || job(broker, &task_name(at, queues), PAYLOAD);
        let later = NewJob { start: Start::After(Duration::from_secs(3600)), ..job() };
        [later, NewJob { priority: Priority::Urgent, ..job() }]
    });
    submit(broker, &jobs.collect::<Vec<_>>()).await;
}

fn info(at: usize, queues: usize) -> WorkerInfo {
    let names = (0..QUEUES_OF_A_WORKER.min(queues))
        .map(|number| task_name((at + number * 7) % queues, queues));
    let names: Vec<_> = names.collect();
    WorkerInfo {
        host: format!("host-{at}"),
        queues: names.iter().map(|name| name.parse::<QueueName>().unwrap()).collect(),
        tasks: names.iter().map(|name| name.parse().unwrap()).collect(),
        slots: 8,
        ..WorkerInfo::of_this_process()
    }
}

/// Collects the metrics, which must be complete; returns how long it took.
async fn scrape(api: &Api, workers: usize) -> Duration {
    let start = Instant::now();
    let answer = api.get("/metrics").await;
    let taken = start.elapsed();
    let text = String::from_utf8_lossy(&answer.body);
    assert!(text.contains(&format!("\ncrunch_fleet_workers {workers}\n")), "{text}");
    taken
}

/// The commands that read the state of queues and workers. Some are of sweeps meanwhile.
const COMMANDS: [&str; 9] =
    ["EXISTS", "HMGET", "INFO", "LINDEX", "LLEN", "SCARD", "SMEMBERS", "ZCARD", "ZRANGE"];

/// Collects the metrics while Redis logs each command; returns how long those about queues and workers took.
async fn commands_of_a_scrape(testbed: &mut Testbed, api: &Api, workers: usize) -> Vec<Duration> {
    let redis = &mut testbed.redis;
    let mut log = redis::pipe();
    log.cmd("CONFIG").arg("SET").arg("slowlog-max-len").arg(100_000).ignore();
    log.cmd("CONFIG").arg("SET").arg("slowlog-log-slower-than").arg(0).ignore();
    log.cmd("SLOWLOG").arg("RESET").ignore();
    log.exec_async(redis).await.unwrap();
    scrape(api, workers).await;
    let entries: Vec<(u64, u64, u64, Vec<String>, Value, Value)> =
        redis::cmd("SLOWLOG").arg("GET").arg(-1).query_async(redis).await.unwrap();
    let commands = entries.into_iter().filter(|(.., arguments, _, _)| {
        arguments.first().is_some_and(|name| COMMANDS.contains(&name.as_str()))
    });
    commands.map(|(_, _, micros, ..)| Duration::from_micros(micros)).collect()
}
