//! The fuzz run: what nobody would send, sent for as long as one likes, to real processes.
//!
//! Three roads lead in from outside: HTTP, the schemas of tasks, and `tasks.toml`. Each gets inputs that are drawn by chance
//! from what it knows, and then damaged. A finding is an input after which a process is gone, panicked, gave no answer, answered
//! with what the contract does not know, took too long, or kept memory. The seed and the number of the input repeat it.

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

/// What a run consists of.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How many requests, schemas with values, and files. A run ends with whichever comes first, this or `time`.
    pub inputs: u64,
    /// How long, at most.
    pub time: Duration,
    /// What chance starts from.
    pub seed: u64,
    /// Whether the time that checking a value takes is judged: not on a machine that does other things.
    pub timed: bool,
}

/// An input, and what was wrong with what became of it.
#[derive(Debug)]
pub struct Finding {
    /// Which road, and the number of the input there.
    pub input: String,
    /// What was wrong.
    pub what: String,
}

/// What a run showed.
#[derive(Debug, Default)]
pub struct Report {
    /// How many requests were sent.
    pub requests: u64,
    /// How many schemas were compiled or refused.
    pub schemas: u64,
    /// How many files were read by a worker.
    pub tables: u64,
    /// The longest check of a value against a schema.
    pub slowest_check: Duration,
    /// How much memory each process had, in equal parts of the run and at its end, in KiB.
    pub memory: Vec<(String, Vec<u64>)>,
    /// Everything that must not be.
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

/// How many connections send requests at once.
const CLIENTS: u64 = 4;
/// More findings say nothing new.
const ENOUGH: usize = 20;

/// Whether a road is to go on.
#[derive(Debug, Clone, Copy)]
struct Until {
    inputs: u64,
    end: Instant,
}

impl Until {
    fn goes_on(self, done: u64) -> bool {
        done < self.inputs && Instant::now() < self.end
    }
}

/// Runs the plan.
///
/// # Errors
/// If the processes cannot be started.
pub async fn run(plan: Plan) -> anyhow::Result<Report> {
    let until = Until { inputs: plan.inputs, end: Instant::now() + plan.time };
    let mut report = Report::default();
    let schemas = tokio::task::spawn_blocking(move || schemas::run(plan, until));
    let http = over_http(plan, until, &mut report);
    let (schemas, (), tables) = tokio::join!(schemas, http, tables::run(plan, until));
    for part in [schemas?, tables?] {
        report.schemas += part.schemas;
        report.tables += part.tables;
        report.slowest_check = report.slowest_check.max(part.slowest_check);
        report.findings.extend(part.findings);
    }
    Ok(report)
}

/// An API and a worker, with tasks whose schemas are of every kind.
async fn stage() -> (Stack, Api, Worker) {
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
    Stack::knows(&api, "fuzz.tree").await;
    (stack, api, worker)
}

async fn over_http(plan: Plan, until: Until, report: &mut Report) {
    let (_stack, mut api, mut worker) = stage().await;
    let (sent, ids) = (AtomicU64::new(0), Arc::new(Ids::default()));
    let mut memory = Memory::of([("api", api.process.pid()), ("worker", worker.pid())]);
    let client = async |number: u64| {
        let mut draw = Draw::new(Pcg64Mcg::seed_from_u64(plan.seed.wrapping_add(number)));
        let (mut findings, mut at) = (Vec::new(), 0);
        while until.goes_on(sent.load(Ordering::Relaxed)) && findings.len() < ENOUGH {
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
    let findings = memory.watched_while(until, &sent, clients).await;
    report.findings.extend(findings.into_iter().flatten());
    report.requests = sent.into_inner();
    memory.judge(report);
    for (name, process) in [("api", &mut api.process), ("worker", &mut worker)] {
        let (gone, log) = (process.has_exited(), process.log());
        let panics = log.lines().find(|line| line.contains("panicked"));
        if gone || panics.is_some() {
            let what = format!("exited: {gone}; {}", panics.unwrap_or("no panic in its log"));
            report.findings.push(Finding { input: name.to_owned(), what });
        }
    }
}
