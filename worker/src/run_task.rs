//! The command `run`: runs one task once, without Redis, with the payload from standard input and the result on
//! standard output. For authors of tasks, who can try one like any other program.
//!
//! `testing.rs` runs the attempt. Never retries.

mod error;
mod output;

use std::io::{self, IsTerminal, Read};
use std::sync::Arc;

use crunch_common::Shutdown;
use crunch_common::job::{ContentType, Metadata, Payload};
use crunch_common::task::TaskDescriptor;
use tokio::sync::oneshot;

use crate::Task;
use crate::config::RunTask;
use crate::registry::Registry;
use crate::server::{self, ServerSpec, Servers};
use crate::testing::{Attempt, Outcome};
pub use error::RunError;
use output::{Terminal, hint, write_result};

/// Runs the task. The first request to shut down cancels its job; the second ends the command without waiting for it.
///
/// # Errors
/// If there is no result on standard output.
pub(crate) async fn run(
    registry: &Registry,
    request: &RunTask,
    shutdown: &Shutdown,
) -> Result<(), RunError> {
    let task = find(registry, &request.task)?;
    let metadata = metadata_of(request)?;
    let content_type = content_type_of(request, &task.descriptor);
    let payload = read_payload(task.descriptor.max_payload);
    let bytes = tokio::select! {
        bytes = payload => bytes?,
        () = shutdown.requested(1) => return Err(RunError::Interrupted),
    };
    let terminal = Arc::new(Terminal::default());
    let attempt = Attempt::of(task.clone())
        .payload_of(Payload { bytes: bytes.into(), content_type })
        .labels(metadata)
        .canceled_by(shutdown.clone())
        .observed_by(terminal.clone());
    let report = tokio::select! {
        report = attempt.run() => report,
        () = shutdown.requested(2) => return Err(RunError::Interrupted),
    };
    terminal.finish();
    match (report.outcome, report.result) {
        (Outcome::Succeeded, Some(result)) => Ok(write_result(&result.bytes)?),
        (outcome, _) => Err(RunError::of(&task.descriptor, outcome)),
    }
}

/// Returns the servers with as few children as one job needs.
pub(crate) fn one_child_each(servers: Vec<ServerSpec>) -> Vec<ServerSpec> {
    servers.into_iter().map(|server| ServerSpec { processes: 1, ..server }).collect()
}

/// Waits until a child of each server is ready, and adds its tasks.
///
/// # Errors
/// If a child cannot start.
pub(crate) async fn add_servers(
    servers: &Servers,
    registry: &mut Registry,
    max_result: usize,
) -> Result<(), RunError> {
    for pool in servers.pools() {
        let tasks = tokio::select! {
            biased;
            tasks = pool.tasks() => tasks,
            problem = pool.problem() => {
                return Err(RunError::Server { name: pool.name().to_owned(), problem });
            }
        };
        registry.adopt(server::registry(pool, &tasks, max_result));
    }
    Ok(())
}

fn find<'a>(registry: &'a Registry, name: &str) -> Result<&'a Task, RunError> {
    let found = name.parse().ok().and_then(|name| registry.find(&name));
    found.map(AsRef::as_ref).ok_or_else(|| {
        let known = registry.descriptors().into_iter().map(|task| task.name.to_string());
        RunError::UnknownTask { name: name.to_owned(), known: known.collect() }
    })
}

fn metadata_of(request: &RunTask) -> Result<Metadata, RunError> {
    let mut metadata = Metadata::default();
    for (key, value) in &request.metadata {
        let inserted = metadata.insert(key.clone(), value.clone());
        inserted.map_err(|source| RunError::Metadata { key: key.clone(), source })?;
    }
    Ok(metadata)
}

fn content_type_of(request: &RunTask, task: &TaskDescriptor) -> ContentType {
    let json = ContentType::json();
    let first = || task.accepts.first().filter(|_| !task.accepts.contains(&json)).cloned();
    request.content_type.clone().or_else(first).unwrap_or(json)
}

/// Reads standard input to its end, or one byte more than the task accepts.
async fn read_payload(max: u64) -> io::Result<Vec<u8>> {
    if io::stdin().is_terminal() {
        hint("reading the payload from the terminal; end it with Ctrl-D");
    }
    let (sender, receiver) = oneshot::channel();
    // A thread that nothing waits for: an interrupted command must not wait for more input, and a runtime waits for
    // its blocking threads when it ends.
    std::thread::Builder::new().name("crunch-stdin".to_owned()).spawn(move || {
        let mut payload = Vec::new();
        let read = io::stdin().lock().take(max.saturating_add(1)).read_to_end(&mut payload);
        // The receiver is dropped if the command was interrupted.
        let _ = sender.send(read.map(|_| payload));
    })?;
    receiver.await.unwrap_or_else(|_| Err(io::Error::other("the thread that reads ended")))
}
