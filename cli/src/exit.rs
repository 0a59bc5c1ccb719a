//! The exit codes: what a script can decide on without reading messages.

use std::process::ExitCode;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Everything was done.
    Done = 0,
    /// The job failed or was canceled; or `doctor` found a fault.
    Failed = 1,
    /// The command line, a file or the configuration is wrong.
    Usage = 2,
    /// There is no such job, task, queue or kind of error.
    NotFound = 3,
    /// The API wants another key.
    Refused = 4,
    /// The API rejects the request as invalid or in conflict with the state of a job.
    Invalid = 5,
    /// The API did not answer, or cannot serve requests, for as long as they are repeated.
    Away = 6,
    /// The time of `--wait` or `--timeout` ran out.
    TimedOut = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
