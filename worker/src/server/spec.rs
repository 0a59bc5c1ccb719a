//! What `tasks.toml` says about a server.

use std::time::Duration;

use super::declaration::FileValues;
use super::memory::OomCounter;
use crate::process::Command;

/// How long an idle child may be silent. Not configurable: tests use shorter times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Silence {
    /// An idle child is asked whether it lives after this time. Default 30 s.
    pub(crate) ping_after: Duration,
    /// It must answer within this time: it has nothing else to do. Default 10 s.
    pub(crate) pong_within: Duration,
}

impl Default for Silence {
    fn default() -> Self {
        Self { ping_after: Duration::from_secs(30), pong_within: Duration::from_secs(10) }
    }
}

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
    /// When a silent child is asked whether it lives, and how long it may take to answer.
    pub(crate) silence: Silence,
    /// What shows that the kernel killed a child for lack of memory. Not configurable: tests use another one.
    pub(crate) oom_counter: OomCounter,
    /// Values for its tasks, which win over those that the children declare.
    pub(crate) tasks: FileValues,
}
