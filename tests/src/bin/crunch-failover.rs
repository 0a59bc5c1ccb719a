//! `crunch-failover`: failovers and moves of partitions under load, many times, and a check at the end.
//!
//! The exit code is 1 if a promise was broken; logs and ledgers are then kept in the directory that is printed.

#![expect(clippy::print_stdout, reason = "the report is the output of this program")]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use crunch_tests::failover::{Fault, Plan, run};

#[derive(Debug, Parser)]
#[command(name = "crunch-failover", version, about)]
struct Arguments {
    /// What happens.
    #[arg(value_enum)]
    fault: Fault,
    /// How often.
    #[arg(long, default_value_t = 20)]
    times: u32,
    /// The number of partitions.
    #[arg(long, default_value_t = 12)]
    partitions: u16,
    /// How long each client pauses after a job was accepted, in milliseconds.
    #[arg(long, default_value_t = 5)]
    pause_ms: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Arguments { fault, times, partitions, pause_ms } = Arguments::parse();
    let directory = tempfile::tempdir()?;
    let plan = Plan {
        fault,
        times,
        partitions,
        pause: Duration::from_millis(pause_ms),
        directory: directory.path().to_owned(),
    };
    let report = run(plan, |number| println!("{number} of {times}")).await?;
    println!("{report}");
    if report.violations.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("logs and ledgers: {}", directory.keep().display());
    Ok(ExitCode::FAILURE)
}
