//! `crunch-bench`: measures Crunch on a Redis of its own, beside a control taken in the same run.
//!
//! These machines are noisy: every figure is printed with its ratio to the control, and only ratios are worth comparing.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on fails where it stands")]
#![expect(clippy::print_stdout, reason = "figures are what this program is for")]

mod figures;
mod latency;
mod submit;
mod waiters;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "crunch-bench", version, about)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// How soon jobs start on an idle system, in round trips of Redis.
    Latency(latency::Arguments),
    /// How fast jobs are taken one by one, by one submitter and by many.
    Submit(submit::Arguments),
    /// What very many waiting clients cost.
    Waiters(waiters::Arguments),
}

#[tokio::main]
async fn main() {
    match Arguments::parse().what {
        What::Latency(arguments) => latency::measure(&arguments).await,
        What::Submit(arguments) => submit::measure(&arguments).await,
        What::Waiters(arguments) => waiters::measure(&arguments).await,
    }
}
