//! Two tasks, and what their handlers share.
//!
//! `messages.classify` computes: its handler is a plain function and runs on a thread. `messages.forward` waits for
//! another system: its handler is an async function.

mod classify;
mod forward;
mod gateway;
mod model;

use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crunch_worker::{Backoff, Task, with_state};

pub use classify::{Classified, Classify};
pub use forward::{Forward, Forwarded};
pub use gateway::Gateway;
pub use model::Model;

/// What the handlers share. It is created once, and every job gets a clone of the `Arc` around it.
#[derive(Debug)]
pub struct App {
    /// Weights of words, read from a file.
    pub model: Model,
    /// Connections to the system that delivers messages.
    pub gateway: Gateway,
}

impl App {
    /// Reads the model and the address of the gateway, as `MESSAGES_MODEL` and `MESSAGES_GATEWAY` name them.
    ///
    /// # Errors
    /// If the model cannot be read.
    pub fn from_env() -> io::Result<Self> {
        let model = setting("MESSAGES_MODEL", "model.json");
        let gateway = setting("MESSAGES_GATEWAY", "127.0.0.1:2500");
        let gateway = Gateway::at(gateway.to_string_lossy());
        Ok(Self { model: Model::read(model.as_ref())?, gateway })
    }
}

fn setting(variable: &str, default: &str) -> OsString {
    std::env::var_os(variable).unwrap_or(default.into())
}

/// Returns the tasks of this worker.
#[must_use]
pub fn tasks(app: &Arc<App>) -> Vec<Task> {
    vec![
        Task::blocking("messages.classify", with_state(app, classify::classify))
            .description("Estimates how likely each text is spam.")
            .payload_schema::<Classify>()
            .result_schema::<Classified>()
            .max_payload(4 * 1024 * 1024)
            .timeout(Duration::from_secs(60)),
        Task::new("messages.forward", with_state(app, forward::forward))
            .description("Forwards a message to the gateway.")
            .payload_schema::<Forward>()
            .result_schema::<Forwarded>()
            .timeout(Duration::from_secs(30))
            .max_attempts(8)
            .backoff(Backoff { base: Duration::from_secs(1), max: Duration::from_secs(60) }),
    ]
}
