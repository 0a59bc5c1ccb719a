//! Very many clients that wait for a job each, at one API: what a waiter costs in memory, whether Redis hears of them, and how
//! soon they hear of the end.
//!
//! Each waiter has a connection of its own. Memory is compared with the same connections at rest, so that what waiting
//! itself costs shows beside what a connection costs.

use std::fs;
use std::time::{Duration, Instant};

use crunch_tests::{Api, Stack};
use futures_util::stream::{self, StreamExt};
use redis::aio::MultiplexedConnection;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::figures::Samples;

/// How much is measured.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Clients that wait, each for a job of its own.
    #[arg(long, default_value_t = 10_000)]
    clients: usize,
    /// How long Redis is watched, in seconds, without waiters and with them; less than the longest wait.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=30))]
    seconds: u64,
    /// Jobs that are ended one after the other, to see how soon their waiters hear of it.
    #[arg(long, default_value_t = 200)]
    ended: usize,
}

/// Connections that are opened at the same time.
const AT_ONCE: usize = 100;

/// Prints the figures.
pub(crate) async fn measure(arguments: &Arguments) {
    allow_descriptors(arguments.clients as u64 + 1000);
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    let mut redis = stack.redis.connect().await;
    let ids = submit(&api, arguments.clients).await;
    let bare = memory(&api);
    let mut clients = connect(&api, ids.len()).await;
    let connected = memory(&api);
    let quiet = commands_within(&mut redis, arguments.seconds).await;
    for (client, id) in clients.iter_mut().zip(&ids) {
        ask(client, &format!("GET /jobs/{id}?wait=60")).await;
    }
    all_wait(&api, ids.len()).await;
    let waiting = memory(&api);
    // The last requests have their looks still before them.
    while commands_within(&mut redis, 1).await > 2.0 * quiet + 100.0 {}
    let busy = commands_within(&mut redis, arguments.seconds).await;
    let (woken, control) = wake(&api, &mut clients, &ids[..arguments.ended.min(ids.len())]).await;
    let each = |kib: u64| kib as f64 / ids.len() as f64;
    println!("waiters                                {:>9}", ids.len());
    println!("memory of the API, KiB: bare {bare}, connected {connected}, waiting {waiting}");
    println!("  a connection at rest, KiB            {:>9.2}", each(connected - bare));
    println!(
        "  to wait on it, KiB more              {:>9.2}",
        each(waiting.saturating_sub(connected))
    );
    println!("commands a second in Redis, without    {quiet:>9.1}");
    println!("                            with them  {busy:>9.1}");
    println!("\n{:<44} {:>9} {:>9} {:>9} {:>8}", "milliseconds", "p50", "p99", "worst", "control");
    control.print("control: GET /livez", &control);
    woken.print("cancel sent → waiter has its answer", &control);
}

fn allow_descriptors(wanted: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).unwrap();
    }
}

/// Jobs that nobody will run.
async fn submit(api: &Api, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let jobs = vec![json!({ "task": "t" }); (count - ids.len()).min(1000)];
        let answer = api.post("/jobs/batch", &json!({ "jobs": jobs })).await.json();
        let items = answer["items"].as_array().unwrap().iter();
        ids.extend(items.map(|item| item["job"]["id"].as_str().unwrap().to_owned()));
    }
    ids
}

/// Connections that have been used once.
async fn connect(api: &Api, count: usize) -> Vec<TcpStream> {
    let opened = stream::iter(0..count).map(async |_| {
        let mut client = TcpStream::connect(api.address()).await.unwrap();
        client.set_nodelay(true).unwrap();
        ask(&mut client, "GET /livez").await;
        answered(&mut client).await;
        client
    });
    opened.buffer_unordered(AT_ONCE).collect().await
}

async fn ask(client: &mut TcpStream, line: &str) {
    let head = format!("{line} HTTP/1.1\r\nHost: crunch\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
}

/// Answers of this API come in one piece.
async fn answered(client: &mut TcpStream) {
    let mut buffer = [0; 4096];
    let got = client.read(&mut buffer).await.unwrap();
    assert!(
        buffer[..got].starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&buffer[..got])
    );
}

/// Waits until all requests have been read.
async fn all_wait(api: &Api, count: usize) {
    let figure = format!("crunch_http_waiting {count}");
    while !String::from_utf8_lossy(&api.get("/metrics").await.body).lines().any(|it| it == figure) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Resident memory of the process, KiB.
fn memory(api: &Api) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", api.process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Commands a second that Redis processed.
async fn commands_within(redis: &mut MultiplexedConnection, seconds: u64) -> f64 {
    let before = commands(redis).await;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    (commands(redis).await - before) as f64 / seconds as f64
}

async fn commands(redis: &mut MultiplexedConnection) -> u64 {
    let info: String = redis::cmd("INFO").arg("stats").query_async(redis).await.unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
    line.unwrap().trim().parse().unwrap()
}

/// Ends jobs one by one; how long each waiter took to hear of it, and a plain request before it.
async fn wake(api: &Api, clients: &mut [TcpStream], ids: &[String]) -> (Samples, Samples) {
    let (mut woken, mut control) = (Vec::new(), Vec::new());
    for (client, id) in clients.iter_mut().zip(ids) {
        let begun = Instant::now();
        let alive: Value = api.get("/livez").await.json();
        control.push(begun.elapsed());
        assert_eq!(alive["status"], "ok");
        let begun = Instant::now();
        let cancel = api.request("POST".parse().unwrap(), &format!("/jobs/{id}/cancel"));
        let canceled = api.send_meanwhile(cancel);
        answered(client).await;
        woken.push(begun.elapsed());
        assert!(canceled.await.unwrap().status.is_success());
    }
    (Samples::new(woken), Samples::new(control))
}
