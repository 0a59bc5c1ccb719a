//! The fuzz run: sends random and damaged inputs to real processes, for a given time.
//!
//! There are three inputs from outside: HTTP, the schemas of tasks, and `tasks.toml`. Each gets random combinations of
//! known parts, some of them damaged. A finding is an input after which a process exited, panicked, gave no response or
//! one that the contract does not allow, took too long, or kept memory. The seed and the number of the input reproduce
//! it.

mod answer;
mod draw;
mod memory;
mod options;
mod request;
mod schemas;
mod tables;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use serde_json::json;

use crate::{Api, Stack, Worker};
use draw::Draw;
use memory::Memory;
use request::{Ids, exchange};

/// The parameters of a run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The number of requests, schemas with values, and files. A run ends at this number or after `time`, whichever is
    /// first.
    pub inputs: u64,
    /// The maximum length of the run.
    pub time: Duration,
    /// The seed of all random choices.
    pub seed: u64,
    /// Whether the time to validate a value is checked: not on a busy machine.
    pub timed: bool,
}

/// An input, and the failure it caused.
#[derive(Debug)]
pub struct Finding {
    /// The kind of the input, and its number.
    pub input: String,
    /// The failure.
    pub what: String,
}

/// The results of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// The number of requests sent.
    pub requests: u64,
    /// The number of schemas compiled or refused.
    pub schemas: u64,
    /// The number of files read by a worker.
    pub tables: u64,
    /// The longest validation of a value against a schema.
    pub slowest_check: Duration,
    /// The memory of each process, at equal intervals during the run and at its end, in KiB.
    pub memory: Vec<(String, Vec<u64>)>,
    /// All findings.
    pub findings: Vec<Finding>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "requests  {}", self.requests)?;
        writeln!(f, "schemas   {}, longest check {:?}", self.schemas, self.slowest_check)?;
        writeln!(f, "files     {}", self.tables)?;
        for (process, samples) in &self.memory {
            writeln!(f, "memory    {process}, KiB in each part: {samples:?}")?;
        }
        for Finding { input, what } in &self.findings {
            writeln!(f, "FINDING   {input}\n          {what}")?;
        }
        writeln!(f, "findings  {}", self.findings.len())
    }
}

/// This many connections send requests concurrently.
const CLIENTS: u64 = 4;
/// The run stops after this many findings: more give no new information.
const MAX_FINDINGS: usize = 20;

/// When a run ends.
#[derive(Debug, Clone, Copy)]
struct Limits {
    inputs: u64,
    end: Instant,
}

impl Limits {
    fn allow(self, done: u64) -> bool {
        done < self.inputs && Instant::now() < self.end
    }
}

/// Runs the plan.
///
/// # Errors
/// If the processes cannot be started.
pub async fn run(plan: Plan) -> anyhow::Result<Report> {
    let limits = Limits { inputs: plan.inputs, end: Instant::now() + plan.time };
    let mut report = Report::default();
    let schemas = tokio::task::spawn_blocking(move || schemas::run(plan, limits));
    let http = over_http(plan, limits, &mut report);
    let (schemas, (), tables) = tokio::join!(schemas, http, tables::run(plan, limits));
    for part in [schemas?, tables?] {
        report.schemas += part.schemas;
        report.tables += part.tables;
        report.slowest_check = report.slowest_check.max(part.slowest_check);
        report.findings.extend(part.findings);
    }
    Ok(report)
}

/// Starts an API and a worker, with tasks whose schemas are of every kind.
async fn start() -> (Stack, Api, Worker) {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_API_TASK_ROUTES", "/crunch=fuzz.tree")]).await;
    let operator = |name| {
        json!({ "type": "object", "required": ["op", "arg"],
            "properties": { "op": { "const": name }, "arg": { "$ref": "#/$defs/node" } } })
    };
    let alternatives = [
        operator("not"),
        operator("neg"),
        json!({ "type": "array", "items": { "$ref": "#/$defs/node" }, "maxItems": 9 }),
        json!({ "type": ["number", "null"] }),
    ];
    let tree = json!({ "$ref": "#/$defs/node", "$defs": { "node": { "anyOf": alternatives } } });
    std::fs::write(stack.directory().join("tree.json"), tree.to_string()).unwrap();
    let table = "[[task]]\nname = \"fuzz.tree\"\ncommand = [\"cat\"]\npayload_schema = \"tree.json\"\n\
        [[task]]\nname = \"fuzz.bytes\"\ncommand = [\"cat\"]\naccepts = [\"text/plain\", \"image/png\"]\ncontent_type = \"text/plain\"\n";
    let path = stack.directory().join("tasks.toml");
    std::fs::write(&path, table).unwrap();
    let tasks = [("CRUNCH_TASKS", path.to_str().unwrap())];
    let worker = stack.worker_with(&api, 4, &tasks).await;
    Stack::wait_for_task(&api, "fuzz.tree").await;
    (stack, api, worker)
}

async fn over_http(plan: Plan, limits: Limits, report: &mut Report) {
    let (_stack, mut api, mut worker) = start().await;
    let (sent, ids) = (AtomicU64::new(0), Arc::new(Ids::default()));
    let mut memory = Memory::of([("api", api.process.pid()), ("worker", worker.pid())]);
    let client = async |number: u64| {
        let mut draw = Draw::new(Pcg64Mcg::seed_from_u64(plan.seed.wrapping_add(number)));
        let (mut findings, mut at) = (Vec::new(), 0);
        while limits.allow(sent.load(Ordering::Relaxed)) && findings.len() < MAX_FINDINGS {
            if let Err(what) = exchange(&api, &mut draw, &ids).await {
                let input = format!("seed {}, client {number}, request {at}", plan.seed);
                findings.push(Finding { input, what });
            }
            at += 1;
            sent.fetch_add(1, Ordering::Relaxed);
        }
        findings
    };
    let clients = futures_util::future::join_all((0..CLIENTS).map(client));
    let findings = memory.sample_while(limits, &sent, clients).await;
    report.findings.extend(findings.into_iter().flatten());
    report.requests = sent.into_inner();
    memory.check(report);
    for (name, process) in [("api", &mut api.process), ("worker", &mut worker)] {
        let (exited, log) = (process.has_exited(), process.log());
        let panics = log.lines().find(|line| line.contains("panicked"));
        if exited || panics.is_some() {
            let what = format!("exited: {exited}; {}", panics.unwrap_or("no panic in its log"));
            report.findings.push(Finding { input: name.to_owned(), what });
        }
    }
}
