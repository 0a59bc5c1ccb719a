//! What the API and the workers share: the words of the domain, and the broker that keeps them in Redis.
//!
//! A thing lives here only if both sides need it and changing it for one must change it for the other. This crate
//! never knows HTTP; outside it, nothing that ships knows Redis.

#![warn(missing_docs, clippy::missing_errors_doc)]

pub mod backoff;
pub mod broker;
pub mod config;
pub mod init;
pub mod job;
pub mod machine;
mod name;
pub mod queue;
pub mod schema;
pub mod task;
pub mod telemetry;
pub mod time;

pub use broker::Broker;
pub use name::InvalidName;
