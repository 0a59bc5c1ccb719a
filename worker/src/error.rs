//! Why a worker did not start or ended, and with which code.

use std::net::SocketAddr;

use crunch_common::broker;
use crunch_common::config::Exit;

use crate::commands::InvalidCommands;
use crate::process::OPEN_FILES;
use crate::registry::DuplicateTask;

/// Why a worker did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is wrong, or help was asked for.
    #[error("{}", .0.message)]
    Config(Exit),
    /// Two tasks of one name.
    #[error(transparent)]
    DuplicateTask(#[from] DuplicateTask),
    /// A task or a queue that is Crunch's own.
    #[error("{name:?} is Crunch's own: no worker can declare or serve it")]
    Reserved {
        /// Its name.
        name: String,
    },
    /// The file of commands cannot be used.
    #[error(transparent)]
    Commands(#[from] InvalidCommands),
    /// More slots than there may be open files for.
    #[error(
        "CRUNCH_WORKER_CONCURRENCY: {slots} slots cannot run commands: each takes {OPEN_FILES} open files, and the hard limit of {limit} has room for {room}; set it lower, or raise the limit (LimitNOFILE= in systemd, ulimits in compose, ulimit -Hn)"
    )]
    OpenFiles {
        /// How many slots there were to be.
        slots: usize,
        /// How many could run commands.
        room: u64,
        /// How many files may be open.
        limit: u64,
    },
    /// There is nothing this worker could do.
    #[error("no task is declared: there is nothing to run")]
    NoTasks,
    /// Redis cannot be used as it is set up.
    #[error(transparent)]
    Broker(#[from] broker::Error),
    /// Another worker was asked whether it is ready, and it is not.
    #[error("not ready: {reason}")]
    Unready {
        /// What it answered, or why it could not be asked.
        reason: String,
    },
    /// The health port cannot be had.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// Where.
        addr: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The machine refused a thread or a signal handler.
    #[error("the system refused: {0}")]
    System(#[from] std::io::Error),
}

impl Error {
    /// The code to exit with: 2 for wrong configuration, 1 for everything else, 0 for help.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(exit) => exit.code,
            Self::DuplicateTask(_)
            | Self::Reserved { .. }
            | Self::Commands(_)
            | Self::OpenFiles { .. }
            | Self::NoTasks => 2,
            Self::Broker(_) | Self::Unready { .. } | Self::Listen { .. } | Self::System(_) => 1,
        }
    }

    /// Tells why, and with which code to exit: for the end of `main`.
    #[must_use]
    pub fn exit(&self) -> std::process::ExitCode {
        self.tell();
        self.exit_code().into()
    }

    #[expect(clippy::print_stdout, clippy::print_stderr, reason = "the last words of a process")]
    pub(crate) fn tell(&self) {
        match self {
            Self::Config(exit) if exit.code == 0 => print!("{}", exit.message),
            Self::Config(exit) => eprint!("{}", exit.message),
            // Each line begins with its file and number, as compilers write them and editors read them.
            Self::Commands(wrong @ InvalidCommands::Wrong { .. }) => eprintln!("{wrong}"),
            error => eprintln!("crunch-worker: {error}"),
        }
    }
}
