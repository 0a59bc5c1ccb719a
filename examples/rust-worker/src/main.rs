//! The worker: reads its configuration, creates what its handlers share, and runs.

use std::process::ExitCode;
use std::sync::Arc;

use crunch_worker::{Error, Worker};
use messages_worker::App;

#[tokio::main]
async fn main() -> ExitCode {
    run().await.map_or_else(|error| error.exit(), |()| ExitCode::SUCCESS)
}

async fn run() -> Result<(), Error> {
    // First: before this call returns, the process may become one that only starts commands or watches over workers.
    let worker = Worker::from_env()?;
    let app = Arc::new(App::from_env()?);
    messages_worker::tasks(&app).into_iter().fold(worker, Worker::task).run().await
}
