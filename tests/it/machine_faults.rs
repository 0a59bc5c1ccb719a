//! A job that a worker's machine cannot run is released uncharged, and runs as soon as this machine, or another one,
//! can run it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crunch_tests::{Api, Process, Stack, Worker, eventually};
use reqwest::{Method, StatusCode};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::worker_health::{ADDR, HealthPort, READY, UNREADY};

/// A folder with a `tasks.toml` that declares `./program` as the task `script`, and with the program.
fn declare(stack: &Stack, name: &str, options: &str) -> PathBuf {
    let folder = stack.directory().join(name);
    std::fs::create_dir(&folder).unwrap();
    install(&folder);
    let task = "[[task]]\nname = \"script\"\ncommand = [\"./program\"]\nmax_attempts = 1";
    std::fs::write(folder.join("tasks.toml"), format!("{task}\n{options}\n")).unwrap();
    folder
}

/// The program returns the name of its folder.
fn install(folder: &Path) {
    let program = folder.join("program");
    std::fs::write(&program, "#!/bin/sh\nprintf '\"%s\"' $(basename $PWD)\n").unwrap();
    set_mode(&program, 0o755);
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

fn uninstall(folder: &Path) {
    std::fs::remove_file(folder.join("program")).unwrap();
}

async fn start_worker_in(stack: &mut Stack, api: &Api, folder: &Path) -> Worker {
    let tasks = folder.join("tasks.toml");
    stack.worker_with(api, 2, &[("CRUNCH_TASKS", tasks.to_str().unwrap())]).await
}

/// Waits until the job was released uncharged because of the machine; returns the reason.
async fn wait_for_release(api: &Api, id: &str) -> String {
    let is_released = |job: &Value| job["waiting_for"]["reason"] == "machine";
    let job = api.wait_for_job(id, "it waits for a machine", is_released).await;
    assert_eq!((&job["attempt"], &job["error"]), (&json!(0), &Value::Null), "{job}");
    job["waiting_for"]["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_job_whose_program_is_missing_waits_uncharged_and_runs_when_it_appears() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let folder = declare(&stack, "only", "");
    let _worker = start_worker_in(&mut stack, &api, &folder).await;
    uninstall(&folder);
    let id = api.submit("script", &json!(null)).await;
    let reason = wait_for_release(&api, &id).await;
    assert!(reason.contains("cannot start") && reason.contains("No such file"), "{reason}");
    install(&folder);
    let job = api.wait_for_status(&id, "succeeded").await;
    assert_eq!((&job["result"], &job["attempt"]), (&json!("only"), &json!(1)));
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_job_whose_working_directory_is_missing_waits_uncharged_and_runs_when_it_appears() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let work = stack.directory().join("work");
    std::fs::create_dir(&work).unwrap();
    let folder = declare(&stack, "only", "cwd = \"../work\"");
    let _worker = start_worker_in(&mut stack, &api, &folder).await;
    std::fs::remove_dir(&work).unwrap();
    let id = api.submit("script", &json!(null)).await;
    let reason = wait_for_release(&api, &id).await;
    assert!(reason.contains("working directory") && reason.contains("does not exist"), "{reason}");
    std::fs::create_dir(&work).unwrap();
    api.wait_for_status(&id, "succeeded").await;
}

/// Sets how many files a process may open; files that are already open stay open.
fn limit_open_files(process: &Process, limit: u64) {
    let pid = Pid::from_raw(process.pid().cast_signed());
    let limit = Rlimit { current: Some(limit), ..getrlimit(Resource::Nofile) };
    prlimit(pid, Resource::Nofile, limit).unwrap();
}

#[tokio::test]
async fn a_worker_out_of_descriptors_fails_no_job() {
    const FEW: u64 = 8;
    let mut stack = Stack::start();
    let api = stack.api().await;
    let folder = declare(&stack, "only", "");
    let worker = start_worker_in(&mut stack, &api, &folder).await;
    limit_open_files(&worker, FEW);
    let id = api.submit("script", &json!(null)).await;
    let reason = wait_for_release(&api, &id).await;
    assert!(reason.contains("Too many open files"), "{reason}");
    limit_open_files(&worker, 1024);
    let job = api.wait_for_status(&id, "succeeded").await;
    assert_eq!(job["attempt"], 1);
}

/// A user of the system without any rights: the number of root's processes has no limit.
const NOBODY: u32 = 65534;

fn without_rights(command: &mut Command) {
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
}

async fn start_worker_without_rights(stack: &mut Stack, api: &Api, folder: &Path) -> Process {
    set_mode(stack.directory(), 0o755);
    let mut command = stack.command("test-worker");
    command.env("CRUNCH_TASKS", folder.join("tasks.toml"));
    without_rights(&mut command);
    let worker = stack.spawn(command, "worker");
    Stack::wait_for_task(api, "script").await;
    worker
}

/// Sets how many processes the user of a process that was started [`without_rights`] may have, as that process sees it.
/// Root in a container may not be permitted to do so.
async fn limit_processes(process: &Process, max: Option<u64>) {
    let max = max.map_or_else(|| "unlimited".to_owned(), |max| max.to_string());
    let mut limit = Command::new("prlimit");
    limit.arg(format!("--nproc={max}:")).args(["--pid", &process.pid().to_string()]);
    without_rights(&mut limit);
    assert!(limit.status().await.unwrap().success());
}

#[tokio::test]
async fn a_worker_that_cannot_start_processes_fails_no_job() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let folder = declare(&stack, "only", "");
    set_mode(&folder, 0o755);
    let worker = start_worker_without_rights(&mut stack, &api, &folder).await;
    limit_processes(&worker, Some(0)).await;
    let id = api.submit("script", &json!(null)).await;
    let reason = wait_for_release(&api, &id).await;
    assert!(reason.contains("Resource temporarily unavailable"), "{reason}");
    limit_processes(&worker, getrlimit(Resource::Nproc).current).await;
    api.wait_for_status(&id, "succeeded").await;
}

#[tokio::test]
async fn a_job_waits_uncharged_while_its_working_directory_has_become_read_only() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let folder = declare(&stack, "only", "cwd = \"work\"");
    let work = folder.join("work");

    std::fs::create_dir(&work).unwrap();
    set_mode(&folder, 0o755);
    set_mode(&work, 0o777);
    let _worker = start_worker_without_rights(&mut stack, &api, &folder).await;
    set_mode(&work, 0o555);
    let id = api.submit("script", &json!(null)).await;
    let reason = wait_for_release(&api, &id).await;
    assert!(reason.contains("is no longer writable: Permission denied"), "{reason}");
    set_mode(&work, 0o777);
    api.wait_for_status(&id, "succeeded").await;
}

#[tokio::test]
async fn a_working_directory_that_was_read_only_from_the_start_is_accepted() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let folder = declare(&stack, "only", "");
    set_mode(&folder, 0o555);
    let _worker = start_worker_without_rights(&mut stack, &api, &folder).await;
    let id = api.submit("script", &json!(null)).await;
    api.wait_for_status(&id, "succeeded").await;
    // So that it can be deleted by a user who is not root.
    set_mode(&folder, 0o755);
}

/// The same command in a new mount namespace, where a full file system is mounted on `folder`. `None` if this system
/// does not permit that.
async fn with_full_disk(command: &Command, folder: &Path) -> Option<Command> {
    let mut probe = Command::new("unshare");
    if !probe.args(["-rm", "true"]).output().await.is_ok_and(|output| output.status.success()) {
        return None;
    }
    let script =
        "mount -t tmpfs -o size=4k none \"$FOLDER\" && head -c 4096 /dev/zero > \"$FOLDER/full\"
        (while kill -0 $$ && [ ! -e \"$FOLDER.go\" ]; do sleep 0.05; done; rm \"$FOLDER/full\") &
        exec \"$0\"";
    let inner = command.as_std();
    let mut full = Command::new("unshare");
    full.args(["-rm", "sh", "-c", script]).arg(inner.get_program()).env_clear();
    full.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    full.env("FOLDER", folder);
    Some(full)
}

#[tokio::test]
async fn a_job_waits_uncharged_while_the_temporary_directory_is_full() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let folder = declare(&stack, "only", "");
    let scratch = stack.directory().join("scratch");

    std::fs::create_dir(&scratch).unwrap();
    let mut command = stack.command("test-worker");
    command.env("CRUNCH_TASKS", folder.join("tasks.toml")).env("TMPDIR", &scratch);
    let Some(command) = with_full_disk(&command, &scratch).await else { return };
    let _worker = stack.spawn(command, "worker");
    Stack::wait_for_task(&api, "script").await;
    let id = api.submit("script", &json!(null)).await;
    let reason = wait_for_release(&api, &id).await;
    assert!(reason.contains("no room for temporary files"), "{reason}");
    std::fs::write(scratch.with_extension("go"), "").unwrap();
    api.wait_for_status(&id, "succeeded").await;
}

/// The tasks of a worker that are suspended, as an API shows them; waits until there are any.
async fn wait_for_suspended(api: &Api, worker: &Worker) -> Value {
    eventually("a task is suspended", async || {
        let workers = api.get("/workers").await.json();
        let mut items = workers["items"].as_array()?.iter();
        let suspended = items.find(|item| item["pid"] == worker.pid())?["suspended"].clone();
        (!suspended.as_array()?.is_empty()).then_some(suspended)
    })
    .await
}

/// Waits until the worker is ready, or not ready, with a reason that contains these words; returns the reason.
async fn wait_for_reason(port: &HealthPort, status: StatusCode, words: &str) -> String {
    eventually(&format!("/readyz is {status} with {words:?}"), async || {
        let (now, body) = port.request(Method::GET, "/readyz").await;
        let reason = body["reasons"][0].as_str().unwrap_or_default();
        (now == status && reason.contains(words)).then(|| reason.to_owned())
    })
    .await
}

fn count_in_log(worker: &Worker, line: &str) -> usize {
    worker.log().matches(line).count()
}

/// Waits until the worker has released jobs this many times because of the machine.
async fn wait_for_faults(worker: &Worker, times: usize) {
    eventually("the machine fails again", async || {
        (count_in_log(worker, "job released: this machine cannot run it now") >= times)
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_task_that_cannot_run_is_suspended_and_the_others_continue() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let folder = declare(&stack, "only", "");
    let tasks = folder.join("tasks.toml");
    let environment = [("CRUNCH_TASKS", tasks.to_str().unwrap()), ADDR];
    let mut worker = stack.worker_with(&api, 2, &environment).await;
    let port = HealthPort::of(&mut worker).await;
    uninstall(&folder);
    let id = api.submit("script", &json!(null)).await;
    let shown = wait_for_suspended(&api, &worker).await;
    assert_eq!(shown[0]["task"], "script");
    assert!(shown[0]["reason"].as_str().unwrap().contains("No such file"), "{shown}");
    assert!(shown[0]["until"].is_string() && shown[1].is_null(), "{shown}");
    let reason = wait_for_reason(&port, READY, "task script is suspended").await;
    assert!(reason.contains("No such file"), "{reason}");
    eventually("the metrics show it", async || {
        let metrics = String::from_utf8(api.get("/metrics").await.body.to_vec()).unwrap();
        metrics.contains("\ncrunch_task_suspended_workers{task=\"script\"} 1\n").then_some(())
    })
    .await;
    let other = api.submit("echo", &json!(1)).await;
    api.wait_for_status(&other, "succeeded").await;

    // The job may be claimed while its task is suspended: it is then parked, and not claimed again at once.
    let more = api.submit("script", &json!(null)).await;
    wait_for_faults(&worker, 2).await;
    install(&folder);
    for id in [id, more] {
        api.wait_for_status(&id, "succeeded").await;
    }
    assert!(count_in_log(&worker, "the task is suspended on this worker") < 10, "{}", worker.log());
    worker.wait_for_log("this machine can run the task again").await;
    assert_eq!(count_in_log(&worker, "this machine cannot run the task:"), 1, "{}", worker.log());
    eventually("nothing is suspended", async || {
        let (_, body) = port.request(Method::GET, "/readyz").await;
        (body["reasons"].is_null()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_can_run_no_task_takes_none_and_leaves_them_to_others() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let folder = declare(&stack, "only", "");
    let tasks = folder.join("tasks.toml");
    let alone = std::fs::read_to_string(&tasks).unwrap();
    std::fs::write(&tasks, format!("builtin = false\n{alone}")).unwrap();
    let mut command = stack.command("crunch-worker");
    command.env("CRUNCH_TASKS", &tasks).env(ADDR.0, ADDR.1);
    let mut worker = stack.spawn(command, "worker");
    let port = HealthPort::of(&mut worker).await;
    Stack::wait_for_task(&api, "script").await;
    uninstall(&folder);
    let first = api.submit("script", &json!(null)).await;
    let reason = wait_for_reason(&port, UNREADY, "task script is suspended").await;
    assert!(reason.contains("No such file"), "{reason}");

    wait_for_faults(&worker, 2).await;
    let second = api.submit("script", &json!(null)).await;
    let other = declare(&stack, "other", "");
    let _other = start_worker_in(&mut stack, &api, &other).await;
    for id in [second, first] {
        let job = api.wait_for_status(&id, "succeeded").await;
        assert_eq!((&job["result"], &job["attempt"]), (&json!("other"), &json!(1)));
    }
    assert_eq!(
        count_in_log(&worker, "the task is suspended on this worker"),
        0,
        "{}",
        worker.log()
    );
    eventually("the worker is ready to retry", async || {
        (port.request(Method::GET, "/readyz").await.0 == READY).then_some(())
    })
    .await;
    stack.assert_clean_audit().await;
}
