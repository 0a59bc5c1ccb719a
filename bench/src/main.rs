//! `crunch-bench`: measures Crunch on a Redis of its own, beside a control taken in the same run.
//!
//! These machines are noisy: every figure is printed with its ratio to the control, and only ratios are worth comparing.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on fails where it stands")]
#![expect(clippy::print_stdout, reason = "figures are what this program is for")]

mod control;
mod drain;
mod enqueue;
mod figures;
mod ground;
mod latency;
mod protocol;
mod session;
mod submit;
mod usage;
mod waiters;
mod worker;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use session::{Options, Session};

#[derive(Parser)]
#[command(name = "crunch-bench", version, about)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// How fast jobs are taken, one by one and in batches.
    Enqueue(enqueue::Arguments),
    /// How fast workers that do nothing empty a queue, and what a job costs.
    Drain(drain::Arguments),
    /// What Redis spends on submissions and exchanges of several sizes.
    Protocol(protocol::Arguments),
    /// How soon jobs start on an idle system, in round trips of Redis.
    Latency(latency::Arguments),
    /// How fast jobs are taken one by one, by one submitter and by many.
    Submit(submit::Arguments),
    /// What very many waiting clients cost.
    Waiters(waiters::Arguments),
    #[command(hide = true)]
    Worker(worker::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { options, what } = Arguments::parse();
    if let What::Worker(arguments) = &what {
        worker::run(arguments).await;
        return ExitCode::SUCCESS;
    }
    let mut session = Session::start();
    for _ in 0..options.runs {
        measure(&mut session, &what).await;
    }
    if session.finish(&options) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn measure(session: &mut Session, what: &What) {
    match what {
        What::Enqueue(arguments) => enqueue::measure(session, arguments).await,
        What::Drain(arguments) => drain::measure(session, arguments).await,
        What::Protocol(arguments) => protocol::measure(session, arguments).await,
        What::Latency(arguments) => latency::measure(arguments).await,
        What::Submit(arguments) => submit::measure(arguments).await,
        What::Waiters(arguments) => waiters::measure(arguments).await,
        What::Worker(_) => {}
    }
}
