//! What `tasks.toml` says about a server.

use std::time::Duration;

use super::declaration::FileValues;
use crate::process::Command;

/// One `[[server]]`.
#[derive(Debug, Clone)]
pub(crate) struct ServerSpec {
    /// For logs and operators.
    pub(crate) name: String,
    pub(crate) command: Command,
    /// How many children are kept.
    pub(crate) processes: usize,
    /// Passed to the children.
    pub(crate) concurrency: Option<u32>,
    /// A child that has run this many jobs is replaced.
    pub(crate) max_jobs: Option<u64>,
    /// A child that uses more bytes of memory is replaced.
    pub(crate) max_memory: Option<u64>,
    /// How long a child may take until its hello.
    pub(crate) start_timeout: Duration,
    /// A child that was idle for this long ends, unless it is the last one.
    pub(crate) idle_exit: Option<Duration>,
    /// Values for its tasks, which win over those that the children declare.
    pub(crate) tasks: FileValues,
}
