//! How fast the API accepts and shows jobs, compared with a bare server that sends one Redis command per request: see
//! [`crate::bare_http`]. Both run as separate processes on one Redis, and get requests in turn.
//!
//! Clients share the machine with the servers; the CPU that each request costs a server does not depend on them.

use std::time::{Duration, Instant};

use crunch_tests::{Api, Process};
use futures_util::future::join_all;
use serde_json::Value;
use tokio::process::Command;
use tokio::task::JoinError;

use crate::clients::{Clients, in_turn};
use crate::metrics::Unit;
use crate::session::Session;
use crate::testbed::{PAYLOAD, SHIPPED, TASK, Testbed, envelope};
use crate::usage::{RedisInfo, cpu_of, memory_of};
use crate::wire::{Connection, get, head_of_post, post};

/// Size of the measurement.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Concurrent clients.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Number of turns of each server.
    #[arg(long, default_value_t = 4)]
    slices: u32,
    /// Duration of a turn, in milliseconds.
    #[arg(long, default_value_t = 1000)]
    slice_ms: u64,
    /// Number of jobs that are sent as lines.
    #[arg(long, default_value_t = 200_000)]
    lines: usize,
}

/// Clients that send batches; each of a hundred jobs.
const BATCH_CLIENTS: usize = 8;
const BATCH: usize = 100;
/// How many lines are written at once.
const CHUNK: usize = 1000;
/// A copy of a finished job for the bare server to read.
const COPY: &str = "copy";

/// Runs the benchmark.
pub(crate) async fn measure(session: &mut Session, arguments: &Arguments) {
    session.refresh_control();
    let mut testbed = Testbed::start(SHIPPED).await;
    let api = testbed.start_api().await;
    let finished = finished_job(&mut testbed).await;
    let (bare, address) = start_bare(&mut testbed).await;
    let connect = async |crunch: Vec<u8>, control: Vec<u8>| {
        let count = arguments.connections;
        [
            Clients::new(count, api.address(), api.process.pid(), crunch).await,
            Clients::new(count, &address, bare.pid(), control).await,
        ]
    };
    let body = envelope();
    let mut pair = connect(post("/jobs", &body), post("/", &body)).await;
    compare(session, &testbed, ["submit", "LPUSH"], &mut pair, arguments).await;
    let polls = [format!("/jobs/{finished}"), format!("/{COPY}")];
    let [crunch, control] = polls.map(|path| get(&path));
    let mut pair = connect(crunch, control).await;
    compare(session, &testbed, ["poll", "HGETALL"], &mut pair, arguments).await;
    drop((pair, bare));
    batches(session, &testbed, &api, arguments).await;
    drop(api);
    for streams in [1, 4] {
        lines(session, streams, arguments.lines).await;
    }
}

/// Lets a worker run one job and terminates it; copies the stored job.
async fn finished_job(testbed: &mut Testbed) -> String {
    let mut workers = testbed.start_workers(1, 1, 1).await;
    testbed.fill(1, PAYLOAD, 1).await;
    testbed.wait_for_live(0, 1).await;
    let _ = workers[0].terminate().await;
    let redis = &mut testbed.redis;
    let ids: Vec<String> = redis::cmd("ZRANGE")
        .arg(&[&format!("crunch:{{0}}:queue:{TASK}:finished"), "0", "0"])
        .query_async(redis)
        .await
        .unwrap();
    let key = format!("crunch:{{0}}:job:{}", ids[0]);
    let copied: bool = redis::cmd("COPY").arg(&[&key, COPY]).query_async(redis).await.unwrap();
    assert!(copied, "{key}");
    ids[0].clone()
}

/// Starts the control; returns its process and address.
async fn start_bare(testbed: &mut Testbed) -> (Process, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["bare-http", "--redis-url", &testbed.server().url()]);
    let mut process = testbed.stack.spawn(command, "bare");
    let address = process.wait_for_log("listening on http://").await;
    (process, address)
}

async fn compare(
    session: &mut Session,
    testbed: &Testbed,
    [crunch, bare]: [&str; 2],
    pair: &mut [Clients; 2],
    arguments: &Arguments,
) {
    let slice = Duration::from_millis(arguments.slice_ms);
    let served = in_turn(testbed.server(), pair, arguments.slices, slice).await;
    let names = [format!("HTTP {crunch}"), format!("control: bare {bare} by HTTP")];
    for (name, served) in names.iter().zip(&served) {
        session.record(name, served.rate(), Unit::PerSecond);
        session.record(&format!("{name}: CPU of server"), served.server_cpu(), Unit::CpuSeconds);
        session.record(&format!("{name}: CPU of Redis"), served.redis_cpu(), Unit::CpuSeconds);
    }
    let [crunch_served, control] = served;
    let ratio = crunch_served.rate() / control.rate();
    session.record(&format!("HTTP {crunch} / bare {bare}"), ratio, Unit::Times);
}

async fn batches(session: &mut Session, testbed: &Testbed, api: &Api, arguments: &Arguments) {
    let jobs = vec![envelope(); BATCH].join(",");
    let request = post("/jobs/batch", &format!("{{\"jobs\":[{jobs}]}}"));
    let mut clients = Clients::new(BATCH_CLIENTS, api.address(), api.process.pid(), request).await;
    let time = Duration::from_millis(arguments.slice_ms * u64::from(arguments.slices));
    clients.send(testbed.server(), time / 10).await;
    let served = clients.send(testbed.server(), time).await;
    let name = format!("HTTP batches of {BATCH}");
    let each = BATCH as f64;
    session.record(&format!("{name}: jobs"), served.rate() * each, Unit::PerSecond);
    session.record(&format!("{name}: CPU of server"), served.server_cpu() / each, Unit::CpuSeconds);
    session.record(&format!("{name}: CPU of Redis"), served.redis_cpu() / each, Unit::CpuSeconds);
}

/// Sends jobs as lines in `streams` concurrent bodies, to an API that has done nothing before: the growth of its memory
/// shows how much it buffers.
async fn lines(session: &mut Session, streams: usize, count: usize) {
    let mut testbed = Testbed::start(SHIPPED).await;
    let api = testbed.start_api().await;
    let pid = api.process.pid();
    let share = (count / streams).next_multiple_of(CHUNK);
    let (before, memory, cpu) = (RedisInfo::of(testbed.server()), memory_of(pid), cpu_of(pid));
    let start = Instant::now();
    let sending = (0..streams).map(|_| tokio::spawn(send_lines(api.address().to_owned(), share)));
    let peak = peak_until(pid, join_all(sending.collect::<Vec<_>>())).await;
    let seconds = start.elapsed().as_secs_f64();
    let (cpu, cost) = (cpu_of(pid) - cpu, before.until_now(testbed.server()));
    let name = match streams {
        1 => "HTTP lines, 1 body".to_owned(),
        _ => format!("HTTP lines, {streams} bodies"),
    };
    let (jobs, growth) = ((share * streams) as f64, (peak - memory) as f64 / 1024.0);
    session.record(&format!("{name}: jobs"), jobs / seconds, Unit::PerSecond);
    session.record(&format!("{name}: CPU of server"), cpu / jobs * 1e5, Unit::CpuSeconds);
    session.record(&format!("{name}: CPU of Redis"), cost.cpu / jobs * 1e5, Unit::CpuSeconds);
    session.record(&format!("{name}: memory of the API, growth"), growth, Unit::Counted("MiB"));
}

/// Peak memory of a process until all senders finished, in KiB.
async fn peak_until(pid: u32, finished: impl Future<Output = Vec<Result<(), JoinError>>>) -> u64 {
    let mut finished = std::pin::pin!(finished);
    let mut peak = 0;
    loop {
        let finished = tokio::time::timeout(Duration::from_millis(5), &mut finished).await;
        peak = peak.max(memory_of(pid));
        if let Ok(finished) = finished {
            finished.into_iter().for_each(Result::unwrap);
            return peak;
        }
    }
}

async fn send_lines(address: String, count: usize) {
    let mut connection = Connection::to(&address).await;
    let chunk = (envelope() + "\n").repeat(CHUNK);
    let chunks = count / CHUNK;
    let head = head_of_post("/jobs/batch", "application/x-ndjson", chunks * chunk.len());
    connection.send(&head).await;
    for _ in 0..chunks {
        connection.send(chunk.as_bytes()).await;
    }
    let response: Value = serde_json::from_slice(connection.response().await).unwrap();
    assert_eq!(response["accepted"], count, "{response}");
}
