//! What worker and launcher say to each other. First the worker hands over the command's pipes with one byte, then a
//! [`Launch`] as a line of JSON; after that it sends [`Order`]s, a byte each. The launcher answers with
//! [`Report`]s, a line of JSON each.
//!
//! Both ends are always the same program, so nothing here needs versions.

use std::ffi::OsString;
use std::io;

use serde::{Deserialize, Serialize};

/// The byte that carries the descriptors: a stream socket needs one.
pub(super) const HANDOVER: u8 = b'h';

/// What the launcher is to start. Its pipes come beside it, in the order of [`super::pipes::Pipes`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Launch {
    pub(super) program: OsString,
    pub(super) arguments: Vec<OsString>,
    pub(super) directory: OsString,
    /// Whether the directory could be written to when the worker started, and is expected to still be.
    pub(super) writable: bool,
    pub(super) environment: Vec<(OsString, OsString)>,
    /// The soft limit on open files that it gets; nothing if there is none.
    pub(super) open_files: Option<u64>,
}

/// What the launcher is to do with what it started. A closed socket means [`Order::Stop`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// TERM to the group, and KILL to what is left after the grace.
    Stop,
    /// KILL at once.
    Kill,
}

impl Order {
    pub(super) const fn to_byte(self) -> u8 {
        match self {
            Self::Stop => b's',
            Self::Kill => b'k',
        }
    }

    /// An unknown byte stops: it cannot come from a worker that is well.
    pub(super) const fn from_byte(byte: u8) -> Self {
        if byte == Self::Kill.to_byte() { Self::Kill } else { Self::Stop }
    }
}

/// What the launcher reports. One of the last two ends it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Report {
    /// The command is about to be started. It may have run even if nothing else is reported.
    Starting,
    /// The command could not be started, and has not run.
    NotStarted {
        why: String,
        /// The number of the system's error, if it was the system that refused.
        code: Option<i32>,
    },
    /// The command ended, and nothing that it started is left.
    Ended(End),
}

impl Report {
    /// What the system, or the launcher itself, refused.
    pub(super) fn refused(why: String, error: &io::Error) -> Self {
        Self::NotStarted { why, code: error.raw_os_error() }
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) how: How,
    /// Whether it had been told to end before: what it left is then of no worth.
    pub(super) stopped: bool,
}

/// By itself or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum How {
    /// With that exit code.
    Exited(i32),
    /// By that signal.
    Killed(i32),
}
