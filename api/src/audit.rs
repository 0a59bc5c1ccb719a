//! `crunch-api audit`: checks the consistency of the data in Redis, and repairs it with `--heal`.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crunch_common::Broker;
use crunch_common::broker::{self, Audit, AuditProgress, BrokerConfig, KeyPrefix, Tally};
use serde_json::{Value, json};

use crate::config::AuditOptions;
use crate::error::Error;

/// How often the progress on a terminal is updated.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Audits once and prints the report.
pub(crate) fn run(config: &BrokerConfig, options: &AuditOptions) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let started = Instant::now();
    let audit = runtime.block_on(audit(config, options))?;
    let report = match options.json {
        true => format!("{}\n", as_json(&audit, started.elapsed())),
        false => as_text(&audit, &config.key_prefix, started.elapsed()),
    };
    // A write error is ignored: standard output may be closed, and the exit code carries the result.
    let _ = std::io::stdout().write_all(report.as_bytes());
    if audit.is_clean() {
        return Ok(());
    }
    let advice = match options.heal {
        true if audit.has_more => "; there is more to heal than one run does, run it again",
        true => "; docs/operations.md describes what to do about each",
        false => "; `crunch-api audit --heal` repairs what it can",
    };
    Err(Error::Unclean { found: audit.found(), left: audit.left(), advice })
}

async fn audit(config: &BrokerConfig, options: &AuditOptions) -> Result<Audit, broker::Error> {
    let broker = Broker::new(config)?;
    let mut line = ProgressLine::new();
    let audited = broker.audit(|progress| line.update(progress)).await;
    line.clear();
    let mut audit = audited?;
    if options.heal {
        broker.heal(&mut audit).await?;
    }
    Ok(audit)
}

/// Shows the progress of the audit on standard error if that is a terminal.
struct ProgressLine {
    shown: bool,
    updated: Instant,
}

impl ProgressLine {
    fn new() -> Self {
        Self { shown: std::io::stderr().is_terminal(), updated: Instant::now() }
    }

    fn update(&mut self, progress: AuditProgress) {
        if self.shown && self.updated.elapsed() >= PROGRESS_INTERVAL {
            self.updated = Instant::now();
            let AuditProgress { keys, entries } = progress;
            let line =
                format!("\r\x1b[Kauditing: {keys} keys, {entries} entries of lists and sets");
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }

    fn clear(&self) {
        if self.shown {
            let _ = std::io::stderr().write_all(b"\r\x1b[K");
        }
    }
}

/// Formats the findings as a table, followed by a summary.
fn as_text(audit: &Audit, prefix: &KeyPrefix, took: Duration) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let (keys, jobs) = (audit.keys, audit.jobs);
    if !audit.findings.is_empty() {
        let _ = writeln!(text, "{:<12} {:>7} {:>7} {:>7}", "finding", "found", "healed", "left");
    }
    for (kind, tally) in &audit.findings {
        let Tally { found, healed, first } = tally;
        let _ = writeln!(
            text,
            "{kind:<12} {found:>7} {healed:>7} {:>7}  {}",
            tally.left(),
            kind.meaning()
        );
        for subject in first {
            let _ = writeln!(text, "    {subject}");
        }
        if *found > first.len() as u64 {
            let _ = writeln!(text, "    … and {} more", found - first.len() as u64);
        }
    }
    let (took, summary) = (took.as_secs_f64(), summary(audit));
    let _ = writeln!(text, "{prefix}: {keys} keys, {jobs} jobs, {took:.1} s: {summary}");
    if audit.undecided > 0 {
        let undecided = audit.undecided;
        let _ = writeln!(
            text,
            "{undecided} suspected findings about jobs deep inside long lists are undecided"
        );
    }
    text
}

fn summary(audit: &Audit) -> String {
    match (audit.found(), audit.left()) {
        (0, _) => "clean".to_owned(),
        (found, 0) => format!("clean again, {found} healed"),
        (found, left) => format!("not clean, {left} of {found} left"),
    }
}

fn as_json(audit: &Audit, took: Duration) -> Value {
    let finding = |tally: &Tally| {
        let Tally { found, healed, first } = tally;
        json!({ "found": found, "healed": healed, "left": tally.left(), "first": first })
    };
    let findings: serde_json::Map<_, _> = audit
        .findings
        .iter()
        .map(|(kind, tally)| (kind.as_str().to_owned(), finding(tally)))
        .collect();
    json!({
        "clean": audit.is_clean(),
        "found": audit.found(),
        "left": audit.left(),
        "undecided": audit.undecided,
        "keys": audit.keys,
        "jobs": audit.jobs,
        "duration_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        "findings": findings,
    })
}
