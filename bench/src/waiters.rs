//! Very many clients that wait for a job each, at one API: what a waiter costs in memory, whether Redis hears of them, and how
//! soon they hear of the end.
//!
//! Each waiter has a connection of its own. Memory is compared with the same connections at rest, so that what waiting
//! itself costs shows beside what a connection costs.

use std::time::Instant;

use crunch_tests::{Api, eventually};
use futures_util::stream::{self, StreamExt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::figures::{Samples, Unit};
use crate::ground::{Ground, SHIPPED};
use crate::session::Session;
use crate::usage::{Pace, memory_of};
use crate::wire::{Connection, act, get};

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

/// Takes the figures.
pub(crate) async fn measure(session: &mut Session, arguments: &Arguments) {
    session.refresh_control();
    let Arguments { clients, seconds, ended } = *arguments;
    let waited = wait(clients, seconds, ended).await;
    let name = format!("waiters, {clients}");
    let memory = [("at rest", waited.at_rest), ("waiting, more", waited.waiting)];
    for (what, kib) in memory {
        session.note(&format!("{name}: memory of a client {what}"), kib, Unit::Counted("KiB"));
    }
    let commands = [("without", waited.quiet), ("with", waited.busy)];
    for (what, commands) in commands {
        session.note(&format!("{name}: commands {what} them"), commands, Unit::Counted("/s"));
    }
    session.note_quantiles("control: GET /livez beside waiters", &waited.control);
    session.note_quantiles(&format!("{name}: cancel sent → answer"), &waited.woken);
}

/// What waiting took.
pub(crate) struct Waited {
    /// KiB of the API's memory for a connection.
    at_rest: f64,
    /// How much more for one that waits.
    pub(crate) waiting: f64,
    /// Commands a second in Redis without waiters.
    quiet: f64,
    /// With them.
    pub(crate) busy: f64,
    /// From a job's end being asked for to its waiter's answer.
    pub(crate) woken: Samples,
    /// A plain request.
    control: Samples,
}

/// Has so many clients wait, watches Redis for so many seconds, and ends some of their jobs.
pub(crate) async fn wait(count: usize, seconds: u64, ended: usize) -> Waited {
    allow_descriptors(count as u64 + 1000);
    let mut ground = Ground::on(SHIPPED).await;
    let api = ground.api().await;
    let pid = api.process.pid();
    let ids = submit(&api, count.max(ended)).await;
    let bare = memory_of(pid);
    let mut clients = connect(&api, count).await;
    let connected = memory_of(pid);
    let quiet = Pace::of(&mut ground.redis, seconds).await.commands;
    for (client, id) in clients.iter_mut().zip(&ids) {
        client.send(&get(&format!("/jobs/{id}?wait=60"))).await;
    }
    all_wait(&api, count).await;
    let waiting = memory_of(pid);
    // The last requests have their looks still before them.
    while Pace::of(&mut ground.redis, 1).await.commands > 2.0 * quiet + 100.0 {}
    let busy = Pace::of(&mut ground.redis, seconds).await.commands;
    let (woken, control) = wake(&api, &mut clients, &ids[..ended]).await;
    let each = |kib: u64| kib as f64 / count as f64;
    Waited {
        at_rest: each(connected.saturating_sub(bare)),
        waiting: each(waiting.saturating_sub(connected)),
        quiet,
        busy,
        woken,
        control,
    }
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
        let jobs = vec![json!({ "task": "nobody" }); (count - ids.len()).min(1000)];
        let answer = api.post("/jobs/batch", &json!({ "jobs": jobs })).await.json();
        let items = answer["items"].as_array().unwrap().iter();
        ids.extend(items.map(|item| item["job"]["id"].as_str().unwrap().to_owned()));
    }
    ids
}

/// Connections that have been used once.
async fn connect(api: &Api, count: usize) -> Vec<Connection> {
    let opened = stream::iter(0..count).map(async |_| {
        let mut client = Connection::to(api.address()).await;
        client.ask(&get("/livez")).await;
        client
    });
    opened.buffer_unordered(AT_ONCE).collect().await
}

/// Waits until all requests have been read.
async fn all_wait(api: &Api, count: usize) {
    let figure = format!("crunch_http_waiting {count}");
    eventually(&figure, async || {
        let figures = api.get("/metrics").await.body;
        String::from_utf8_lossy(&figures).lines().any(|line| line == figure).then_some(())
    })
    .await;
}

/// Ends jobs one by one; how long each waiter took to hear of it, and a plain request before it. Once all clients have
/// heard, they wait for another job, one at a time.
async fn wake(api: &Api, clients: &mut [Connection], ids: &[String]) -> (Samples, Samples) {
    let (mut woken, mut control) = (Vec::new(), Vec::new());
    let mut other = Connection::to(api.address()).await;
    for (at, id) in ids.iter().enumerate() {
        let (again, client) = (at >= clients.len(), &mut clients[at % clients.len()]);
        if again {
            client.send(&get(&format!("/jobs/{id}?wait=60"))).await;
            all_wait(api, 1).await;
        }
        let begun = Instant::now();
        other.ask(&get("/livez")).await;
        control.push(begun.elapsed());
        let cancel = act(&format!("/jobs/{id}/cancel"));
        let begun = Instant::now();
        other.send(&cancel).await;
        client.answer().await;
        woken.push(begun.elapsed());
        other.answer().await;
    }
    (Samples::new(woken), Samples::new(control))
}
