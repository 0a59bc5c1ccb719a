//! Servers: pools of long-lived processes that run jobs. `docs/commands.md` specifies how worker and child talk.
//!
//! | question | file |
//! |---|---|
//! | What may a message be? | `message.rs`; how a stream is split into messages, `frame.rs` |
//! | How is a child started, listened to, and why did it end? | `life.rs` |
//! | Which jobs does a child run, and where do their answers go? | `child.rs` |
//! | How is what a worker writes kept until a child reads it? | `outbox.rs`; what it prints, `output.rs` |
//! | When is a child started or replaced, and which one gets a job? | `pool.rs`, `members.rs`, `children.rs` |
//! | How many jobs are claimed before a child is free for them? | `ahead.rs` |
//! | How does a job run in a child, and how is it stopped? | `task.rs` |
//! | Which tasks does a server have? | `declaration.rs`, `owners.rs` |
//!
//! A child is started by a launcher like a command (`process.rs`), so nothing survives it.

mod ahead;
mod child;
mod children;
mod declaration;
mod directory;
mod frame;
mod life;
mod members;
mod memory;
mod message;
mod outbox;
mod output;
mod owners;
mod pool;
mod servers;
mod spec;
mod task;

/// The channel itself, for `check_channel.rs`, which plays the worker.
pub(crate) mod channel {
    pub(crate) use super::declaration::{FileValues, tasks as declared_tasks};
    pub(crate) use super::directory::Directory;
    pub(crate) use super::frame::{Body, Decoder};
    pub(crate) use super::message::{Done, FromChild, Hello, ReportedFailure};
    pub(crate) use super::output::Output;
}

pub(crate) use declaration::FileValues;
pub(crate) use memory::OomCounter;
pub(crate) use message::MAX_CONCURRENCY;
pub(crate) use owners::TaskOwners;
pub(crate) use pool::ServerPool;
pub(crate) use servers::Servers;
pub(crate) use spec::{ServerSpec, Silence};
pub(crate) use task::registry;

#[cfg(test)]
mod tests;
