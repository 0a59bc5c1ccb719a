//! A worker with one handler of its own. The README shows this program.
#![expect(clippy::needless_pass_by_value, reason = "a handler owns what it is given")]

use crunch_worker::{Error, JobContext, Task, TaskError, Worker};

/// Counts the primes below `limit`.
fn count_primes(job: JobContext, limit: u32) -> Result<usize, TaskError> {
    job.progress(0.0, "counting");
    let is_prime = |n: &u32| (2..=n.isqrt()).all(|d| !n.is_multiple_of(d));
    Ok((2..limit).filter(is_prime).count())
}

async fn run() -> Result<(), Error> {
    Worker::from_env()?.task(Task::blocking("primes.count", count_primes)).run().await
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    run().await.map_or_else(|error| error.exit(), |()| std::process::ExitCode::SUCCESS)
}
