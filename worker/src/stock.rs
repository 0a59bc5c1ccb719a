//! The stock worker: the tasks that ship with Crunch, and commands declared in a `tasks.toml`.

use std::process::ExitCode;

use crate::{Error, Task, Worker};

/// Runs the stock worker, with further tasks in addition to its own, until it is asked to stop; the whole of `main`.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// use crunch_worker::{JobContext, Task, TaskError};
///
/// async fn greet(_job: JobContext, name: String) -> Result<String, TaskError> {
///     Ok(format!("Hello, {name}!"))
/// }
///
/// fn main() -> ExitCode {
///     crunch_worker::main(vec![Task::new("greet", greet)])
/// }
/// ```
#[must_use]
pub fn main(further: Vec<Task>) -> ExitCode {
    match start(further) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.exit(),
    }
}

fn start(further: Vec<Task>) -> Result<(), Error> {
    // Created before the runtime: a process that only launches a command needs none of its threads.
    let worker = further.into_iter().fold(Worker::from_env()?.builtin_tasks(), Worker::task);
    tokio::runtime::Runtime::new()?.block_on(worker.run())
}
