//! Commands in other languages, from `tasks.toml` to the client.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crunch_tests::{Api, Stack, Worker, eventually};
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::process::Command;

fn example(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join("examples").join(name).join("tasks.toml").to_str().unwrap().to_owned()
}

/// Writes a `tasks.toml` with one task that is a shell script.
fn declare(stack: &Stack, script: &str, options: &str) -> PathBuf {
    let path = stack.directory().join("tasks.toml");
    let command = json!(["sh", "-c", script]);
    std::fs::write(&path, format!("[[task]]\nname = \"script\"\ncommand = {command}\n{options}\n"))
        .unwrap();
    path
}

async fn start_with_tasks(path: &str) -> (Stack, Api, Worker) {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let worker = stack.worker_with(&api, 1, &[("CRUNCH_TASKS", path)]).await;
    (stack, api, worker)
}

async fn start_with_script(script: &str, options: &str) -> (Stack, Api, Worker) {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let path = declare(&stack, script, options);
    let worker = stack.worker_with(&api, 1, &[("CRUNCH_TASKS", path.to_str().unwrap())]).await;
    (stack, api, worker)
}

#[tokio::test]
async fn the_python_example_counts_words() {
    let (_stack, api, _worker) = start_with_tasks(&example("word-count")).await;
    let id = api.submit("word.count", &json!({ "text": "to be or not to be", "top": 1 })).await;
    let job = api.wait_for_status(&id, "succeeded").await;
    let counted = json!({ "words": 6, "different": 4, "top": [{ "word": "be", "count": 2 }] });
    assert_eq!((&job["result"], &job["progress"]), (&counted, &json!(1.0)));

    let latin1 = api.request(Method::POST, "/tasks/word.count/jobs");
    let id = api.send(latin1.header("content-type", "text/plain").body(vec![0xe4])).await.id();
    let job = api.wait_for_status(&id, "failed").await;
    assert_eq!((&job["error"]["retryable"], &job["attempt"]), (&json!(false), &json!(1)));
}

#[tokio::test]
async fn a_command_puts_its_job_off() {
    let script = r#"test -e "$0" && exec cat "$0"; echo 1 >"$0"
        echo '{"error": {"snooze_ms": 300}}' >&"$CRUNCH_EVENTS_FD"; exit 1"#;
    let mut stack = Stack::start();
    let api = stack.api().await;
    let path = stack.directory().join("tasks.toml");
    let command = json!(["sh", "-c", script, stack.directory().join("ready")]);
    let task = format!("[[task]]\nname = 'script'\nstart_within = '1h'\ncommand = {command}\n");
    std::fs::write(&path, task).unwrap();
    let _worker = stack.worker_with(&api, 1, &[("CRUNCH_TASKS", path.to_str().unwrap())]).await;
    let id = api.submit_with("script", &json!(null), &json!({ "max_attempts": 1 })).await;
    let job = api.wait_for_status(&id, "succeeded").await;
    assert_eq!(
        (&job["result"], &job["attempt"], &job["snoozes"]),
        (&json!(1), &json!(1), &json!(1))
    );
    let task = api.get("/tasks/script").await.json();
    assert_eq!(task["start_within_ms"], 3_600_000);
}

#[tokio::test]
async fn the_schemas_of_the_python_example_are_published_and_refuse_invalid_payloads() {
    let (_stack, api, _worker) = start_with_tasks(&example("word-count")).await;
    let task = api.get("/tasks/word.count").await.json();

    assert_eq!(task["payload_schema"]["properties"]["top"]["maximum"], 1000);
    assert_eq!(task["result_schema"]["required"], json!(["words", "different", "top"]));
    let refused = api.post("/tasks/word.count/jobs", &json!({ "text": 7, "top": 0 })).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{refused:?}");
    let mut errors = refused.json()["errors"].as_array().unwrap().clone();
    errors.sort_by_key(|error| error["pointer"].to_string());
    let expected = json!([
        { "detail": "the value is not of type \"string\"", "pointer": "/text" },
        { "detail": "the value is less than the minimum of 1", "pointer": "/top" },
    ]);

    assert_eq!(json!(errors), expected);
}

#[tokio::test]
async fn a_result_that_violates_its_schema_fails_its_job_without_retry() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    std::fs::write(stack.directory().join("r.json"), r#"{"type": "integer"}"#).unwrap();
    let path = declare(&stack, "cat", "result_schema = \"r.json\"");
    let _worker = stack.worker_with(&api, 1, &[("CRUNCH_TASKS", path.to_str().unwrap())]).await;
    let wrong = api.submit("script", &json!("seven")).await;
    let error = api.wait_for_status(&wrong, "failed").await["error"].take();
    assert_eq!((&error["code"], &error["retryable"]), (&json!("result_invalid"), &json!(false)));
    assert!(error["message"].as_str().unwrap().contains("not of type"), "{error}");
    let right = api.submit("script", &json!(7)).await;
    assert_eq!(api.wait_for_status(&right, "succeeded").await["result"], 7);
}

#[tokio::test]
async fn the_shell_example_reads_and_returns_plain_text() {
    let (_stack, api, _worker) = start_with_tasks(&example("shell-pipeline")).await;
    let submit = api
        .request(Method::POST, "/tasks/lines.top/jobs")
        .header("content-type", "text/plain")
        .body("pear\napple\npear\n");
    let id = api.send(submit).await.id();

    api.wait_for_status(&id, "succeeded").await;
    let result = api.get(&format!("/jobs/{id}/result")).await;
    assert_eq!(result.header("content-type"), "text/plain");
    let text = String::from_utf8(result.body.to_vec()).unwrap();
    let lines: Vec<_> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();

    assert_eq!(lines, [["2", "pear"], ["1", "apple"]]);
}

#[tokio::test]
async fn a_failed_command_reports_its_last_lines() {
    let script = "echo cannot open the oven >&2; exit 3";
    let (_stack, api, _worker) = start_with_script(script, "max_attempts = 1").await;
    let id = api.submit("script", &json!(null)).await;
    let job = api.wait_for_status(&id, "failed").await;
    assert_eq!(job["error"]["code"], "command_failed");
    let message = job["error"]["message"].as_str().unwrap();
    assert!(message.contains('3') && message.ends_with("cannot open the oven"), "{message}");
}

/// The output of a command may contain its payload. Its messages are in the job's document and log, for those who may
/// read the job.
#[tokio::test]
async fn the_worker_logs_how_jobs_end_but_none_of_their_content() {
    let script = "import sys, traceback\npayload = sys.stdin.read()\nif payload == '1': print(2); sys.exit()\n\
                  try:\n    raise ValueError(payload)\nexcept ValueError:\n    traceback.print_exc(); sys.exit(65)";
    let mut stack = Stack::start();
    let api = stack.api().await;
    let path = stack.directory().join("script.toml");
    let command = json!(["python3", "-c", script]);
    std::fs::write(&path, format!("[[task]]\nname = \"script\"\ncommand = {command}\n")).unwrap();
    let worker = stack.worker_with(&api, 1, &[("CRUNCH_TASKS", path.to_str().unwrap())]).await;

    let id = api.submit("script", &json!({ "card": "4111-1111" })).await;
    let message = api.wait_for_status(&id, "failed").await["error"]["message"].clone();
    assert!(message.as_str().unwrap().contains("4111-1111"), "{message}");
    let lines = api.get(&format!("/jobs/{id}/logs")).await.json();
    assert!(
        lines["items"].as_array().unwrap().len() == 3,
        "each line of a traceback is a line of the log"
    );
    for _ in 0..2 {
        let id = api.submit("script", &json!(1)).await;
        api.wait_for_status(&id, "succeeded").await;
    }

    let log = worker.log();
    assert!(!log.contains("4111") && !log.contains("Traceback") && !log.contains("\\n"), "{log}");
    let failed = log.lines().find(|line| line.contains("job failed")).unwrap();
    assert!(failed.contains("command_failed") && failed.contains("message_bytes"), "{failed}");
    assert!(failed.contains(&id), "{failed}");
    assert!(log.lines().any(|line| line.contains(" INFO ") && line.contains("succeeded")), "{log}");
}

#[tokio::test]
async fn a_killed_command_is_reported_and_the_worker_continues() {
    let script = "read -r line; case $line in die) kill -9 $$ ;; esac; echo 1";
    let (_stack, api, _worker) =
        start_with_script(script, "max_attempts = 1\naccepts = [\"text/plain\"]").await;
    let send = async |text: &'static str| {
        let submit = api.request(Method::POST, "/tasks/script/jobs");
        api.send(submit.header("content-type", "text/plain").body(text)).await.id()
    };
    let killed = send("die\n").await;
    assert_eq!(api.wait_for_status(&killed, "failed").await["error"]["code"], "command_killed");
    let fine = send("live\n").await;
    assert_eq!(api.wait_for_status(&fine, "succeeded").await["result"], 1);
}

#[tokio::test]
async fn a_result_that_is_not_json_fails_the_job() {
    let (_stack, api, _worker) = start_with_script("echo this is no JSON", "").await;
    let id = api.submit("script", &json!(null)).await;
    assert_eq!(api.wait_for_status(&id, "failed").await["error"]["code"], "result_invalid");
}

#[tokio::test]
async fn a_canceled_command_is_stopped_with_all_its_children() {
    let script = "sleep 1000 & echo $! > \"$PIDS\"; echo $$ >> \"$PIDS\"; wait";
    let mut stack = Stack::start();
    let pids = stack.directory().join("pids");
    let api = stack.api().await;
    let options = format!("[task.env]\nPIDS = {}", json!(pids));
    let path = declare(&stack, script, &options);
    let _worker = stack.worker_with(&api, 1, &[("CRUNCH_TASKS", path.to_str().unwrap())]).await;
    let id = api.submit("script", &json!(null)).await;
    let started = eventually("the command and its child run", async || {
        let text = std::fs::read_to_string(&pids).unwrap_or_default();
        (text.lines().count() == 2).then_some(text)
    })
    .await;
    let cancel = api.post(&format!("/jobs/{id}/cancel"), &json!({})).await;

    assert_eq!(cancel.status, StatusCode::ACCEPTED);
    api.wait_for_status(&id, "canceled").await;
    for pid in started.lines() {
        assert!(!Path::new("/proc").join(pid).exists(), "process {pid} is still running");
    }
}

#[tokio::test]
async fn a_broken_tasks_file_names_every_line_and_exits_2() {
    let stack = Stack::start();
    let path = stack.directory().join("tasks.toml");
    let text = "[[task]]\nname = \"a\"\ncommand = [\"sh\"]\nspeed = 9\n\n[[task]]\nname = \"a\"\ncommand = [\"no-such-program\"]\ntimeout = \"soon\"\n";

    std::fs::write(&path, text).unwrap();
    let output = stack.command("test-worker").env("CRUNCH_TASKS", &path).output().await.unwrap();
    let error_output = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error_output}");
    for (line, word) in [(4, "speed"), (7, "twice"), (8, "no-such-program"), (9, "timeout")] {
        let place = format!("tasks.toml:{line}:");
        assert!(
            error_output.lines().any(|text| text.contains(&place) && text.contains(word)),
            "nothing about {word} in line {line}:\n{error_output}"
        );
    }
}

#[tokio::test]
async fn a_command_gets_the_trace_context_of_its_job() {
    let script = "printf '\"%s %s\"' \"${TRACEPARENT-none}\" \"${TRACESTATE-none}\"";
    let (_stack, api, _worker) = start_with_script(script, "").await;
    let (trace, span) = ("00-0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let parent = format!("{trace}-{span}-01");

    for (given, state, expected) in [
        (parent.as_str(), "a=1,b=2", "a=1,b=2"),
        (&parent, "", "none"),
        ("nonsense", "a=1", "none"),
    ] {
        let request = api.request(Method::POST, "/jobs").json(&json!({ "task": "script" }));
        let request = request.header("traceparent", given).header("tracestate", state);
        let job = api.wait_for_status(&api.send(request).await.id(), "succeeded").await;
        let (own, trace_state) = job["result"].as_str().unwrap().split_once(' ').unwrap();
        assert_eq!(trace_state, expected);
        if given == "nonsense" {
            assert_eq!(own, "none");
        } else {
            assert!(own.starts_with(trace) && own.ends_with("-01"), "{own}");
            assert!(!own.contains(span), "the attempt has its own span: {own}");
        }
    }
}

#[tokio::test]
async fn all_jobs_of_a_batch_belong_to_its_trace() {
    let (_stack, api, _worker) =
        start_with_script("printf '\"%s\"' \"${TRACEPARENT-none}\"", "").await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c";
    let batch = json!({ "jobs": [{ "task": "script" }, { "task": "script" }] });
    let request = api.request(Method::POST, "/jobs/batch").json(&batch);
    let request = request.header("traceparent", format!("{trace}-b7ad6b7169203331-01"));
    let answer = api.send(request).await.json();
    for item in answer["items"].as_array().unwrap() {
        let job = api.wait_for_status(item["job"]["id"].as_str().unwrap(), "succeeded").await;
        assert!(job["result"].as_str().unwrap().starts_with(trace), "{job}");
    }
}

/// A user of the system without any rights, for tests that run as root.
const NOBODY: u32 = 65534;

#[tokio::test]
async fn a_command_cannot_read_the_address_of_redis() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    // Its own environment, that of its launcher, and that of the worker, which is the launcher's parent.
    let script = "worker=$(cut -d' ' -f4 /proc/$PPID/stat)
        for process in self $PPID $worker; do
            tr '\\0' '\\n' 2>&1 < /proc/$process/environ | grep -c CRUNCH_REDIS_URL
            tr '\\0' '\\n' < /proc/$process/cmdline | grep -c redis://
        done | sort -u";
    let path = declare(&stack, script, "content_type = \"text/plain\"");

    for path in [path.as_path(), stack.directory()] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let mut command = stack.command("test-worker");
    command.env("CRUNCH_TASKS", &path);
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let _worker = stack.spawn(command, "worker");
    Stack::wait_for_task(&api, "script").await;
    let id = api.submit("script", &json!(null)).await;
    api.wait_for_status(&id, "succeeded").await;
    let found = api.get(&format!("/jobs/{id}/result")).await;

    assert_eq!(&found.body[..], b"0\n", "{found:?}");
}

#[tokio::test]
async fn accepted_labels_reach_the_command_and_larger_ones_are_refused() {
    let (_stack, api, _worker) = start_with_script("printf %s \"$CRUNCH_METADATA\"", "").await;
    let labels = |count: usize| -> serde_json::Map<_, _> {
        (0..count).map(|at| (format!("k{at:02}"), json!("\u{1}".repeat(1024)))).collect()
    };
    let id = api
        .send(
            api.request(Method::POST, "/jobs")
                .json(&json!({ "task": "script", "metadata": labels(15) })),
        )
        .await
        .id();

    api.wait_for_status(&id, "succeeded").await;
    assert_eq!(api.get(&format!("/jobs/{id}/result")).await.json(), json!(labels(15)));
    let refused = api.post("/jobs", &json!({ "task": "script", "metadata": labels(16) })).await;

    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{refused:?}");
    assert_eq!(refused.json()["errors"][0]["pointer"], "/metadata/k15");
}

/// The same command, with a soft limit on open files.
fn with_open_files(command: &Command, limit: u32) -> Command {
    let inner = command.as_std();
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("ulimit -Sn {limit}; exec \"$0\"")]).arg(inner.get_program());
    limited.env_clear();
    limited.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited
}

#[tokio::test]
async fn all_slots_run_commands_though_the_soft_limit_on_open_files_is_lower() {
    const SLOTS: usize = 40;
    let mut stack = Stack::start();
    let api = stack.api().await;
    // Each ends when all have started.
    let script = "touch $CRUNCH_JOB_ID.here
        until [ $(ls | grep -c here) -ge 40 ]; do sleep 0.1; done
        ulimit -Sn";
    let path = declare(&stack, script, "");
    let mut command = stack.command("test-worker");

    command.env("CRUNCH_TASKS", &path).env("CRUNCH_WORKER_CONCURRENCY", SLOTS.to_string());
    let _worker = stack.spawn(with_open_files(&command, 100), "worker");
    Stack::wait_for_task(&api, "script").await;
    let batch = json!({ "jobs": vec![json!({ "task": "script" }); SLOTS] });
    let answer = api.post("/jobs/batch", &batch).await.json();
    for item in answer["items"].as_array().unwrap() {
        let job = api.wait_for_status(item["job"]["id"].as_str().unwrap(), "succeeded").await;
        assert_eq!((&job["result"], &job["attempt"]), (&json!(100), &json!(1)));
    }
}
