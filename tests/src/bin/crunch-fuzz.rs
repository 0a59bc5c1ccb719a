//! `crunch-fuzz`: what nobody would send, to the HTTP interface, to schemas and to `tasks.toml`, for as long as one likes.
//!
//! The exit code is 1 if something was found. Bound its memory, e.g. by `ulimit -v`.

#![expect(clippy::print_stdout, reason = "a report is what this program is for")]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use crunch_tests::fuzz::{Plan, run};

#[derive(Debug, Parser)]
#[command(name = "crunch-fuzz", version, about)]
struct Arguments {
    /// How long, in seconds.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// What chance starts from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Do not judge how long a check takes: on a busy machine, or with a debug build.
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
