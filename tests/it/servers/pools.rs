//! Workers with several pools, one for their own tasks and one for each server, that read the same queue.

use crunch_common::broker::Library;
use crunch_common::task::TaskDescriptor;

use super::*;

/// Both the task of the worker itself and those of the server wait in this queue.
const SHARED: &str = "processes = 1
[[server.task]]
name = \"a\"
queue = \"shared\"
[[server.task]]
name = \"d\"
queue = \"shared\"
[[task]]
name = \"own\"
queue = \"shared\"
command = [\"cat\"]";

#[tokio::test]
async fn pools_of_a_worker_that_share_a_queue_leave_jobs_to_each_other() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let path = declare(&stack, &["none"], SHARED);
    let mut worker = worker_with(&mut stack, &path);
    for task in ["a", "own"] {
        Stack::wait_for_task(&api, task).await;
    }
    // Whichever pool claims one, that of its task runs it.
    for number in 0..20 {
        for task in ["a", "own"] {
            let id = api.submit(task, &json!(number)).await;
            let job = api.wait_for_status(&id, "succeeded").await;
            assert_eq!((&job["result"], &job["attempt"]), (&json!(number), &json!(1)));
        }
    }
    // While the only child is busy, only the pool of the worker's own tasks has slots.
    let waits = api.submit("d", &json!(1)).await;
    api.wait_for_status(&waits, "running").await;
    let next = api.submit("a", &json!("next")).await;
    worker.wait_for_log("job released for the pool that has it").await;
    let job = api.wait_for_job(&next, "it waits", |job| job["waiting_for"] != Value::Null).await;
    assert_eq!((&job["status"], &job["attempt"]), (&json!("queued"), &json!(0)), "{job}");
    let own = api.submit("own", &json!("own")).await;
    assert_eq!(api.wait_for_status(&own, "succeeded").await["result"], "own");
    api.post_empty(&format!("/jobs/{waits}/cancel")).await;
    assert_eq!(api.wait_for_status(&next, "succeeded").await["result"], "next");
    assert!(!worker.log().contains("no code for this task"), "{}", worker.log());
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_worker_says_that_its_server_does_not_read_the_queue_of_a_job() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let own = "processes = 1\n[[task]]\nname = \"own\"\ncommand = [\"cat\"]";
    let path = declare(&stack, &["none"], own);
    let mut worker = worker_with(&mut stack, &path);
    for task in ["a", "own"] {
        Stack::wait_for_task(&api, task).await;
    }
    let id = api.post("/jobs", &json!({"task": "a", "queue": "own", "payload": 1})).await.id();
    worker.wait_for_log("the part of this worker that has the task does not read the queue").await;
    api.wait_for_job(&id, "it waits", |job| job["waiting_for"]["reason"] == "worker_with_task")
        .await;
    assert!(worker.log().contains("CRUNCH_WORKER_QUEUES"), "{}", worker.log());
    assert!(!worker.log().contains("no code for this task"), "{}", worker.log());
    // As the message says.
    let mut command = stack.command("crunch-worker");
    command.env("CRUNCH_TASKS", &path).env("CRUNCH_WORKER_QUEUES", "own,a").envs([ADDR]);
    let _reads_both = stack.spawn(command, "second");
    assert_eq!(api.wait_for_status(&id, "succeeded").await["result"], 1);
}

#[tokio::test]
async fn a_worker_says_that_another_one_declares_its_task_differently() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let go = stack.directory().join("go");
    let own = "[[task]]\nname = \"own\"\ncommand = [\"cat\"]";
    let child = format!(
        "until [ -e {} ]; do sleep 0.1; done; exec python3 {}/tests/children/wrong.py",
        go.display(),
        root().display()
    );
    let command = json!(["sh", "-c", child]);
    let path = stack.directory().join("tasks.toml");
    let text = format!("builtin = false\n{own}\n[[server]]\nprocesses = 1\ncommand = {command}\n");
    std::fs::write(&path, text).unwrap();
    let mut worker = worker_with(&mut stack, &path);
    Stack::wait_for_task(&api, "own").await;
    // Another worker, with an older version of the task.
    let older = TaskDescriptor::new("own".parse().unwrap());
    let broker = stack.redis.broker("crunch", Library::shipped());
    let replaced = broker.announce(&[], std::slice::from_ref(&older)).await.unwrap();
    assert_eq!(replaced, [older.name]);
    // The tasks of the server are declared with those that were declared before.
    std::fs::write(go, "").unwrap();
    let warning = "another worker declares these tasks differently";
    worker.wait_for_log(warning).await;
    let log = worker.log();
    let line = log.lines().find(|line| line.contains(warning)).unwrap();
    assert!(line.contains("own") && line.contains("docs/upgrade.md"), "{line}");
}
