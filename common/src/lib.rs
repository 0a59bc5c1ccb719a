//! Code shared by the API and the workers: the domain types, and the broker that stores them in Redis.
//!
//! Code belongs here only if both sides need it and a change for one side must also apply to the other. This crate
//! does not know HTTP; outside it, no shipped code knows Redis.

#![warn(missing_docs, clippy::missing_errors_doc)]

pub mod backoff;
pub mod broker;
pub mod config;
pub mod init;
pub mod job;
pub mod json;
pub mod machine;
mod name;
pub mod pem;
mod pointer;
pub mod queue;
pub mod schedule;
pub mod schema;
pub mod shutdown;
pub mod task;
pub mod telemetry;
pub mod time;
mod word;

pub use broker::Broker;
pub use name::InvalidName;
pub use pointer::{InvalidPointer, Pointer};
#[doc(hidden)]
pub use serde;
pub use shutdown::Shutdown;
pub use word::InvalidWord;
