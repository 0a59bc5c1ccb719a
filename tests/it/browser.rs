//! The dashboard in a real browser: one script each, in `tests/browser`, which documents what it checks.
//!
//! `script/test` installs what drives the browser and runs these tests; the installation needs a network, and the
//! browser is large, so they are ignored otherwise.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crunch_tests::{Api, Stack, Worker};
use serde_json::json;
use tokio::process::Command;
use tokio::time::timeout;

/// No script takes this long, not even on a busy machine.
const TIME_LIMIT: Duration = Duration::from_secs(400);

/// Failed jobs on the page of errors.
const FAILED_JOBS: u64 = 100_000;

/// Where `script/test` installed what the scripts need.
fn installed() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("browser")
}

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs a script against an API, with additional environment; it must succeed.
async fn run_script(stack: &Stack, api: &Api, script: &str, environment: &[(&str, &str)]) {
    let installed = installed();
    assert!(
        installed.join("pins").is_file(),
        "nothing in {}: run script/test",
        installed.display()
    );
    let mut command = Command::new(installed.join("venv/bin/python"));
    command.arg(source("browser").join(script)).current_dir(stack.directory());
    command.stdin(Stdio::null()).kill_on_drop(true);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.env("HOME", stack.directory()).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("PYTHONPATH", source("clients")).env("CRUNCH_URL", &api.url);
    command.env("CRUNCH_AXE", installed.join("node_modules/axe-core/axe.min.js"));
    command.env("CRUNCH_PAYLOAD", source(TORTURE_PAYLOAD));
    command.envs(environment.iter().copied());
    let output = timeout(TIME_LIMIT, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{script} does not finish")).unwrap();
    let texts = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it).into_owned());
    assert!(output.status.success(), "{script}: {}\n{}", output.status, texts.concat());
}

/// A schema with every construct that forms support, and a payload that has them all.
const TORTURE: &str = "../api/src/dashboard/form/tests/torture.schema.json";
const TORTURE_PAYLOAD: &str = "../api/src/dashboard/form/tests/torture.json";

/// Texts that try to be script, in every place of a schema that pages show.
fn hostile_schema() -> serde_json::Value {
    json!({
        "title": "<script>alert(1)</script>",
        "description": "<ScRiPt>alert(2)</sCrIpT>",
        "type": "object",
        "required": ["a", "</textarea><script>alert(5)</script>"],
        "properties": {
            "</script><script>alert(3)</script>": { "type": "string", "pattern": "</pre><script>alert(6)</script>" },
            "a": { "type": "string", "title": "</title><script>alert(4)</script>",
                "default": "</style><script>alert(7)</script>" },
            "</textarea><script>alert(5)</script>": { "const": "--><script>alert(8)</script>" },
            "b": { "enum": ["]]><script>alert(9)</script>"], "description": "<img src=x onerror=alert(10)>" },
            "c": { "default": "<img src=x onerror='alert(11)'>" },
            "d": { "oneOf": [
                { "title": "\"><img src=x onerror=alert(12)>", "type": "integer" },
                { "type": "object", "properties": { "e": { "type": "boolean" } } },
            ] },
        },
    })
}

/// Starts a worker that has the tasks of the tests, and two with schemas.
async fn worker(stack: &mut Stack, api: &Api, slots: usize) -> Worker {
    let directory = stack.directory().to_owned();
    std::fs::write(directory.join("hostile.json"), hostile_schema().to_string()).unwrap();
    std::fs::copy(source(TORTURE), directory.join("torture.json")).unwrap();
    let task = |name: &str, description: &str| {
        format!(
            "[[task]]\nname = \"{name}\"\ndescription = '''{description}'''\ncommand = [\"cat\"]\n\
             payload_schema = \"{name}.json\"\n"
        )
    };
    let tasks = task("torture", "Returns its payload; its form has every kind of field.")
        + &task("hostile", "<script>alert(1)</script>");
    let path = directory.join("tasks.toml");
    std::fs::write(&path, tasks).unwrap();
    stack.worker_with(api, slots, &[("CRUNCH_TASKS", path.to_str().unwrap())]).await
}

/// Runs a script on an API without keys.
async fn test(script: &str, slots: usize, environment: &[(&str, &str)]) {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let _worker = worker(&mut stack, &api, slots).await;
    run_script(&stack, &api, script, environment).await;
}

#[tokio::test]
#[ignore = "needs Chromium, and packages from PyPI and npm: script/test installs and runs them"]
async fn a_hundred_thousand_failures_of_three_kinds_are_three_rows() {
    test("errors.py", 200, &[("CRUNCH_JOBS", &FAILED_JOBS.to_string())]).await;
}

#[tokio::test]
#[ignore = "needs Chromium, and packages from PyPI and npm: script/test installs and runs them"]
async fn a_log_streams_and_a_queue_is_paused_by_its_own_page_only() {
    test("verbs.py", 4, &[]).await;
}

#[tokio::test]
#[ignore = "needs Chromium, and packages from PyPI and npm: script/test installs and runs them"]
async fn jobs_are_submitted_by_forms() {
    test("forms.py", 4, &[]).await;
}

#[tokio::test]
#[ignore = "needs Chromium, and packages from PyPI and npm: script/test installs and runs them"]
async fn updates_take_nothing_from_the_viewer() {
    test("live.py", 4, &[]).await;
}

#[tokio::test]
#[ignore = "needs Chromium, and packages from PyPI and npm: script/test installs and runs them"]
async fn texts_that_try_to_be_script_stay_texts() {
    test("hostile.py", 8, &[]).await;
}

#[tokio::test]
#[ignore = "needs Chromium, and packages from PyPI and npm: script/test installs and runs them"]
async fn every_page_is_accessible_in_every_mode() {
    let mut stack = Stack::start();
    let file = stack.directory().join("keys.json");
    let file = file.to_str().unwrap();
    // A worker is ready when an API without keys lists it; then an API with keys serves the same Redis.
    let open = stack.api().await;
    let _worker = worker(&mut stack, &open, 4).await;
    let mut command = stack.command("test-api");
    command.args(["keys", "create", "--name", "browser", "--scopes", "admin", "--file", file]);
    let key = String::from_utf8(command.output().await.unwrap().stdout).unwrap();
    let api = stack.api_with(&[("CRUNCH_API_KEYS", file)]).await;
    let pictures = std::env::var_os("CRUNCH_PICTURES").unwrap_or_default();
    let pictures = source("..").join(pictures.to_str().unwrap());
    let mut environment = vec![("CRUNCH_KEY", key.trim_end())];
    if pictures != source("..").join("") {
        environment.push(("CRUNCH_PICTURES", pictures.to_str().unwrap()));
    }
    run_script(&stack, &api, "pages.py", &environment).await;
}
