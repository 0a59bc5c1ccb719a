//! Random `tasks.toml` files: a worker starts with one, or refuses it with exit code 2 and a reason.

use std::process::{Output, Stdio};
use std::time::Duration;

use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use tokio::process::Command;
use tokio::time::timeout;

use super::draw::Draw;
use super::{Finding, Limits, MAX_FINDINGS, Plan, Report};
use crate::binary;

/// A worker that has not refused its file by then has accepted it.
const REFUSAL_LIMIT: Duration = Duration::from_millis(400);

const SETTINGS: &[&str] = &[
    "name",
    "description",
    "command",
    "accepts",
    "content_type",
    "queue",
    "max_payload",
    "max_result",
    "timeout",
    "max_attempts",
    "backoff",
    "priority",
    "retention",
    "start_within",
    "payload_schema",
    "result_schema",
    "indexes",
    "group",
    "inherit_env",
    "env",
    "directory",
    "cwd",
    "task",
    "mode",
    "processes",
    "retry_exit_codes",
    "x",
];
const SETTING_VALUES: &[&str] = &[
    "\"a\"",
    "\"/a/0/~1\"",
    "\"/~\"",
    "\"fuzz.a\"",
    "\"\"",
    "[\"cat\"]",
    "[]",
    "[\"\"]",
    "[\"nowhere/x\"]",
    "\"5s\"",
    "\"-1s\"",
    "\"9999999999999h\"",
    "0",
    "-1",
    "18446744073709551616",
    "1.5",
    "nan",
    "inf",
    "true",
    "1979-05-27",
    "{}",
    "{ a = \"b\" }",
    "{ \"=\" = \"\\u0000\" }",
    "\"tree.json\"",
    "\"/\"",
    "\"schema.json\"",
    "\"application/json\"",
    "[\"text/plain\", 1]",
    "\"urgent\"",
    "\"\\u0000\"",
    "'''x'''",
    "\"500ms\"",
    "\"7d\"",
    "67_108_865",
    "100",
    "101",
    "{ base = \"1s\", max = \"10m\" }",
    "{ base = \"10m\", max = \"1s\" }",
    "{ base = 1 }",
    "[\"PATH\", \"PATH\"]",
    "[\"CRUNCH_REDIS_URL\"]",
    "{ CRUNCH_X = \"1\", PATH = \"/\" }",
    "[\"sh\", \"-c\", \"\\u0000\"]",
    "[\"./schema.json\"]",
    "[\"/usr/bin/env\"]",
    "\".\"",
    "\"../..\"",
    "\"deep.json\"",
    "\"pattern.json\"",
    "\"broken.json\"",
    "\"/dev/zero\"",
    "[\"application/json\", \"application/json\"]",
    "[\"*/*\"]",
    "\"text/plain; charset=x\"",
    "\"Urgent\"",
    "[[1]]",
    "0x10",
    "1e400",
];

/// Files that may be named as schemas.
const SCHEMAS: [(&str, &str); 4] = [
    ("schema.json", "{\"type\":\"object\"}"),
    ("deep.json", "{\"allOf\":[{\"$ref\":\"#\"},{\"not\":{\"$ref\":\"#/allOf/0\"}}]}"),
    ("pattern.json", "{\"pattern\":\"[ab]*a[ab]{1000}c\"}"),
    ("broken.json", "{\"type\":"),
];

/// # Errors
/// If a file cannot be written.
pub(super) async fn run(plan: Plan, limits: Limits) -> anyhow::Result<Report> {
    let mut draw = Draw::new(Pcg64Mcg::seed_from_u64(plan.seed ^ 0x7ab1e5));
    let (directory, mut report) = (tempfile::tempdir()?, Report::default());
    let path = directory.path().join("tasks.toml");
    for (name, schema) in SCHEMAS {
        std::fs::write(directory.path().join(name), schema)?;
    }
    while limits.allow(report.tables.saturating_mul(10)) && report.findings.len() < MAX_FINDINGS {
        let bytes = table(&mut draw);
        std::fs::write(&path, &bytes)?;
        if let Err(what) = read_by_worker(&path).await {
            let input = format!("seed {}, file {}", plan.seed, report.tables);
            let what = format!("{what}\n{}", String::from_utf8_lossy(&bytes));
            report.findings.push(Finding { input, what });
        }
        report.tables += 1;
    }
    Ok(report)
}

async fn read_by_worker(path: &std::path::Path) -> Result<(), String> {
    let mut command = Command::new(binary("crunch-worker"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("CRUNCH_TASKS", path);
    // Nothing listens there: a worker that accepts its file waits for Redis.
    command.env("CRUNCH_REDIS_URL", "redis://127.0.0.1:1/").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(output) = timeout(REFUSAL_LIMIT, command.output()).await else { return Ok(()) };
    let Output { status, stderr, .. } = output.map_err(|error| error.to_string())?;
    let message = String::from_utf8_lossy(&stderr);
    if status.code() != Some(2) || message.contains("panicked") || message.trim().is_empty() {
        return Err(format!("{status}: {message}"));
    }
    Ok(())
}

fn table(draw: &mut Draw) -> Vec<u8> {
    let mut text = String::new();
    if draw.once_in(4) {
        text += draw.one(&["builtin = false\n", "builtin = 1\n", "x = 1\n", "[defaults]\n"]);
    }
    for number in 0..draw.below(4) {
        text += "[[task]]\n";
        if !draw.once_in(6) {
            text += &format!("name = \"fuzz.{number}\"\ncommand = [\"cat\"]\n");
        }
        for _ in 0..draw.below(5) {
            text += &format!("{} = {}\n", draw.one(SETTINGS), draw.one(SETTING_VALUES));
        }
    }
    if draw.once_in(4) { draw.damaged(text.into_bytes()) } else { text.into_bytes() }
}
