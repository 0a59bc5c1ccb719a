//! `crunch-chaos`: very many jobs on a system in which everything breaks, and a judgement at the end.
//!
//! The exit code is 1 if a promise was broken; logs and ledgers are then left where the report says.

#![expect(clippy::print_stdout, reason = "a report is what this program is for")]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use crunch_tests::chaos::{Plan, run};

#[derive(Debug, Parser)]
#[command(name = "crunch-chaos", version, about)]
struct Arguments {
    /// How many jobs.
    #[arg(long, default_value_t = 200_000)]
    jobs: u64,
    /// How many faults, spread over the jobs.
    #[arg(long, default_value_t = 500)]
    faults: u64,
    /// What chance starts from: the same seed breaks the same things in the same order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The lease of the workers, in milliseconds. Below 4000 a short outage of Redis may cost second runs.
    #[arg(long, default_value_t = 4000)]
    lease_ms: u64,
    /// How many workers.
    #[arg(long, default_value_t = 4)]
    workers: usize,
    /// How many APIs.
    #[arg(long, default_value_t = 2)]
    apis: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Arguments { jobs, faults, seed, lease_ms, workers, apis } = Arguments::parse();
    let directory = tempfile::tempdir()?;
    let report = run(Plan {
        jobs,
        faults,
        seed,
        lease: Duration::from_millis(lease_ms),
        workers,
        apis,
        directory: directory.path().to_owned(),
    })
    .await?;
    println!("{report}");
    if report.violations.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("logs and ledgers are in {}", directory.keep().display());
    Ok(ExitCode::FAILURE)
}
