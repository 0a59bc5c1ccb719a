//! `crunch-bench`: measures Crunch on its own Redis, together with a control in the same run.
//!
//! The machines are noisy: every value is printed with its ratio to the control, and only ratios are comparable.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot continue fails at once")]
#![expect(clippy::print_stdout, reason = "the program prints results")]

mod bare_http;
mod children;
mod clients;
mod clock;
mod cluster;
mod control;
mod drain;
mod enqueue;
mod fleet;
mod groups;
mod growth;
mod histogram;
mod http;
mod latency;
mod load;
mod locks;
mod memory;
mod metrics;
mod persistence;
mod processors;
mod protocol;
mod schedules;
mod scrape;
mod session;
mod submit;
mod testbed;
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
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// How fast jobs are accepted, one by one and in batches.
    Enqueue(enqueue::Arguments),
    /// How fast workers whose tasks do nothing empty a queue, and what a job costs.
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
    /// What groups cost, how long quiet ones wait beside a large one, and how exactly rules are kept.
    Groups(groups::Arguments),
    /// What locks of unique jobs cost.
    Locks(locks::Arguments),
    /// How late the jobs of schedules are submitted.
    Schedules(schedules::Arguments),
    /// How fast tasks in Python run, beside handlers in Rust, one-shot commands and other task systems.
    Children(children::Arguments),
    /// What a job costs Redis on one node of a cluster and on several.
    Cluster(cluster::Arguments),
    /// What a fleet of idle workers costs a cluster.
    Fleet(fleet::Arguments),
    /// What it costs Redis that metrics are collected.
    Scrape(scrape::Arguments),
    /// What it costs to have everything on disk during a drain.
    #[command(name = "safety")]
    Persistence(persistence::Arguments),
    /// All of these, with default arguments.
    All,
    #[command(hide = true)]
    Worker(worker::Arguments),
    #[command(hide = true)]
    BareHttp(bare_http::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { options, action } = Arguments::parse();
    match &action {
        Action::Worker(arguments) => worker::run(arguments).await,
        Action::BareHttp(arguments) => bare_http::run(arguments),
        benchmark => return run(&options, benchmark).await,
    }
    ExitCode::SUCCESS
}

async fn run(options: &Options, benchmark: &Action) -> ExitCode {
    let mut session = Session::start();
    for _ in 0..options.runs {
        measure(&mut session, benchmark).await;
    }
    if session.finish(options) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn measure(session: &mut Session, benchmark: &Action) {
    match benchmark {
        Action::Enqueue(arguments) => enqueue::measure(session, arguments).await,
        Action::Drain(arguments) => drain::measure(session, arguments).await,
        Action::Protocol(arguments) => protocol::measure(session, arguments).await,
        Action::Latency(arguments) => latency::measure(session, arguments).await,
        Action::Submit(arguments) => submit::measure(session, arguments).await,
        Action::Http(arguments) => http::measure(session, arguments).await,
        Action::Memory(arguments) => memory::measure(session, arguments).await,
        Action::Load(arguments) => load::measure(session, arguments).await,
        Action::Waiters(arguments) => waiters::measure(session, arguments).await,
        Action::Growth(arguments) => growth::measure(session, arguments).await,
        Action::Groups(arguments) => groups::measure(session, arguments).await,
        Action::Locks(arguments) => locks::measure(session, arguments).await,
        Action::Schedules(arguments) => schedules::measure(session, arguments).await,
        Action::Children(arguments) => children::measure(session, arguments).await,
        Action::Cluster(arguments) => cluster::measure(session, arguments).await,
        Action::Fleet(arguments) => fleet::measure(session, arguments).await,
        Action::Scrape(arguments) => scrape::measure(session, arguments).await,
        Action::Persistence(arguments) => persistence::measure(session, arguments).await,
        Action::All => measure_all(session).await,
        Action::Worker(_) | Action::BareHttp(_) => {}
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
    groups::measure(session, &defaults()).await;
    locks::measure(session, &defaults()).await;
    schedules::measure(session, &defaults()).await;
    children::measure(session, &defaults()).await;
    cluster::measure(session, &defaults()).await;
    fleet::measure(session, &defaults()).await;
    scrape::measure(session, &defaults()).await;
    persistence::measure(session, &defaults()).await;
}

/// The default arguments of a benchmark.
fn defaults<A: Args>() -> A {
    let command = A::augment_args(Command::new("defaults").no_binary_name(true));
    let no_arguments: [&str; 0] = [];
    A::from_arg_matches(&command.get_matches_from(no_arguments))
        .expect("every argument has a default")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_benchmark_runs_without_arguments() {
        Arguments::command().debug_assert();
        let command = Arguments::command();
        let benchmarks = command.get_subcommands().filter(|benchmark| !benchmark.is_hide_set());
        for benchmark in benchmarks {
            let parsed = Arguments::try_parse_from(["crunch-bench", benchmark.get_name()]);
            assert!(parsed.is_ok(), "{}", benchmark.get_name());
        }
        let _: persistence::Arguments = defaults();
    }
}
