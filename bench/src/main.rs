//! `crunch-bench`: measures Crunch on its own Redis, together with a control in the same run.
//!
//! The machines are noisy: every figure is printed with its ratio to the control, and only ratios are comparable.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot continue fails at once")]
#![expect(clippy::print_stdout, reason = "the program prints figures")]

mod bare;
mod clock;
mod control;
mod crowd;
mod drain;
mod enqueue;
mod figures;
mod ground;
mod growth;
mod histogram;
mod http;
mod latency;
mod load;
mod memory;
mod processors;
mod protocol;
mod safety;
mod session;
mod submit;
mod usage;
mod waiters;
mod wire;
mod worker;

use std::process::ExitCode;

use clap::{Args, Command, Parser, Subcommand};

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
    /// How fast jobs are accepted, one by one and in batches.
    Enqueue(enqueue::Arguments),
    /// How fast workers that do nothing empty a queue, and what a job costs.
    Drain(drain::Arguments),
    /// What Redis spends on submissions and exchanges of several sizes.
    Protocol(protocol::Arguments),
    /// How soon jobs start and clients see results on an idle system, by broker and by HTTP.
    Latency(latency::Arguments),
    /// How fast jobs are accepted one by one, from one submitter and from many, in memory and on disk.
    Submit(submit::Arguments),
    /// How fast the API accepts and shows jobs, compared with a bare server.
    Http(http::Arguments),
    /// How much memory jobs take in Redis, and how much Crunch's processes take.
    Memory(memory::Arguments),
    /// How soon jobs start under a fixed load.
    Load(load::Arguments),
    /// What a very large number of waiting clients costs.
    Waiters(waiters::Arguments),
    /// What a job costs when one quantity grows and all others are constant.
    Growth(growth::Arguments),
    /// What it costs to have everything on disk during a drain.
    Safety(safety::Arguments),
    /// All of these, with default arguments.
    All,
    #[command(hide = true)]
    Worker(worker::Arguments),
    #[command(hide = true)]
    BareHttp(bare::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { options, what } = Arguments::parse();
    match &what {
        What::Worker(arguments) => worker::run(arguments).await,
        What::BareHttp(arguments) => bare::run(arguments),
        measured => return run(&options, measured).await,
    }
    ExitCode::SUCCESS
}

async fn run(options: &Options, what: &What) -> ExitCode {
    let mut session = Session::start();
    for _ in 0..options.runs {
        measure(&mut session, what).await;
    }
    if session.finish(options) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn measure(session: &mut Session, what: &What) {
    match what {
        What::Enqueue(arguments) => enqueue::measure(session, arguments).await,
        What::Drain(arguments) => drain::measure(session, arguments).await,
        What::Protocol(arguments) => protocol::measure(session, arguments).await,
        What::Latency(arguments) => latency::measure(session, arguments).await,
        What::Submit(arguments) => submit::measure(session, arguments).await,
        What::Http(arguments) => http::measure(session, arguments).await,
        What::Memory(arguments) => memory::measure(session, arguments).await,
        What::Load(arguments) => load::measure(session, arguments).await,
        What::Waiters(arguments) => waiters::measure(session, arguments).await,
        What::Growth(arguments) => growth::measure(session, arguments).await,
        What::Safety(arguments) => safety::measure(session, arguments).await,
        What::All => measure_all(session).await,
        What::Worker(_) | What::BareHttp(_) => {}
    }
}

async fn measure_all(session: &mut Session) {
    enqueue::measure(session, &defaults()).await;
    drain::measure(session, &defaults()).await;
    protocol::measure(session, &defaults()).await;
    latency::measure(session, &defaults()).await;
    submit::measure(session, &defaults()).await;
    http::measure(session, &defaults()).await;
    memory::measure(session, &defaults()).await;
    load::measure(session, &defaults()).await;
    waiters::measure(session, &defaults()).await;
    growth::measure(session, &defaults()).await;
    safety::measure(session, &defaults()).await;
}

/// The default arguments of a measure.
fn defaults<A: Args>() -> A {
    let command = A::augment_args(Command::new("defaults").no_binary_name(true));
    let nothing: [&str; 0] = [];
    A::from_arg_matches(&command.get_matches_from(nothing)).expect("every argument has a default")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_measure_can_be_taken_without_a_word() {
        Arguments::command().debug_assert();
        let measures = Arguments::command();
        let measures = measures.get_subcommands().filter(|measure| !measure.is_hide_set());
        for measure in measures {
            let parsed = Arguments::try_parse_from(["crunch-bench", measure.get_name()]);
            assert!(parsed.is_ok(), "{}", measure.get_name());
        }
        let _: safety::Arguments = defaults();
    }
}
