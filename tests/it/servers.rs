//! Servers: long-lived children, from `tasks.toml` to the client, and the command that checks children.

use std::path::{Path, PathBuf};

use crunch_tests::{Api, Stack, Worker, binary, eventually};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::worker_health::{ADDR, HealthPort, READY, UNREADY};

mod checks;
mod floods;
mod pools;
mod reports;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Writes a `tasks.toml` with a server whose children have a fault (`tests/children/wrong.py`).
fn declare(stack: &Stack, fault: &[&str], options: &str) -> PathBuf {
    declare_child(stack, &[&["wrong.py"], fault].concat(), options)
}

/// Writes a `tasks.toml` with a server of children in Python: the name of a file in `tests/children`, and its arguments.
fn declare_child(stack: &Stack, child: &[&str], options: &str) -> PathBuf {
    let script = root().join("tests/children").join(child[0]);
    let words = [&["python3", script.to_str().unwrap()], &child[1..]].concat();
    let command = json!(words);
    let path = stack.directory().join("tasks.toml");
    let text =
        format!("builtin = false\n[[server]]\nname = \"python\"\ncommand = {command}\n{options}\n");
    std::fs::write(&path, text).unwrap();
    path
}

async fn start(fault: &[&str], options: &str) -> (Stack, Api, Worker) {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let path = declare(&stack, fault, options);
    let worker = worker_with(&mut stack, &path);
    (stack, api, worker)
}

/// Starts a worker that has only the tasks of the file.
fn worker_with(stack: &mut Stack, path: &Path) -> Worker {
    let mut command = stack.command("crunch-worker");
    command.env("CRUNCH_TASKS", path).envs([ADDR]);
    stack.spawn(command, "worker")
}

async fn server_of(api: &Api) -> Value {
    let workers = api.get("/workers").await.json();
    workers["items"][0]["servers"][0].clone()
}

#[tokio::test]
async fn jobs_run_in_the_children_of_a_server() {
    let (stack, api, mut worker) = start(&["none"], "processes = 2").await;
    Stack::wait_for_task(&api, "a").await;
    let mut jobs = Vec::new();
    for number in 0..20 {
        jobs.push((number, api.submit("a", &json!({ "number": number })).await));
    }
    for (number, id) in jobs {
        let job = api.wait_for_status(&id, "succeeded").await;
        assert_eq!(job["result"]["number"], number);
    }
    let expected =
        json!({ "name": "python", "processes": 2, "ready": 2, "slots": 2, "problem": null });
    eventually("both children are ready", async || {
        (server_of(&api).await == expected).then_some(())
    })
    .await;
    assert_eq!(
        HealthPort::of(&mut worker).await.request(reqwest::Method::GET, "/readyz").await.0,
        READY
    );
    assert!(worker.terminate().await.success());
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_failure_a_print_and_a_cancel_reach_the_client() {
    let (_stack, api, _worker) = start(&["none"], "processes = 1").await;
    Stack::wait_for_task(&api, "a").await;
    let failed = api.submit("c", &json!(1)).await;
    let job = api.wait_for_status(&failed, "failed").await;
    assert_eq!((&job["error"]["code"], &job["attempt"]), (&json!("on_purpose"), &json!(1)));

    let printed = api.submit("e", &json!("a line")).await;
    api.wait_for_status(&printed, "succeeded").await;
    let log = api.get(&format!("/jobs/{printed}/logs")).await;
    assert!(log.json().to_string().contains("a line"), "{log:?}");

    let waits = api.submit("d", &json!(1)).await;
    eventually("it reports progress", async || {
        (api.job(&waits).await["progress"] == json!(0.5)).then_some(())
    })
    .await;
    api.post_empty(&format!("/jobs/{waits}/cancel")).await;
    api.wait_for_status(&waits, "canceled").await;
    let after = api.submit("a", &json!(1)).await;
    api.wait_for_status(&after, "succeeded").await;
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why_and_claims_nothing() {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    let path = declare(&stack, &["exits_before_hello"], "processes = 1");
    let mut worker = worker_with(&mut stack, &path);
    let health = HealthPort::of(&mut worker).await;
    let problem = eventually("the worker says why", async || {
        let problem = server_of(&api).await["problem"].as_str()?.to_owned();
        Some(problem)
    })
    .await;
    assert!(problem.ends_with("cannot start"), "{problem}");
    let (status, body) = health.request(reqwest::Method::GET, "/readyz").await;
    assert_eq!(status, UNREADY, "{body}");
    assert!(body["reasons"].to_string().contains("server python has 0 of 1 processes"), "{body}");
    let waits = api.submit_with("a", &json!(1), &json!({ "queue": "a" })).await;
    worker.wait_for_log("child died").await;
    assert_eq!(
        (&api.job(&waits).await["status"], &api.job(&waits).await["attempt"]),
        (&json!("queued"), &json!(0))
    );
}

#[tokio::test]
async fn a_server_whose_children_died_claims_nothing_more() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let path = stack.directory().join("tasks.toml");
    // The first child dies in its first job, and the others cannot start.
    let script = format!(
        "mkdir {}/first || exit 3; exec python3 {}/tests/children/wrong.py os_exit",
        stack.directory().display(),
        root().display()
    );
    let command = json!(["sh", "-c", script]);
    let text = format!("builtin = false\n[[server]]\nprocesses = 1\ncommand = {command}\n");
    std::fs::write(&path, text).unwrap();
    let mut worker = worker_with(&mut stack, &path);
    let health = HealthPort::of(&mut worker).await;
    Stack::wait_for_task(&api, "a").await;
    let slots = async || health.metric("crunch_worker_slots").await;
    eventually("the child has a slot", async || (slots().await == Some(1.0)).then_some(())).await;
    let id = api.submit("a", &json!(1)).await;
    eventually("it has none", async || (slots().await == Some(0.0)).then_some(())).await;
    let waits = api.submit("b", &json!(1)).await;
    worker.wait_for_log("before its hello").await;
    let job = api.job(&waits).await;
    assert_eq!((&job["status"], &job["attempt"]), (&json!("queued"), &json!(0)), "{job}");
    eventually("the first job is charged", async || {
        let attempts = api.get(&format!("/jobs/{id}/attempts")).await.json().to_string();
        attempts.contains("child_died").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_child_that_cannot_be_started_leaves_no_directory() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let folder = stack.directory().join("temporary");
    std::fs::create_dir(&folder).unwrap();
    let once = stack.directory().join("once");
    let path = declare(
        &stack,
        &["--once", once.to_str().unwrap(), "os_exit"],
        &format!("processes = 1\nenv = {{ TMPDIR = '{}' }}", folder.display()),
    );
    let mut worker = worker_with(&mut stack, &path);
    Stack::wait_for_task(&api, "a").await;
    let limit = worker.limit_descriptors(Some(0));
    let id = api.submit("a", &json!(1)).await;
    worker.wait_for_log("cannot start a process on this worker").await;
    worker.limit_descriptors(limit);
    api.wait_for_status(&id, "succeeded").await;
    eventually("only the child that runs has a directory", async || {
        (std::fs::read_dir(&folder).unwrap().count() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_worker_with_a_server_has_its_other_tasks_too() {
    let own = "[[task]]\nname = \"own\"\ncommand = [\"cat\"]";
    let (stack, api, _worker) = start(&["none"], &format!("processes = 1\n{own}")).await;
    for task in ["own", "a"] {
        Stack::wait_for_task(&api, task).await;
        let id = api.submit(task, &json!(task)).await;
        assert_eq!(api.wait_for_status(&id, "succeeded").await["result"], task);
    }
    eventually("the worker lists both", async || {
        let worker = &api.get("/workers").await.json()["items"][0];
        let has = |task| worker["tasks"].as_array().is_some_and(|all| all.contains(&json!(task)));
        (has("own") && has("a")).then_some(())
    })
    .await;
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_child_that_dies_costs_an_attempt_and_the_next_one_succeeds() {
    let stack = Stack::start();
    let once = stack.directory().join("once");
    let fault = ["--once", once.to_str().unwrap(), "segfault"];
    let (_other, api, _worker) = start(
        &fault,
        "processes = 1\n[[server.task]]\nname = \"a\"\nbackoff = { base = \"1ms\", max = \"1ms\" }",
    )
    .await;
    Stack::wait_for_task(&api, "a").await;
    let id = api.submit("a", &json!(1)).await;
    let job = api.wait_for_status(&id, "succeeded").await;
    assert_eq!(job["attempt"], 2);
    let attempts = api.get(&format!("/jobs/{id}/attempts")).await.json();
    assert!(attempts.to_string().contains("signal 11 (SEGV)"), "{attempts}");
}

#[tokio::test]
async fn children_are_replaced_under_load_and_no_job_fails() {
    let (stack, api, _worker) = start(&["none"], "processes = 2\nmax_jobs = 10").await;
    Stack::wait_for_task(&api, "a").await;
    let mut jobs = Vec::new();
    for number in 0..200 {
        jobs.push(api.submit("a", &json!(number)).await);
    }
    for id in jobs {
        let job = api.wait_for_status(&id, "succeeded").await;
        assert_eq!(job["attempt"], 1);
    }
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn jobs_that_were_claimed_ahead_go_back_when_one_before_them_takes_long() {
    let (stack, api, mut worker) = start(&["none"], "processes = 1").await;
    Stack::wait_for_task(&api, "a").await;
    // So many short jobs that the worker claims ahead, unless this machine is very slow.
    for _ in 0..4 {
        let mut short = Vec::new();
        for number in 0..50 {
            short.push(api.submit("a", &json!(number)).await);
        }
        for id in short {
            api.wait_for_status(&id, "succeeded").await;
        }
    }
    let mut long = Vec::new();
    for _ in 0..6 {
        long.push(api.submit("d", &json!(1)).await);
    }
    eventually("one runs, and the others wait in their queue", async || {
        let mut running = 0;
        for id in &long {
            let job = api.get(&format!("/jobs/{id}")).await.json();
            match (job["status"].as_str()?, job["attempt"].as_u64()?) {
                ("running", 1) => running += 1,
                ("queued", 0) => {}
                _ => return None,
            }
        }
        (running == 1).then_some(())
    })
    .await;
    for id in long {
        api.post_empty(&format!("/jobs/{id}/cancel")).await;
        api.wait_for_status(&id, "canceled").await;
    }
    assert!(worker.terminate().await.success());
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_worker_that_is_killed_leaves_no_child() {
    let (stack, api, mut worker) = start(&["leaks_background"], "processes = 1").await;
    Stack::wait_for_task(&api, "a").await;
    let id = api.submit("a", &json!(1)).await;
    let process = api.wait_for_status(&id, "succeeded").await["result"].as_u64().unwrap();
    let exists = || Path::new(&format!("/proc/{process}")).exists();
    assert!(exists());
    worker.kill().await;
    eventually("nothing of the child is left", async || (!exists()).then_some(())).await;
    drop(stack);
}

#[tokio::test]
async fn run_runs_a_task_of_a_server() {
    let stack = Stack::start();
    let run = async |fault: &str, task: &str| {
        let path = declare(&stack, &[fault], "");
        let script = format!("echo '[1,2]' | {} run {task}", binary("crunch-worker").display());
        let mut command = Command::new("sh");
        command.args(["-c", &script]).env("CRUNCH_TASKS", path).kill_on_drop(true);
        command.output().await.unwrap()
    };
    let output = run("none", "a").await;
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "[1,2]\n".to_owned()));
    let output = run("none", "nope").await;
    assert_eq!(output.status.code(), Some(2));
    let output = run("exits_before_hello", "a").await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no child of server python could start"), "{output:?}");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
