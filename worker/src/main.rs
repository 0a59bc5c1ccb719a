//! The stock worker: the tasks that ship with Crunch, and commands declared in a `tasks.toml`.

use std::process::ExitCode;

use crunch_worker::{Error, Worker, tasks};

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.exit(),
    }
}

async fn run() -> Result<(), Error> {
    tasks::builtin().into_iter().fold(Worker::from_env()?, Worker::task).run().await
}
