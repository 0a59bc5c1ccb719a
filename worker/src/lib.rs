//! The worker side of Crunch: write handlers, and run them as jobs come in.
//!
//! Broker in, handlers out. No HTTP.

#![warn(missing_docs, clippy::missing_errors_doc)]

mod context;
mod handler;
pub mod tasks;

pub use context::JobContext;
pub use handler::{Handler, HandlerFuture, TaskError};
