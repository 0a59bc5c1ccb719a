//! The protocol between worker and launcher. The worker first sends the command's pipes with one byte, then a
//! [`Launch`] as a line of JSON, then [`Request`]s, one byte each. The launcher sends [`Report`]s, one line of JSON
//! each.
//!
//! Both sides are always the same program, so the protocol needs no versions.

use std::ffi::OsString;
use std::io;

use serde::{Deserialize, Serialize};

/// The byte sent with the descriptors: a stream socket needs one.
pub(super) const PIPES_BYTE: u8 = b'h';

/// What the launcher starts. The pipes are sent separately, before it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Launch {
    pub(super) program: OsString,
    pub(super) arguments: Vec<OsString>,
    pub(super) directory: OsString,
    /// Whether the directory was writable when the worker started, and is expected to still be.
    pub(super) writable: bool,
    pub(super) environment: Vec<(OsString, OsString)>,
    /// The command's soft limit on open files; `None` if there is none.
    pub(super) open_files: Option<u64>,
    /// The descriptors at which it gets the pipes, in their order. Its standard input is empty unless it is among them.
    pub(super) descriptors: Vec<i32>,
    /// A directory that is deleted when no process is left and the worker has closed the socket.
    pub(super) delete: Option<OsString>,
}

/// What the launcher does with the processes it started. A closed socket means [`Request::Stop`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// TERM to the process group, and KILL to what is left after the grace period.
    Stop,
    /// KILL at once.
    Kill,
}

impl Request {
    pub(super) const fn to_byte(self) -> u8 {
        match self {
            Self::Stop => b's',
            Self::Kill => b'k',
        }
    }

    /// An unknown byte means stop: only a broken worker sends one.
    pub(super) const fn from_byte(byte: u8) -> Self {
        if byte == Self::Kill.to_byte() { Self::Kill } else { Self::Stop }
    }
}

/// What the launcher reports. The last two variants are final.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Report {
    /// The command is about to be started. It may have run even if no further report follows.
    Starting,
    /// The command could not be started, and has not run.
    NotStarted {
        why: String,
        /// The error number, if a system call failed.
        code: Option<i32>,
    },
    /// The command ended, and no process that it started is left.
    Ended(End),
}

impl Report {
    /// A start that failed in the system or in the launcher itself.
    pub(super) fn refused(why: String, error: &io::Error) -> Self {
        Self::NotStarted { why, code: error.raw_os_error() }
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) how: How,
    /// Whether it ended after a request to stop: its output is then not a result.
    pub(crate) stopped: bool,
}

/// By exit or by signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum How {
    /// With this exit code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}
