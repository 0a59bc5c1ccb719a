//! `crunch-chaos`: very many jobs on a system under faults of every kind, and a check at the end.
//!
//! The exit code is 1 if a promise was broken; logs and ledgers are then kept in the directory that is printed.

#![expect(clippy::print_stdout, reason = "the report is the output of this program")]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use crunch_tests::chaos::{Plan, run};

#[derive(Debug, Parser)]
#[command(name = "crunch-chaos", version, about)]
struct Arguments {
    /// The number of jobs.
    #[arg(long, default_value_t = 200_000)]
    jobs: u64,
    /// The number of faults, spread over the jobs.
    #[arg(long, default_value_t = 500)]
    faults: u64,
    /// The seed of all random choices: the same seed injects the same faults in the same order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The lease of the workers, in milliseconds. Below 4000 a short outage of Redis may cost second runs.
    #[arg(long, default_value_t = 4000)]
    lease_ms: u64,
    /// The number of workers without a server.
    #[arg(long, default_value_t = 4)]
    workers: usize,
    /// The number of workers that have a server too.
    #[arg(long, default_value_t = 2)]
    server_workers: usize,
    /// The number of APIs.
    #[arg(long, default_value_t = 2)]
    apis: usize,
    /// The number of partitions.
    #[arg(long, default_value_t = 1)]
    partitions: u16,
    /// The number of nodes of a Redis Cluster; 0 for a Redis that is none.
    #[arg(long, default_value_t = 0)]
    nodes: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Arguments {
        jobs,
        faults,
        seed,
        lease_ms,
        workers,
        server_workers,
        apis,
        partitions,
        nodes,
    } = Arguments::parse();
    let directory = tempfile::tempdir()?;
    let report = run(Plan {
        jobs,
        faults,
        seed,
        lease: Duration::from_millis(lease_ms),
        workers,
        server_workers,
        apis,
        partitions,
        nodes,
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
