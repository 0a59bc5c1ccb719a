//! The stock worker: the tasks that ship with Crunch, and commands declared in a `tasks.toml`.

use std::process::ExitCode;

use crunch_worker::{Error, Worker};
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.exit(),
    }
}

fn run() -> Result<(), Error> {
    // Before the runtime: a process that only launches a command needs none of its threads.
    let worker = Worker::from_env()?.builtin_tasks();
    Runtime::new()?.block_on(worker.run())
}
