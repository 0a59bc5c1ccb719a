//! The command `run` of workers: one task, once, without Redis. No test here starts one.

use std::path::Path;
use std::process::{Output, Stdio};

use crunch_tests::{binary, eventually, in_time};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

/// What the command printed, and its exit code.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        Self { code: output.status.code(), stdout, stderr }
    }
}

/// `crunch-worker run …`, with the tasks of the tests.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("test-worker"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("RUST_BACKTRACE", "0");
    command.arg("run").args(arguments).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn finish(mut command: Command, payload: &str) -> Ran {
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that rejects its arguments does not read the payload.
    let _ = stdin.write_all(payload.as_bytes()).await;
    drop(stdin);
    in_time("the end of the command", child.wait_with_output()).await.unwrap().into()
}

async fn run(arguments: &[&str], payload: &str) -> Ran {
    finish(command(arguments), payload).await
}

/// A `tasks.toml` of one task `script`, which a program runs.
fn declare(program: [&str; 3], further: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("[[task]]\nname = \"script\"\ncommand = {}\n{further}\n", json!(program));
    std::fs::write(folder.path().join("tasks.toml"), text).unwrap();
    folder
}

fn tasks(folder: &TempDir) -> String {
    folder.path().join("tasks.toml").to_str().unwrap().to_owned()
}

async fn run_program(program: [&str; 3], further: &str, payload: &str) -> Ran {
    let folder = declare(program, further);
    run(&["script", "--tasks", &tasks(&folder)], payload).await
}

async fn run_script(script: &str, further: &str) -> Ran {
    run_program(["sh", "-c", script], further, "null").await
}

#[tokio::test]
async fn a_command_gets_its_payload_and_its_result_alone_is_on_standard_output() {
    let script = r#"
import json, os, sys
events = open(int(os.environ["CRUNCH_EVENTS_FD"]), "w", buffering=1)
events.write('{"progress": 0.5, "message": "half"}\n')
events.write('{"progress": 1, "message": "all"}\n')
print("reading", file=sys.stderr)
labels = json.loads(os.environ["CRUNCH_METADATA"])
print(json.dumps([json.load(sys.stdin), labels, os.environ["CRUNCH_ATTEMPT"], "CRUNCH_REDIS_URL" in os.environ]))
"#;
    let folder = declare(["python3", "-c", script], "");
    let labels = ["--metadata", "owner=me", "--metadata", "note=a=b"];
    let ran = run(&[&["script"][..], &labels, &["--tasks", &tasks(&folder)]].concat(), "7").await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let result: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(result, json!([7, { "owner": "me", "note": "a=b" }, "1", false]));
    assert_eq!(ran.stdout, ran.stdout.trim(), "the bytes of the result, and nothing else");
    for line in ["progress: 50 % half", "progress: 100 % all", "reading"] {
        assert!(ran.stderr.lines().any(|found| found == line), "{}", ran.stderr);
    }
}

#[tokio::test]
async fn a_failure_says_whether_a_worker_would_retry() {
    let retryable = run_script("echo no connection >&2; exit 3", "").await;
    assert_eq!((retryable.code, &*retryable.stdout), (Some(1), ""));
    let message = "crunch-worker: script failed (command_failed), a worker would retry the job: ";
    assert!(retryable.stderr.contains(message), "{}", retryable.stderr);
    assert!(retryable.stderr.trim_end().ends_with("no connection"), "{}", retryable.stderr);

    let permanent = run_script("exit 65", "").await;
    let message = "script failed (command_failed), a worker would not retry the job: ";
    assert_eq!(permanent.code, Some(1));
    assert!(permanent.stderr.contains(message), "{}", permanent.stderr);

    let last = run_script("exit 3", "max_attempts = 1").await;
    assert!(last.stderr.contains("a worker would not retry the job"), "{}", last.stderr);

    let event = r#"echo '{"error": {"message": "no seat", "machine": true}}' >&$CRUNCH_EVENTS_FD"#;
    let machine = run_script(&format!("{event}; exit 1"), "").await;
    assert_eq!(machine.code, Some(1));
    assert!(machine.stderr.contains("this machine cannot run script"), "{}", machine.stderr);

    let invalid = run_script("echo done", "").await;
    assert!(invalid.stderr.contains("result_invalid"), "{}", invalid.stderr);
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_stopped() {
    let ran = run_script("sleep 60", "timeout = \"300ms\"").await;
    assert_eq!(ran.code, Some(1));
    let message = "script failed (timeout), a worker would retry the job: the attempt took longer";
    assert!(ran.stderr.contains(message), "{}", ran.stderr);
}

#[tokio::test]
async fn a_payload_that_the_api_would_reject_is_a_wrong_call() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let example = example.join("examples/word-count/tasks.toml");
    let tasks = example.to_str().unwrap();
    let ran = run(&["word.count", "--tasks", tasks], r#"{"text": 7}"#).await;
    assert_eq!((ran.code, &*ran.stdout), (Some(2), ""));
    let message = "the API would reject this payload: /text: the value is not of type \"string\"\n";
    assert!(ran.stderr.ends_with(message), "{}", ran.stderr);

    let empty = run(&["word.count", "--tasks", tasks], "").await;
    assert_eq!(empty.code, Some(2));
    assert!(empty.stderr.contains("the body is empty"), "{}", empty.stderr);

    let text = ["word.count", "--content-type", "text/plain", "--tasks", tasks];
    let nothing = run(&text, "").await;
    assert_eq!(nothing.code, Some(0), "{nothing:?}");
    assert_eq!(nothing.stdout, r#"{"words": 0, "different": 0, "top": []}"#);

    let image = run(&["word.count", "--content-type", "image/png", "--tasks", tasks], "").await;
    assert_eq!(image.code, Some(2));
    assert!(image.stderr.contains("accepts application/json, text/plain"), "{}", image.stderr);
}

#[tokio::test]
async fn a_task_that_does_not_exist_is_answered_with_those_that_do() {
    for name in ["nothing", "No Name"] {
        let ran = run(&[name], "null").await;
        assert_eq!((ran.code, &*ran.stdout), (Some(2), ""));
        let message = format!("there is no task {name:?}; this worker has ");
        assert!(ran.stderr.contains(&message) && ran.stderr.contains("echo"), "{}", ran.stderr);
    }
    let label = run(&["echo", "--metadata", "owner"], "null").await;
    assert_eq!(label.code, Some(2));
    assert!(label.stderr.contains("expected KEY=VALUE"), "{}", label.stderr);
    let label = run(&["echo", "--metadata", "=me"], "null").await;
    assert_eq!(label.code, Some(2));
    assert!(label.stderr.contains("keys have 1 to 64 bytes"), "{}", label.stderr);
}

#[tokio::test]
async fn tasks_in_rust_run_as_well() {
    let crunch = run(&["crunch"], r#"{"photons": 1000}"#).await;
    assert_eq!(crunch.code, Some(0), "{crunch:?}");
    let result: Value = serde_json::from_str(&crunch.stdout).unwrap();
    assert_eq!(result["photons"], 1000);

    let echo = run(&["echo"], "[1, 2]").await;
    assert_eq!((echo.code, &*echo.stdout), (Some(0), "[1,2]"));
    // Neither a Redis nor a supervisor is started or asked for, whatever the environment of the worker says.
    let mut with_settings = command(&["echo"]);
    with_settings
        .env("CRUNCH_REDIS_URL", "redis://127.0.0.1:1/")
        .env("CRUNCH_WORKER_SUPERVISE", "2");
    with_settings.env("CRUNCH_WORKER_ADDR", "127.0.0.1:0").env("CRUNCH_WORKER_CONCURRENCY", "1024");
    let ran = finish(with_settings, "1").await;
    assert_eq!((ran.code, &*ran.stdout, &*ran.stderr), (Some(0), "1", ""));

    let mut limited = command(&["echo"]);
    limited.env("CRUNCH_WORKER_MAX_RESULT", "3");
    let limited = finish(limited, "[1, 2]").await;
    assert_eq!(limited.code, Some(1));
    assert!(limited.stderr.contains("result_too_large"), "{}", limited.stderr);
}

#[tokio::test]
async fn a_large_result_is_written_to_the_end() {
    let script = r#"python3 -c 'print("\"" + 9_000_000 * "a" + "\"")'"#;
    let ran = run_script(script, "max_result = 10_000_000").await;
    assert_eq!((ran.code, ran.stdout.len()), (Some(0), 9_000_002), "{}", ran.stderr);
}

fn interrupt(child: &Child) {
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).unwrap();
    kill_process(pid, Signal::INT).unwrap();
}

#[tokio::test]
async fn an_interrupted_command_is_asked_to_stop() {
    let script = "trap 'echo cleaned > cleaned; exit 0' TERM; touch started; sleep 60 & wait";
    let folder = declare(["sh", "-c", script], "accepts = [\"text/plain\"]");
    let child = command(&["script", "--tasks", &tasks(&folder)]).stdin(Stdio::null()).spawn();
    let child = child.unwrap();
    let started = folder.path().join("started");
    eventually("the command runs", async || started.exists().then_some(())).await;
    interrupt(&child);
    let ran: Ran = in_time("the end", child.wait_with_output()).await.unwrap().into();
    assert_eq!((ran.code, &*ran.stdout), (Some(130), ""), "{ran:?}");
    assert!(ran.stderr.contains("interrupted"), "{}", ran.stderr);
    let cleaned = std::fs::read_to_string(folder.path().join("cleaned")).unwrap();
    assert_eq!(cleaned, "cleaned\n");
}

#[tokio::test]
async fn a_command_that_ignores_the_first_interrupt_does_not_survive_the_second() {
    let script = "trap 'touch asked' TERM; touch started; while true; do sleep 60 & wait; done";
    let folder = declare(["sh", "-c", script], "accepts = [\"text/plain\"]");
    let child = command(&["script", "--tasks", &tasks(&folder)]).stdin(Stdio::null()).spawn();
    let child = child.unwrap();
    for file in ["started", "asked"] {
        let path = folder.path().join(file);
        eventually(file, async || path.exists().then_some(())).await;
        interrupt(&child);
    }
    let ran: Ran = in_time("the end", child.wait_with_output()).await.unwrap().into();
    assert_eq!((ran.code, &*ran.stdout), (Some(130), ""), "{ran:?}");
}

#[tokio::test]
async fn an_interrupt_while_the_payload_is_awaited_ends_the_command() {
    let mut child = command(&["echo"]).spawn().unwrap();
    let input = child.stdin.take().unwrap();
    let threads = format!("/proc/{}/task", child.id().unwrap());
    eventually("standard input is read", async || {
        let threads = std::fs::read_dir(&threads).ok()?.flatten();
        let names = threads.map(|thread| std::fs::read_to_string(thread.path().join("comm")));
        names.flatten().any(|name| name == "crunch-stdin\n").then_some(())
    })
    .await;
    interrupt(&child);
    let ran: Ran = in_time("the end", child.wait_with_output()).await.unwrap().into();
    assert_eq!(ran.code, Some(130), "{ran:?}");
    drop(input);
}
