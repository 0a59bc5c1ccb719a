//! The commands, and what is common to all of them.

mod act;
mod actions;
mod bulk;
mod context;
mod doctor;
mod errors;
mod filter;
mod get;
mod groups;
mod history;
mod jobs;
mod limit;
mod limits;
mod list;
mod logs;
mod queues;
mod result;
mod schedules;
mod shell;
mod submit;
mod summary;
mod system;
mod tasks;
mod top;
mod wait;
mod why;
mod workers;

use clap::{Parser, Subcommand};

use crate::client::Client;
use crate::config::{ConnectionArguments, Target};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Output;

/// Submits, follows and operates jobs of a Crunch API.
#[derive(Debug, Parser)]
#[command(name = "crunch", version, disable_help_subcommand = true, arg_required_else_help = true,
    after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,

    /// Print the API's own documents: one JSON document per line
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(flatten)]
    connection: ConnectionArguments,
}

impl Arguments {
    /// Whether the command does more than to print: then it is done to its end, and its exit code says how that was,
    /// although nobody reads what it prints any more.
    pub(crate) fn acts(&self) -> bool {
        match self.command {
            Command::Submit(_)
            | Command::Wait(_)
            | Command::Cancel(_)
            | Command::Retry(_)
            | Command::Delete(_)
            | Command::Pause(_)
            | Command::Resume(_)
            | Command::Purge(_)
            | Command::Redrive(_)
            | Command::Groups(_)
            | Command::Limit(_)
            | Command::Limits(_)
            | Command::Schedules(_)
            | Command::Workers(_)
            | Command::Doctor
            | Command::Context(_) => true,
            Command::Get(_)
            | Command::Why(_)
            | Command::Result(_)
            | Command::Payload(_)
            | Command::Attempts(_)
            | Command::Deliveries(_)
            | Command::Logs(_)
            | Command::Events(_)
            | Command::Jobs(_)
            | Command::Summary(_)
            | Command::Queues(_)
            | Command::Errors(_)
            | Command::History(_)
            | Command::Actions(_)
            | Command::Tasks(_)
            | Command::System
            | Command::Top
            | Command::Completion(_) => false,
        }
    }
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the job failed or was canceled; doctor found a fault
  2  wrong usage, or a file that cannot be used
  3  not found
  4  refused: the key is missing, wrong, or has too few rights
  5  invalid, or in conflict with the state of a job
  6  the API is away
  7  the time to wait ran out";

#[derive(Debug, Subcommand)]
enum Command {
    /// Submit a job, or a job for each line of a file
    Submit(Box<submit::Arguments>),
    /// Show jobs
    Get(get::Arguments),
    /// Explain what jobs wait for
    Why(why::Arguments),
    /// Wait until jobs have ended
    Wait(wait::Arguments),
    /// Print the result of a job, as it is
    Result(result::Arguments),
    /// Print the payload of a job, as it was submitted
    Payload(result::Arguments),
    /// Show the attempts of a job
    Attempts(get::OneJob),
    /// Show the deliveries of a job's webhook
    Deliveries(get::OneJob),
    /// Print the log of a job
    Logs(logs::Arguments),
    /// Print the events of a job as they occur, until it has ended
    Events(get::OneJob),
    /// Cancel jobs, by id or by filter
    Cancel(act::Arguments),
    /// Run failed or canceled jobs again, by id or by filter
    Retry(act::Arguments),
    /// Delete ended jobs, by id or by filter
    Delete(act::Arguments),
    /// List jobs
    Jobs(jobs::Arguments),
    /// Count the jobs that filters find, by a label and by their errors, or show those that ran longest
    Summary(summary::Arguments),
    /// List queues, or show one
    Queues(queues::Arguments),
    /// List the groups of a queue, or set the rule of one
    Groups(Box<groups::Arguments>),
    /// Show the limit of a queue, or set how many of its jobs run and start
    Limit(limit::Arguments),
    /// List the limits that queues share, show or set one, or remove it
    Limits(limits::Arguments),
    /// List schedules, show or create one, or pause, resume, run or remove it
    Schedules(schedules::Arguments),
    /// Pause a queue: its jobs are accepted but not claimed
    Pause(queues::OneQueue),
    /// Resume a paused queue
    Resume(queues::OneQueue),
    /// Cancel all queued and scheduled jobs of a queue
    Purge(queues::PurgeArguments),
    /// Run the failed jobs of a queue again
    Redrive(queues::RedriveArguments),
    /// List failures by their kind, or show one
    Errors(errors::Arguments),
    /// Show what happened over time: rates, failures and durations, or how deep queues were
    History(history::Arguments),
    /// List workers, or have one be quiet, stop or go on
    Workers(workers::Arguments),
    /// List what operators did
    Actions(actions::Arguments),
    /// List tasks, or show one with its schemas
    Tasks(tasks::Arguments),
    /// Show the nodes of Redis
    System,
    /// Watch queues, running jobs, workers and errors, and act on them
    Top,
    /// Find what is wrong with the set-up
    Doctor,
    /// Name APIs, and select one
    #[command(subcommand)]
    Context(context::Command),
    /// Print the script with which a shell completes commands
    Completion(shell::Arguments),
}

/// What a command works with.
#[derive(Debug)]
struct Session<'a> {
    client: Client,
    output: &'a mut Output,
}

/// Runs a command.
pub(crate) fn run(arguments: Arguments, output: &mut Output) -> Result<Exit, Error> {
    let Arguments { command, connection, .. } = arguments;
    // These use no API.
    let command = match command {
        Command::Context(command) => return context::run(&command, &connection, output),
        Command::Completion(arguments) => return shell::run(&arguments, output),
        Command::Doctor => return doctor::run(&connection, output),
        command => command,
    };
    let client = Client::new(Target::of(&connection)?, connection.retry_for()?)?;
    run_with_api(command, Session { client, output })
}

fn run_with_api(command: Command, session: Session<'_>) -> Result<Exit, Error> {
    let session = &mut { session };
    match command {
        Command::Submit(arguments) => submit::run(session, &arguments),
        Command::Get(arguments) => get::run(session, &arguments),
        Command::Why(arguments) => why::run(session, &arguments),
        Command::Wait(arguments) => wait::run(session, &arguments),
        Command::Result(arguments) => result::result(session, &arguments),
        Command::Payload(arguments) => result::payload(session, &arguments),
        Command::Attempts(arguments) => get::attempts(session, &arguments),
        Command::Deliveries(arguments) => get::deliveries(session, &arguments),
        Command::Logs(arguments) => logs::run(session, &arguments),
        Command::Events(arguments) => logs::events(session, &arguments),
        Command::Cancel(arguments) => act::run(session, &arguments, bulk::Verb::Cancel),
        Command::Retry(arguments) => act::run(session, &arguments, bulk::Verb::Retry),
        Command::Delete(arguments) => act::run(session, &arguments, bulk::Verb::Delete),
        Command::Jobs(arguments) => jobs::run(session, &arguments),
        Command::Summary(arguments) => summary::run(session, &arguments),
        Command::Queues(arguments) => queues::run(session, &arguments),
        Command::Groups(arguments) => groups::run(session, &arguments),
        Command::Limit(arguments) => limit::run(session, &arguments),
        Command::Limits(arguments) => limits::run(session, &arguments),
        Command::Schedules(arguments) => schedules::run(session, &arguments),
        Command::Pause(arguments) => queues::switch(session, &arguments, "pause"),
        Command::Resume(arguments) => queues::switch(session, &arguments, "resume"),
        Command::Purge(arguments) => queues::purge(session, &arguments),
        Command::Redrive(arguments) => queues::redrive(session, &arguments),
        Command::Errors(arguments) => errors::run(session, &arguments),
        Command::History(arguments) => history::run(session, &arguments),
        Command::Workers(arguments) => workers::run(session, &arguments),
        Command::Actions(arguments) => actions::run(session, &arguments),
        Command::Tasks(arguments) => tasks::run(session, &arguments),
        Command::System => system::run(session),
        Command::Top => top::run(session),
        // Those that use no API are done.
        Command::Doctor | Command::Context(_) | Command::Completion(_) => Ok(Exit::Done),
    }
}
