//! Errors that keep a worker from starting or end it, and their exit codes.

use std::net::SocketAddr;

use crunch_common::broker;
use crunch_common::config::Exit;

use crate::check_channel::CheckError;
use crate::commands::InvalidCommands;
use crate::process::OPEN_FILES;
use crate::registry::DuplicateTask;
use crate::run_task::RunError;

/// The reason why a worker did not start.
///
/// ```no_run
/// use crunch_worker::{Error, Worker};
///
/// async fn run() -> Result<(), Error> {
///     let worker = Worker::from_env()?.builtin_tasks();
///     // An I/O error is one too.
///     let _lock = std::fs::File::create("my-worker.lock")?;
///     worker.run().await
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is invalid, or help was requested.
    #[error("{}", .0.message)]
    Config(Exit),
    /// Two tasks have the same name.
    #[error(transparent)]
    DuplicateTask(#[from] DuplicateTask),
    /// A task or a queue is reserved for Crunch.
    #[error("{name:?} is reserved for Crunch: no worker can declare or serve it")]
    Reserved {
        /// Its name.
        name: String,
    },
    /// The file of commands cannot be used.
    #[error(transparent)]
    Commands(#[from] InvalidCommands),
    /// More slots than the limit of open files allows.
    #[error(
        "CRUNCH_WORKER_CONCURRENCY: {slots} slots cannot run commands: each takes {OPEN_FILES} open files, and the hard limit of {limit} has room for {room}; set it lower, or raise the limit (LimitNOFILE= in systemd, ulimits in compose, ulimit -Hn)"
    )]
    OpenFiles {
        /// The configured number of slots.
        slots: usize,
        /// The number of slots that could run commands.
        room: u64,
        /// The limit of open files.
        limit: u64,
    },
    /// The worker has nothing to run.
    #[error("no task is declared: there is nothing to run")]
    NoTasks,
    /// The configured export of spans and metrics cannot be started.
    #[error(transparent)]
    Otel(#[from] crunch_otel::Error),
    /// Redis cannot be used with its configuration.
    #[error(transparent)]
    Broker(#[from] broker::Error),
    /// The worker that `health` queried is not ready.
    #[error("not ready: {reason}")]
    Unready {
        /// Its response, or why there is none.
        reason: String,
    },
    /// The command `run` did not end with a result.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The command `check-channel` found a child that does not speak the channel.
    #[error(transparent)]
    CheckChannel(#[from] CheckError),
    /// The health port cannot be opened.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// The I/O error.
        source: std::io::Error,
    },
    /// The system refused a thread or a signal handler.
    #[error("system error: {0}")]
    System(#[from] std::io::Error),
}

impl Error {
    /// Returns the exit code: 2 for invalid configuration, 1 for all other errors, 0 for help; 130 if the command `run`
    /// was interrupted.
    ///
    /// ```
    /// assert_eq!(crunch_worker::Error::NoTasks.exit_code(), 2);
    /// ```
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(exit) => exit.code,
            Self::Run(error) => error.exit_code(),
            Self::CheckChannel(CheckError::Failed { .. }) => 1,
            Self::CheckChannel(CheckError::Call(_)) => 2,
            Self::DuplicateTask(_)
            | Self::Reserved { .. }
            | Self::Commands(_)
            | Self::OpenFiles { .. }
            | Self::NoTasks
            | Self::Otel(_) => 2,
            Self::Broker(_) | Self::Unready { .. } | Self::Listen { .. } | Self::System(_) => 1,
        }
    }

    /// Prints the error and returns the exit code, for the end of `main`.
    ///
    /// ```no_run
    /// use std::process::ExitCode;
    ///
    /// async fn run() -> Result<(), crunch_worker::Error> {
    ///     crunch_worker::Worker::from_env()?.builtin_tasks().run().await
    /// }
    ///
    /// #[tokio::main]
    /// async fn main() -> ExitCode {
    ///     run().await.map_or_else(|error| error.exit(), |()| ExitCode::SUCCESS)
    /// }
    /// ```
    #[must_use]
    pub fn exit(&self) -> std::process::ExitCode {
        self.print();
        self.exit_code().into()
    }

    #[expect(
        clippy::print_stdout,
        clippy::print_stderr,
        reason = "the output of a process that exits"
    )]
    pub(crate) fn print(&self) {
        match self {
            Self::Config(exit) if exit.code == 0 => print!("{}", exit.message),
            Self::Config(exit) => eprint!("{}", exit.message),
            // Each line begins with its file and line number, as compilers print them and editors parse them.
            Self::Commands(wrong @ InvalidCommands::Wrong { .. }) => eprintln!("{wrong}"),
            error => eprintln!("crunch-worker: {error}"),
        }
    }
}
