//! Clients that nobody here wrote, on a running API: one script each, in `tests/clients`. What each proves is told there.
//!
//! `script/test` installs the clients and runs these; they need a network for that, so nobody else does.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use crunch_tests::{Api, Stack};
use tokio::process::Command;
use tokio::time::timeout;

/// No script takes this long, not even on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(240);

/// Where `script/test` installed the clients.
fn installed() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("clients")
}

/// The scripts in a directory of their own, with the clients beside them: what they generate goes with the stack, and Node
/// looks for packages only above a script.
fn laid_out(stack: &Stack) -> PathBuf {
    let directory = stack.directory().join("clients");
    std::fs::create_dir(&directory).unwrap();
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    for entry in std::fs::read_dir(scripts).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), directory.join(entry.file_name())).unwrap();
    }
    std::os::unix::fs::symlink(installed().join("node_modules"), directory.join("node_modules"))
        .unwrap();
    directory
}

/// Runs a script against an API; it must end well.
async fn passes(stack: &Stack, api: &Api, program: &str, script: &str) {
    let directory = laid_out(stack);
    let clients = installed();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = vec![clients.join("venv/bin"), clients.join("node_modules/.bin")];
    places.extend(std::env::split_paths(&path));
    let mut command = Command::new(program);
    command.arg(script).current_dir(&directory).stdin(Stdio::null()).kill_on_drop(true);
    command.env_clear().env("PATH", std::env::join_paths(places).unwrap()).env("HOME", &directory);
    command.env("CRUNCH_URL", &api.url).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = timeout(PATIENCE, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{script} does not end")).unwrap();
    assert!(output.status.success(), "{script}: {}\n{}", output.status, said(&output));
}

fn said(output: &Output) -> String {
    let streams = [&output.stdout, &output.stderr];
    streams.map(|stream| String::from_utf8_lossy(stream).into_owned()).concat()
}

async fn is_tried(program: &str, script: &str) {
    let (stack, api, _worker) = Stack::simple(4).await;
    passes(&stack, &api, program, script).await;
    stack.audits_clean().await;
}

#[tokio::test]
#[ignore = "needs clients from PyPI and npm: script/test installs and runs them"]
async fn azure_core_follows_jobs_to_every_end() {
    is_tried("python", "azure_core.py").await;
}

#[tokio::test]
#[ignore = "needs clients from PyPI and npm: script/test installs and runs them"]
async fn azure_core_lro_follows_jobs_to_every_end() {
    is_tried("node", "core_lro.mjs").await;
}

#[tokio::test]
#[ignore = "needs clients from PyPI and npm: script/test installs and runs them"]
async fn httpx_sse_gets_every_event_once_over_a_line_that_breaks() {
    is_tried("python", "httpx_sse_stream.py").await;
}

#[tokio::test]
#[ignore = "needs clients from PyPI and npm: script/test installs and runs them"]
async fn eventsource_gets_every_event_once_over_a_line_that_breaks() {
    is_tried("node", "eventsource.mjs").await;
}

#[tokio::test]
#[ignore = "needs clients from PyPI and npm: script/test installs and runs them"]
async fn promtool_has_nothing_against_the_metrics() {
    is_tried("python", "promtool.py").await;
}
