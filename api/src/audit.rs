//! `crunch-api audit`: looks whether everything in Redis is where it should be, and puts it right if asked to.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crunch_common::Broker;
use crunch_common::broker::{self, Audit, AuditProgress, BrokerConfig, KeyPrefix, Tally};
use serde_json::{Value, json};

use crate::config::AuditOptions;
use crate::error::Error;

/// How often a terminal is told how far it is.
const TOLD_EVERY: Duration = Duration::from_millis(200);

/// Audits once and prints the account.
pub(crate) fn run(config: &BrokerConfig, options: &AuditOptions) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let started = Instant::now();
    let audit = runtime.block_on(audit(config, options))?;
    let account = match options.json {
        true => format!("{}\n", as_json(&audit, started.elapsed())),
        false => as_text(&audit, &config.key_prefix, started.elapsed()),
    };
    // Nobody may be reading; the exit code tells it too.
    let _ = std::io::stdout().write_all(account.as_bytes());
    if audit.is_clean() {
        return Ok(());
    }
    let advice = match options.heal {
        true if audit.has_more => "; more was wrong than one run heals, so run it again",
        true => "; docs/operations.md tells what to do about each",
        false => "; `crunch-api audit --heal` puts right what it can",
    };
    Err(Error::Unclean { found: audit.found(), left: audit.left(), advice })
}

async fn audit(config: &BrokerConfig, options: &AuditOptions) -> Result<Audit, broker::Error> {
    let broker = Broker::new(config)?;
    let mut ticker = Ticker::new();
    let audited = broker.audit(|progress| ticker.tell(progress)).await;
    ticker.end();
    let mut audit = audited?;
    if options.heal {
        broker.heal(&mut audit).await?;
    }
    Ok(audit)
}

/// Tells a person at a terminal how far the audit is; nobody else.
struct Ticker {
    shown: bool,
    told: Instant,
}

impl Ticker {
    fn new() -> Self {
        Self { shown: std::io::stderr().is_terminal(), told: Instant::now() }
    }

    fn tell(&mut self, progress: AuditProgress) {
        if self.shown && self.told.elapsed() >= TOLD_EVERY {
            self.told = Instant::now();
            let AuditProgress { keys, entries } = progress;
            let line =
                format!("\r\x1b[Kauditing: {keys} keys, {entries} entries of lists and sets");
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }

    fn end(&self) {
        if self.shown {
            let _ = std::io::stderr().write_all(b"\r\x1b[K");
        }
    }
}

/// A table of what was found, and a line that sums it up.
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
            "{undecided} suspicions about jobs deep inside long lists are undecided"
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
