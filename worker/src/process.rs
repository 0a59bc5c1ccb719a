//! Runs commands as handlers: work in any language, in a separate process.
//!
//! ```text
//! worker ──socket──► launcher ──parent of──► command ──► its descendants
//!    └────────────────── four pipes ────────────┘
//! ```
//!
//! Between worker and command is the *launcher* (`launcher.rs`): this program, started once more. It starts the command
//! in its own process group, adopts all processes that the command leaves behind, and ends all of them when the command
//! has ended, when the worker requests it (`launched.rs`), or when the socket to the worker closes. A socket closes
//! however the worker dies, so no process survives it; and it closes when a handler's future is dropped, so no process
//! survives that either.
//!
//! `oneshot.rs` is the handler: one process per job. The long-lived children of a server are launched in the same way
//! (`server.rs`). `docs/commands.md` is the contract with the authors of both.

mod children;
mod ending;
mod events;
mod fault;
mod launched;
mod launcher;
mod lines;
mod oneshot;
mod pipes;
mod protocol;
mod session;

use std::ffi::OsString;
use std::path::PathBuf;

pub(crate) use children::children_of;
pub(crate) use ending::{describe_status, name_of, with_last_lines};
pub(crate) use fault::not_started;
pub(crate) use launched::{Ending, Launched, Program};
pub(crate) use launcher::{FIRST_FD, become_launcher_if_marked, temporary_directory};
pub(crate) use lines::{Lines, Tail, each_line};
pub(crate) use oneshot::{MAX_LOG_LINE_BYTES, Oneshot};
pub(crate) use protocol::{End, How, Request};

/// Names of the environment variables that a worker sets: for a command about its job, for a child of a server about its
/// channel.
pub(crate) mod variable {
    /// The job's id.
    pub(crate) const JOB_ID: &str = "CRUNCH_JOB_ID";
    /// The task's name.
    pub(crate) const TASK: &str = "CRUNCH_TASK";
    /// Which attempt this is, from 1.
    pub(crate) const ATTEMPT: &str = "CRUNCH_ATTEMPT";
    /// The attempt's fencing token.
    pub(crate) const EPOCH: &str = "CRUNCH_EPOCH";
    /// When the attempt will be stopped, in Unix milliseconds.
    pub(crate) const DEADLINE_MS: &str = "CRUNCH_DEADLINE_MS";
    /// The content type of the payload.
    pub(crate) const CONTENT_TYPE: &str = "CRUNCH_CONTENT_TYPE";
    /// The client's labels, as a JSON object.
    pub(crate) const METADATA: &str = "CRUNCH_METADATA";
    /// The descriptor on which events are received.
    pub(crate) const EVENTS_FD: &str = "CRUNCH_EVENTS_FD";
    /// The trace the job belongs to, as OpenTelemetry's tools read it; not set if it belongs to none.
    pub(crate) const TRACEPARENT: &str = "TRACEPARENT";
    /// The state of the trace, which accompanies it.
    pub(crate) const TRACESTATE: &str = "TRACESTATE";

    /// The descriptor from which the child of a server reads messages.
    pub(crate) const IN_FD: &str = "CRUNCH_IN_FD";
    /// The descriptor to which it writes them.
    pub(crate) const OUT_FD: &str = "CRUNCH_OUT_FD";
    /// Its directory for large values.
    pub(crate) const DIRECTORY: &str = "CRUNCH_DIR";
    /// How many jobs it should run at once, if that is configured.
    pub(crate) const CONCURRENCY: &str = "CRUNCH_CONCURRENCY";

    /// All of these names.
    pub(crate) const ALL: [&str; 14] = [
        JOB_ID,
        TASK,
        ATTEMPT,
        EPOCH,
        DEADLINE_MS,
        CONTENT_TYPE,
        METADATA,
        EVENTS_FD,
        TRACEPARENT,
        TRACESTATE,
        IN_FD,
        OUT_FD,
        DIRECTORY,
        CONCURRENCY,
    ];
}

/// Open files that a running command, or a child of a server, costs its worker: its socket and four pipes.
pub(crate) const OPEN_FILES: u64 = pipes::PIPES as u64 + 1;

/// A program to run, found and checked when the worker started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    /// An absolute path, or a name to look up in the `PATH` of `environment`.
    pub(crate) program: OsString,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) directory: PathBuf,
    /// Whether the directory was writable then.
    pub(crate) writable: bool,
    /// The environment without the variables that describe the job.
    pub(crate) environment: Vec<(OsString, OsString)>,
}

#[cfg(test)]
mod tests;
