//! Reads Redis: during the run, how jobs ended; at its end, every record and all leftovers.
//!
//! Reads with plain commands, without the proxies and without our own code.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use redis::aio::MultiplexedConnection;
use redis::{Client as Redis, Pipeline, cmd};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::Progress;
use super::client::Client;
use super::fleet::Fleet;
use super::orders::{QUEUES, without_padding};

/// The lanes in which jobs wait; each task has one for parked jobs.
const LANES: [&str; 9] = [
    "solitary",
    "urgent",
    "high",
    "normal",
    "low",
    "task:chaos.work",
    "task:chaos.rare",
    "task:chaos.command",
    "task:chaos.server",
];
/// This many records are read at once.
const PAGE: usize = 1000;

/// A job's record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) status: String,
    pub(super) epoch: u64,
    pub(super) version: u64,
    /// When it was accepted.
    pub(super) created_at: u64,
    /// When its last attempt started; 0 if it never did.
    pub(super) started_at: u64,
    pub(super) finished_at: u64,
    pub(super) cancel_requested: bool,
    pub(super) was_delayed: bool,
    pub(super) error: String,
    /// The result without its padding; null if there is none.
    pub(super) result: Value,
    pub(super) result_is_large: bool,
    /// Attempts that did not succeed, the oldest first.
    pub(super) history: Vec<PastAttempt>,
}

/// One attempt that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct PastAttempt {
    pub(super) started_at_ms: u64,
    pub(super) finished_at_ms: u64,
    pub(super) outcome: String,
    pub(super) error: Option<PastError>,
}

impl PastAttempt {
    /// Returns the code of its error; an empty string if it has none.
    pub(super) fn error_code(&self) -> &str {
        self.error.as_ref().map_or("", |error| &error.code)
    }
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct PastError {
    pub(super) code: String,
}

/// How a job ended: this must not change later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) status: String,
    pub(super) epoch: u64,
    pub(super) finished_at: u64,
}

impl Job {
    pub(super) fn is_terminal(&self) -> bool {
        matches!(self.status.as_str(), "succeeded" | "failed" | "canceled")
    }

    pub(super) fn ended(&self) -> Option<Ended> {
        let Self { status, epoch, finished_at, .. } = self.clone();
        self.is_terminal().then_some(Ended { status, epoch, finished_at })
    }
}

/// A connection to a node, and what the keys of each of its partitions begin with. There is one node outside a cluster.
struct Connection {
    redis: MultiplexedConnection,
    roots: Vec<String>,
}

async fn connect(fleet: &Fleet) -> anyhow::Result<Vec<Connection>> {
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let mut nodes = Vec::new();
    for url in &fleet.node_urls {
        let client = Redis::open(url.as_str())?;
        let connected = client.get_multiplexed_async_connection_with_config(&config).await;
        nodes.push(connected.context("cannot connect to Redis")?);
    }
    let roots = roots(fleet, &mut nodes).await?;
    let nodes = nodes.into_iter().zip(&*roots);
    Ok(nodes.map(|(redis, roots)| Connection { redis, roots: roots.clone() }).collect())
}

/// Finds the partitions of each node: once, before there are many keys.
async fn roots(
    fleet: &Fleet,
    nodes: &mut [MultiplexedConnection],
) -> anyhow::Result<Arc<[Vec<String>]>> {
    const END: &str = ":layout";
    if let Some(roots) = fleet.roots.get() {
        return Ok(roots.clone());
    }
    let mut all = Vec::new();
    for redis in nodes {
        let mut keys = cmd("KEYS");
        let layouts: Vec<String> = keys.arg(format!("crunch:*{END}")).query_async(redis).await?;
        all.push(layouts.iter().map(|key| key.replace(END, "")).collect::<Vec<_>>());
    }
    let count: usize = all.iter().map(Vec::len).sum();
    anyhow::ensure!(count == usize::from(fleet.partitions), "not all partitions exist yet");
    Ok(fleet.roots.get_or_init(|| all.into()).clone())
}

/// Repeatedly reads some of the acknowledged jobs, and records those that have ended. Runs until aborted.
pub(super) async fn watch(fleet: Arc<Fleet>, client: Arc<Client>, progress: Arc<Progress>) {
    const SAMPLE: u64 = 100;
    loop {
        sleep(Duration::from_millis(200)).await;
        // Skipped while Redis is unavailable.
        let Ok(Ok(mut nodes)) = timeout(Duration::from_secs(1), connect(&fleet)).await else {
            continue;
        };
        let ids = client.ids_near((0..SAMPLE).map(|_| rand::random_range(0..progress.jobs)));
        let read = timeout(Duration::from_secs(1), read_some(&mut nodes, &ids)).await;
        if let Ok(Ok(live)) = timeout(Duration::from_secs(1), count_live(&mut nodes)).await {
            progress.live.store(live, Ordering::Relaxed);
        }
        let Ok(Ok(jobs)) = read else { continue };
        for (id, job) in jobs {
            if let Some(ended) = job.ended() {
                client.record_end(id, ended);
            }
        }
    }
}

/// Waits until no job is waiting or running; gives up when none has ended for the time limit.
pub(super) async fn wait_until_all_ended(fleet: &Fleet, time_limit: Duration) {
    let (mut fewest, mut deadline) = (u64::MAX, Instant::now() + time_limit);
    while Instant::now() < deadline {
        let live = live(fleet).await.unwrap_or(u64::MAX);
        if live == 0 {
            return;
        }
        if live < fewest {
            (fewest, deadline) = (live, Instant::now() + time_limit);
        }
        sleep(Duration::from_millis(50)).await;
    }
    fleet.report(format!("{fewest} jobs have not ended, {time_limit:?} after the last progress"));
}

async fn live(fleet: &Fleet) -> anyhow::Result<u64> {
    count_live(&mut connect(fleet).await?).await
}

async fn count_live(nodes: &mut [Connection]) -> anyhow::Result<u64> {
    let mut live = 0;
    for Connection { redis, roots } in nodes.iter_mut().filter(|node| !node.roots.is_empty()) {
        let mut request = redis::pipe();
        for (root, queue) in queues(roots) {
            for lane in LANES {
                request.cmd("LLEN").arg(format!("{root}:queue:{queue}:ready:{lane}"));
            }
            for set in ["delayed", "running", "grouped"] {
                request.cmd("ZCARD").arg(format!("{root}:queue:{queue}:{set}"));
            }
        }
        live += request.query_async::<Vec<u64>>(redis).await?.iter().sum::<u64>();
    }
    Ok(live)
}

/// Every queue in every partition.
fn queues(roots: &[String]) -> impl Iterator<Item = (&str, &str)> {
    roots.iter().flat_map(|root| QUEUES.iter().map(|queue| (root.as_str(), *queue)))
}

/// All elements of a list or a sorted set.
async fn list(
    redis: &mut MultiplexedConnection,
    command: &str,
    key: String,
) -> anyhow::Result<Vec<String>> {
    Ok(cmd(command).arg(key).arg(0).arg(-1).query_async(redis).await?)
}

/// Reads the records of all jobs.
pub(super) async fn read_jobs(fleet: &Fleet) -> anyhow::Result<HashMap<String, Job>> {
    let mut nodes = connect(fleet).await?;
    let mut jobs = HashMap::new();
    for node in &mut nodes {
        let ids: Vec<_> = scan(&mut node.redis).await?.into_iter().collect();
        for page in ids.chunks(PAGE) {
            jobs.extend(read_some(std::slice::from_mut(node), page).await?);
        }
    }
    Ok(jobs)
}

async fn scan(redis: &mut MultiplexedConnection) -> anyhow::Result<BTreeSet<String>> {
    let (mut ids, mut cursor) = (BTreeSet::new(), 0_u64);
    loop {
        let mut scan = cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg("crunch:{*}:job:*").arg("COUNT").arg(PAGE);
        let (next, keys): (u64, Vec<String>) = scan.query_async(redis).await?;
        let found = keys.iter().filter_map(|key| Some(key.split_once(":job:")?.1));
        ids.extend(found.filter(|rest| !rest.contains(':')).map(str::to_owned));
        cursor = next;
        if cursor == 0 {
            return Ok(ids);
        }
    }
}

/// Reads records, each where it is: it is looked for in all partitions.
async fn read_some(nodes: &mut [Connection], ids: &[String]) -> anyhow::Result<Vec<(String, Job)>> {
    const FIELDS: [&str; 8] = [
        "state",
        "spec",
        "cancel_requested",
        "run_at",
        "error",
        "result",
        "result_large",
        "history",
    ];
    let mut found = vec![<[Option<String>; 8]>::default(); ids.len()];
    for Connection { redis, roots } in nodes.iter_mut().filter(|node| !node.roots.is_empty()) {
        let mut request = Pipeline::new();
        for id in ids {
            for root in &*roots {
                request.cmd("HMGET").arg(format!("{root}:job:{id}")).arg(&FIELDS);
            }
        }
        let records: Vec<[Option<String>; 8]> = request.query_async(redis).await?;
        for (found, records) in found.iter_mut().zip(records.chunks(roots.len())) {
            let record = records.iter().find(|record| record[0].is_some());
            record.inspect(|&record| found.clone_from(record));
        }
    }
    ids.iter().zip(found).map(|(id, record)| Ok((id.clone(), read(record)?))).collect()
}

fn read(record: [Option<String>; 8]) -> anyhow::Result<Job> {
    let [state, spec, cancel_requested, run_at, error, result, result_large, history] = record;
    let state = state.unwrap_or_default();
    let words: Vec<_> = state.split(' ').collect();
    let word = |at: usize| words.get(at).copied().filter(|&word| word != "-");
    let number = |at: usize| word(at).map_or(Ok(0), str::parse);
    let spec = spec.unwrap_or_default();
    let created_at =
        spec.split(' ').next().filter(|at| !at.is_empty()).map_or(Ok(0), str::parse)?;
    let history = history.unwrap_or_default();
    let history = history.lines().map(serde_json::from_str).collect::<Result<_, _>>();
    Ok(Job {
        status: word(0).unwrap_or_default().to_owned(),
        epoch: number(4)?,
        version: number(1)?,
        created_at,
        started_at: number(6)?,
        finished_at: number(7)?,
        cancel_requested: cancel_requested.is_some(),
        was_delayed: run_at.is_some(),
        error: error.unwrap_or_default(),
        result_is_large: result_large.is_some(),
        result: result.or(result_large).map(|result| without_padding(&result)).unwrap_or_default(),
        history: history.context("the history is not one JSON object a line")?,
    })
}

/// Finds what must not exist once all jobs have ended: ids in the lists and sets of live jobs, ghosts, quarantined
/// records; and differences between the index of ended jobs and the records.
pub(super) async fn leftovers(fleet: &Fleet) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for node in &mut connect(fleet).await? {
        found.extend(leftovers_of(node).await?);
    }
    Ok(found)
}

async fn leftovers_of(node: &mut Connection) -> anyhow::Result<Vec<String>> {
    let Connection { redis, roots } = node;
    let (mut found, mut indexed) = (Vec::new(), BTreeSet::new());
    for root in &*roots {
        let quarantined = list(redis, "ZRANGE", format!("{root}:quarantine")).await?;
        found.extend(quarantined.iter().map(|id| format!("{id} was quarantined")));
        let locks: Vec<String> =
            cmd("KEYS").arg(format!("{root}:lock:*")).query_async(redis).await?;
        found.extend(locks.iter().map(|key| format!("{key} is left")));
    }
    for (root, queue) in queues(roots) {
        let root = format!("{root}:queue:{queue}");
        for lane in LANES {
            let ids = list(redis, "LRANGE", format!("{root}:ready:{lane}")).await?;
            found.extend(ids.iter().map(|id| format!("{id} is left in {queue}:{lane}")));
        }
        for set in [
            "delayed",
            "running",
            "grouped",
            "grouped_running",
            "runnable",
            "delayed_groups",
            "blocked_groups",
        ] {
            let ids = list(redis, "ZRANGE", format!("{root}:{set}")).await?;
            found.extend(ids.iter().map(|id| format!("{id} is left in {queue}:{set}")));
        }
        let ghosts: Vec<String> =
            cmd("SMEMBERS").arg(format!("{root}:ghosts")).query_async(redis).await?;
        found.extend(ghosts.iter().map(|id| format!("{id} is left among the ghosts of {queue}")));
        let groups: Vec<String> =
            cmd("KEYS").arg(format!("{root}:group:*")).query_async(redis).await?;
        found.extend(groups.iter().map(|key| format!("{key} is left")));
        let finished = list(redis, "ZRANGE", format!("{root}:finished")).await?;
        // Each member is the ids of several jobs.
        indexed.extend(finished.iter().flat_map(|ids| ids.split(' ')).map(str::to_owned));
    }
    let records = scan(redis).await?;
    found.extend(records.symmetric_difference(&indexed).map(|id| {
        format!("{id} is in the records or in the index of ended jobs, but not in both")
    }));
    Ok(found)
}
