//! The stock worker: the tasks that ship with Crunch, and commands declared in a `tasks.toml`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    ExitCode::SUCCESS
}
