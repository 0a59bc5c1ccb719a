//! A very large number of clients that each wait for a job at one API: what a waiter costs in memory, whether waiters
//! cause commands in Redis, and how soon they get the response after their job has ended.
//!
//! Each waiter has its own connection. Memory is compared with the same connections idle, so that the cost of
//! waiting is separate from the cost of a connection.

use std::time::Instant;

use crunch_tests::{Api, eventually};
use futures_util::stream::{self, StreamExt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::metrics::{Samples, Unit};
use crate::session::Session;
use crate::testbed::{SHIPPED, Testbed};
use crate::usage::{RedisActivity, memory_of};
use crate::wire::{Connection, get, post_empty};

/// Size of the measurement.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Clients that wait, each for its own job.
    #[arg(long, default_value_t = 10_000)]
    clients: usize,
    /// How long Redis is observed, in seconds, without waiters and with them; less than the longest wait.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=30))]
    seconds: u64,
    /// Jobs that are ended one after the other, to measure how soon their waiters get the response.
    #[arg(long, default_value_t = 200)]
    ended: usize,
}

/// Connections that are opened concurrently.
const AT_ONCE: usize = 100;

/// Runs the benchmark.
pub(crate) async fn measure(session: &mut Session, arguments: &Arguments) {
    session.refresh_control();
    let Arguments { clients, seconds, ended } = *arguments;
    let results = wait(clients, seconds, ended).await;
    let name = format!("waiters, {clients}");
    let memory = [("at rest", results.connected), ("waiting, more", results.waiting)];
    for (what, kib) in memory {
        session.record(&format!("{name}: memory of a client {what}"), kib, Unit::Counted("KiB"));
    }
    let commands = [("without", results.commands_without), ("with", results.commands_with)];
    for (what, commands) in commands {
        session.record(&format!("{name}: commands {what} them"), commands, Unit::Counted("/s"));
    }
    session.record_quantiles("control: GET /livez beside waiters", &results.control);
    session.record_quantiles(&format!("{name}: cancel sent → answer"), &results.wake_ups);
}

/// What waiting costs.
pub(crate) struct WaitResults {
    /// KiB of the API's memory for a connection.
    connected: f64,
    /// Additional memory for a connection that waits, in KiB.
    pub(crate) waiting: f64,
    /// Commands per second in Redis without waiters.
    commands_without: f64,
    /// Commands per second in Redis with waiters.
    pub(crate) commands_with: f64,
    /// Time from the request to cancel a job to the response to its waiter.
    pub(crate) wake_ups: Samples,
    /// Time of a plain request.
    control: Samples,
}

/// Lets `count` clients wait, observes Redis for this many seconds, and ends some of their jobs.
pub(crate) async fn wait(count: usize, seconds: u64, ended: usize) -> WaitResults {
    allow_descriptors(count as u64 + 1000);
    let mut testbed = Testbed::start(SHIPPED).await;
    let api = testbed.start_api().await;
    let pid = api.process.pid();
    let ids = submit(&api, count.max(ended)).await;
    let unconnected = memory_of(pid);
    let mut clients = connect(&api, count).await;
    let connected = memory_of(pid);
    let commands_without = RedisActivity::observe(&mut testbed.redis, seconds).await.commands;
    for (client, id) in clients.iter_mut().zip(&ids) {
        client.send(&get(&format!("/jobs/{id}?wait=60"))).await;
    }
    all_wait(&api, count).await;
    let waiting = memory_of(pid);
    // The last requests have not yet read the status of their jobs.
    while RedisActivity::observe(&mut testbed.redis, 1).await.commands
        > 2.0 * commands_without + 100.0
    {}
    let commands_with = RedisActivity::observe(&mut testbed.redis, seconds).await.commands;
    let (wake_ups, control) = wake(&api, &mut clients, &ids[..ended]).await;
    let each = |kib: u64| kib as f64 / count as f64;
    WaitResults {
        connected: each(connected.saturating_sub(unconnected)),
        waiting: each(waiting.saturating_sub(connected)),
        commands_without,
        commands_with,
        wake_ups,
        control,
    }
}

fn allow_descriptors(wanted: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).unwrap();
    }
}

/// Submits jobs that no worker will run.
async fn submit(api: &Api, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let jobs = vec![json!({ "task": "unserved" }); (count - ids.len()).min(1000)];
        let response = api.post("/jobs/batch", &json!({ "jobs": jobs })).await.json();
        let items = response["items"].as_array().unwrap().iter();
        ids.extend(items.map(|item| item["job"]["id"].as_str().unwrap().to_owned()));
    }
    ids
}

/// Opens connections, and uses each once.
async fn connect(api: &Api, count: usize) -> Vec<Connection> {
    let opened = stream::iter(0..count).map(async |_| {
        let mut client = Connection::to(api.address()).await;
        client.request(&get("/livez")).await;
        client
    });
    opened.buffer_unordered(AT_ONCE).collect().await
}

/// Waits until all requests have been read.
async fn all_wait(api: &Api, count: usize) {
    let sample = format!("crunch_http_waiting {count}");
    eventually(&sample, async || {
        let metrics = api.get("/metrics").await.body;
        String::from_utf8_lossy(&metrics).lines().any(|line| line == sample).then_some(())
    })
    .await;
}

/// Ends jobs one by one; returns how long the response to each waiter took, and a plain request before it. Once all
/// clients have a response, they wait for another job, one at a time.
async fn wake(api: &Api, clients: &mut [Connection], ids: &[String]) -> (Samples, Samples) {
    let (mut wake_ups, mut control) = (Vec::new(), Vec::new());
    let mut other = Connection::to(api.address()).await;
    for (at, id) in ids.iter().enumerate() {
        let (reused, client) = (at >= clients.len(), &mut clients[at % clients.len()]);
        if reused {
            client.send(&get(&format!("/jobs/{id}?wait=60"))).await;
            all_wait(api, 1).await;
        }
        let start = Instant::now();
        other.request(&get("/livez")).await;
        control.push(start.elapsed());
        let cancel = post_empty(&format!("/jobs/{id}/cancel"));
        let start = Instant::now();
        other.send(&cancel).await;
        client.response().await;
        wake_ups.push(start.elapsed());
        other.response().await;
    }
    (Samples::new(wake_ups), Samples::new(control))
}
