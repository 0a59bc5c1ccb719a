//! Third-party clients on a running API: one script each, in `tests/clients`, which documents what it checks.
//!
//! `script/test` installs the clients and runs these tests; the installation needs a network, so they are ignored
//! otherwise.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use crunch_tests::{Api, Stack, eventually};
use reqwest::Method;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

/// No script takes this long, not even on a busy machine.
const TIME_LIMIT: Duration = Duration::from_secs(240);

const SECRETS: &str =
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw,whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// Where `script/test` installed the clients.
fn installed() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("clients")
}

/// Copies the scripts and the example in TypeScript to a new directory, with the clients next to them: what they
/// generate is deleted with the stack, and Node searches packages only above a script.
fn copy_scripts(stack: &Stack) -> PathBuf {
    let installed = installed();
    assert!(
        installed.join("pins").is_file(),
        "no clients in {}: run script/test",
        installed.display()
    );
    let directory = stack.directory().join("clients");
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    copy_files(&tests.join("clients"), &directory);
    copy_files(&tests.join("../examples/typescript"), &directory.join("typescript"));
    let packages = directory.join("node_modules");
    std::os::unix::fs::symlink(installed.join("node_modules"), packages).unwrap();
    directory
}

/// Copies the files of a directory, without its subdirectories, to a new one.
fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Runs a script against an API, with additional environment; it must succeed.
async fn run_script(stack: &Stack, api: &Api, script: &str, environment: &[(&str, &str)]) {
    let directory = copy_scripts(stack);
    let program = if script.ends_with(".py") { "python" } else { "node" };
    let mut command = Command::new(program);
    command.arg(script).current_dir(&directory).stdin(Stdio::null()).kill_on_drop(true);
    command.env_clear().env("PATH", path()).env("HOME", &directory).env("CRUNCH_URL", &api.url);
    // The linter sends no telemetry, and does not check for updates.
    command.env("REDOCLY_TELEMETRY", "off").env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true");
    command.envs(environment.iter().copied());
    let output = timeout(TIME_LIMIT, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{script} does not finish")).unwrap();
    assert!(output.status.success(), "{script}: {}\n{}", output.status, text(&output));
}

/// A search path with the clients' programs before those of the system.
fn path() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = installed();
    let client_paths = [installed.join("venv/bin"), installed.join("node_modules/.bin")];
    std::env::join_paths(client_paths.into_iter().chain(std::env::split_paths(&path))).unwrap()
}

fn text(output: &Output) -> String {
    let streams = [&output.stdout, &output.stderr];
    streams.map(|stream| String::from_utf8_lossy(stream).into_owned()).concat()
}

/// Runs a script on an API with the tasks of the tests, whose webhooks are signed with two secrets.
async fn test_on_test_tasks(script: &str) {
    let mut stack = Stack::start();
    let settings = [
        ("CRUNCH_WEBHOOK_SECRETS", SECRETS),
        ("CRUNCH_WEBHOOK_ALLOW", "127.0.0.0/8"),
        ("CRUNCH_WEBHOOK_DELAYS_MS", "1,1,1"),
    ];
    let api = stack.api_with(&settings).await;
    let _worker = stack.worker(&api, 4).await;
    run_script(&stack, &api, script, &[("CRUNCH_WEBHOOK_SECRETS", SECRETS)]).await;
    stack.assert_clean_audit().await;
}

/// Runs a script on an API as it is deployed: with keys, and a worker that has the shipped tasks only.
async fn test_on_shipped_tasks(script: &str) {
    let mut stack = Stack::start();
    let file = stack.directory().join("keys.json");
    let file = file.to_str().unwrap();
    let mut command = stack.command("test-api");
    command.args(["keys", "create", "--name", "clients", "--scopes", "admin", "--file", file]);
    let key = String::from_utf8(command.output().await.unwrap().stdout).unwrap();
    let key = key.trim_end();
    let api = stack.api_with(&[("CRUNCH_API_KEYS", file)]).await;
    let _worker = stack.spawn(stack.command("crunch-worker"), "worker");
    eventually("the shipped tasks are declared", async || {
        let request = api.request(Method::GET, "/tasks/crunch").bearer_auth(key);
        api.send(request).await.status.is_success().then_some(())
    })
    .await;
    run_script(&stack, &api, script, &[("CRUNCH_KEY", key)]).await;
    stack.assert_clean_audit().await;
}

/// JSON parsers that differ in what they reject: depths, lone surrogates, numbers. Those that are installed are used.
const PARSERS: [(&str, &[&str]); 3] = [
    ("python3", &["-c", "import json,sys; json.loads(sys.stdin.buffer.read().decode())"]),
    ("node", &["-e", "JSON.parse(require('fs').readFileSync(0, 'utf8'))"]),
    ("jq", &["-e", "."]),
];

/// Whether a parser accepts a document; `None` if it is not installed.
async fn accepts((program, arguments): (&str, &[&str]), document: &[u8]) -> Option<bool> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
    let mut parser = command.spawn().ok()?;
    let mut input = parser.stdin.take().unwrap();
    input.write_all(document).await.unwrap();
    drop(input);
    let ended = timeout(TIME_LIMIT, parser.wait()).await.expect("a parser exits").unwrap();
    Some(ended.success())
}

#[tokio::test]
async fn every_json_parser_reads_documents_with_extreme_results() {
    let (_stack, api, _worker) = Stack::simple(2).await;
    let (digits, deep) = ("9".repeat(5_000), format!("{}1{}", "[".repeat(64), "]".repeat(64)));

    for (result, omitted) in [
        (r#""\ud800""#, json!("lone_surrogate")),
        ("[1e999]", json!("number_out_of_range")),
        (&digits, json!("number_out_of_range")),
        (r#"{"\u0000":"\ud83d\ude00","a":1,"a":-0.0e-0}"#, json!(null)),
        (&deep, json!(null)),
    ] {
        let id = api.post_bytes("/tasks/repeat/jobs", result).await.id();
        let job = api.wait_for_status(&id, "succeeded").await;
        assert_eq!(job["result_omitted"], omitted, "{result}");
        assert_eq!(api.get(&format!("/jobs/{id}/result")).await.body, result.as_bytes());
        let document = api.get(&format!("/jobs/{id}")).await.body;
        let events = api.get(&format!("/jobs/{id}/events")).await.body;
        let events = String::from_utf8(events.to_vec()).unwrap();
        let done = events.lines().rev().find_map(|line| line.strip_prefix("data: ")).unwrap();
        for parser in PARSERS {
            for text in [&document[..], done.as_bytes()] {
                assert_ne!(accepts(parser, text).await, Some(false), "{}: {result}", parser.0);
            }
        }
    }
}

#[tokio::test]
#[ignore = "needs clients from PyPI and npm: script/test installs and runs them"]
async fn azure_core_follows_jobs_to_every_end() {
    test_on_test_tasks("azure_core.py").await;
}

#[tokio::test]
#[ignore = "needs clients from PyPI and npm: script/test installs and runs them"]
async fn azure_core_lro_follows_jobs_to_every_end() {
    test_on_test_tasks("core_lro.mjs").await;
}

#[tokio::test]
#[ignore = "needs clients from PyPI and npm: script/test installs and runs them"]
async fn httpx_sse_gets_every_event_once_over_a_connection_that_breaks() {
    test_on_test_tasks("httpx_sse_stream.py").await;
}

#[tokio::test]
#[ignore = "needs clients from PyPI and npm: script/test installs and runs them"]
async fn eventsource_gets_every_event_once_over_a_connection_that_breaks() {
    test_on_test_tasks("eventsource.mjs").await;
}

#[tokio::test]
#[ignore = "needs clients from PyPI and npm: script/test installs and runs them"]
async fn promtool_accepts_the_metrics() {
    test_on_test_tasks("promtool.py").await;
}

#[tokio::test]
#[ignore = "needs clients from PyPI and npm: script/test installs and runs them"]
async fn standardwebhooks_for_python_accepts_signed_messages_only() {
    test_on_test_tasks("standard_webhooks.py").await;
}

#[tokio::test]
#[ignore = "needs clients from PyPI and npm: script/test installs and runs them"]
async fn standardwebhooks_for_node_accepts_signed_messages_only() {
    test_on_test_tasks("standard_webhooks.mjs").await;
}

#[tokio::test]
#[ignore = "needs clients from PyPI and npm: script/test installs and runs them"]
async fn openapi_python_client_generates_a_working_client() {
    test_on_test_tasks("generated_python.py").await;
}

#[tokio::test]
#[ignore = "needs clients from PyPI and npm: script/test installs and runs them"]
async fn openapi_typescript_generates_matching_types() {
    test_on_test_tasks("generated_typescript.mjs").await;
}

#[tokio::test]
#[ignore = "needs clients from PyPI and npm: script/test installs and runs them"]
async fn the_example_in_typescript_works_as_its_readme_says() {
    test_on_test_tasks("typescript_example.mjs").await;
}

#[tokio::test]
#[ignore = "needs clients from PyPI and npm: script/test installs and runs them"]
async fn redocly_and_spectral_accept_the_openapi_document() {
    test_on_shipped_tasks("lints.py").await;
}

#[tokio::test]
#[ignore = "needs clients from PyPI and npm: script/test installs and runs them"]
async fn schemathesis_finds_nothing() {
    test_on_shipped_tasks("schema_tests.py").await;
}
