//! `crunch-fuzz`: sends random and damaged inputs to the HTTP interface, to schemas and to `tasks.toml`, for a given
//! time.
//!
//! The exit code is 1 if there are findings. Limit its memory, e.g. by `ulimit -v`.

#![expect(clippy::print_stdout, reason = "the report is the output of this program")]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use crunch_tests::fuzz::{Plan, run};

#[derive(Debug, Parser)]
#[command(name = "crunch-fuzz", version, about)]
struct Arguments {
    /// The length of the run, in seconds.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// The seed of all random choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Do not check how long a validation takes: on a busy machine, or with a debug build.
    #[arg(long)]
    untimed: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Arguments { seconds, seed, untimed } = Arguments::parse();
    let time = Duration::from_secs(seconds);
    let report = run(Plan { inputs: u64::MAX, time, seed, timed: !untimed }).await?;
    println!("{report}");
    Ok(if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
