//! Workers under a supervisor: it reclaims the jobs of a dead one, and shuts all of them down.
//!
//! Leases are ten minutes long here, so no sweep reclaims anything while a test runs.

use crunch_tests::{Process, RedisServer, Stack, Stage, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Waits until a process that is not a child of this one has exited; it may be a zombie.
async fn wait_for_exit(pid: u32) {
    eventually(&format!("process {pid} has exited"), async || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        state.is_none_or(|state| state == 'Z').then_some(())
    })
    .await;
}

async fn terminate(mut supervisor: Process) {
    assert_eq!(supervisor.terminate().await.code(), Some(0), "{}", supervisor.log());
}

fn outcomes(attempts: &Value) -> Vec<&str> {
    let items = attempts["items"].as_array().unwrap();
    items.iter().map(|item| item["outcome"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_killed_workers_job_runs_again_long_before_its_lease_ends() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let mut supervisor = stack.supervisor(&api, 2, &[]).await;
    let stage = Stage::open().await;
    let other = api.submit("act", &stage.payload()).await;
    let other_actor = stage.wait_for_handler().await;
    let id = api.submit("act", &stage.payload()).await;
    let first = stage.wait_for_handler().await;
    assert_ne!(first.pid, other_actor.pid);
    signal(first.pid, Signal::KILL);
    supervisor.wait_for_log("worker process died").await;

    let again = stage.wait_for_handler().await;
    assert_eq!((again.id.as_str(), again.attempt), (id.as_str(), 1));
    assert!(again.pid != first.pid && again.epoch > first.epoch);
    let workers = Stack::wait_for_workers(&api, 2).await;
    assert!(workers.contains(&again.pid) && !workers.contains(&first.pid), "{workers:?}");
    again.returns(&json!("done")).await;
    other_actor.returns(&json!("unaffected")).await;
    api.wait_for_status(&id, "succeeded").await;
    let attempts = api.get(&format!("/jobs/{id}/attempts")).await.json();
    assert_eq!(outcomes(&attempts), ["lost", "succeeded"]);
    api.wait_for_status(&other, "succeeded").await;
    let attempts = api.get(&format!("/jobs/{other}/attempts")).await.json();
    assert_eq!(outcomes(&attempts), ["succeeded"]);
    terminate(supervisor).await;
}

#[tokio::test]
async fn a_job_that_aborts_its_worker_fails_with_its_fifth_loss_and_the_others_succeed() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let mut supervisor = stack.supervisor(&api, 1, &[]).await;
    let poison = api.submit("abort", &json!(null)).await;
    let mut others = Vec::new();

    for n in 0..20 {
        others.push(api.submit("echo", &json!(n)).await);
    }
    let job = api.wait_for_status(&poison, "failed").await;
    assert_eq!(job["error"]["code"], "worker_lost", "{job}");
    let attempts = api.get(&format!("/jobs/{poison}/attempts")).await.json();
    assert_eq!(outcomes(&attempts)[..4], ["lost"; 4]);
    for id in &others {
        api.wait_for_status(id, "succeeded").await;
    }
    supervisor.wait_for_log("jobs.failed=1").await;
    terminate(supervisor).await;
}

#[tokio::test]
async fn a_worker_that_dies_while_redis_is_away_is_reclaimed_when_it_is_back() {
    let mut stack = Stack::on(RedisServer::durable());
    let api = stack.api().await;
    let mut supervisor = stack.supervisor(&api, 1, &[]).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    let first = stage.wait_for_handler().await;

    stack.redis.stop();
    signal(first.pid, Signal::KILL);
    supervisor.wait_for_log("service=\"supervisor\"").await;
    stack.redis.restart();
    let again = stage.wait_for_handler().await;
    assert_eq!(again.id, id);
    again.returns(&json!(null)).await;
    supervisor.wait_for_log("jobs.requeued=1").await;
    terminate(supervisor).await;
}

#[tokio::test]
async fn a_worker_that_another_process_terminated_is_replaced_and_not_reclaimed() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let mut supervisor = stack.supervisor(&api, 1, &[]).await;
    let first = Stack::wait_for_workers(&api, 1).await[0];
    signal(first, Signal::TERM);
    supervisor.wait_for_log("worker process ended").await;
    eventually("another worker has replaced it", async || {
        (Stack::wait_for_workers(&api, 1).await[0] != first).then_some(())
    })
    .await;
    assert!(!supervisor.log().contains("reclaimed the jobs"), "{}", supervisor.log());
    terminate(supervisor).await;
}

#[tokio::test]
async fn all_workers_of_a_terminated_supervisor_finish_their_jobs() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let mut supervisor = stack.supervisor(&api, 3, &[]).await;
    let stage = Stage::open().await;
    let (mut ids, mut actors) = (Vec::new(), Vec::new());

    for _ in 0..3 {
        ids.push(api.submit("act", &stage.payload()).await);
        actors.push(stage.wait_for_handler().await);
    }
    supervisor.signal(Signal::TERM);
    supervisor.wait_for_log("shutting down: the workers finish their running jobs").await;
    let waiting = api.submit("act", &stage.payload()).await;
    for actor in actors {
        actor.returns(&json!("done")).await;
    }
    assert_eq!(supervisor.exited().await.code(), Some(0));
    for id in &ids {
        assert_eq!(api.job(id).await["status"], "succeeded");
    }

    assert_eq!(api.job(&waiting).await["status"], "queued");
    assert!(Stack::wait_for_workers(&api, 0).await.is_empty(), "they have unregistered");
    assert!(!supervisor.log().contains("worker process died"), "{}", supervisor.log());
}

#[tokio::test]
async fn a_second_signal_to_a_supervisor_makes_its_workers_release_their_jobs() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let mut supervisor = stack.supervisor(&api, 1, &[]).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    let mut actor = stage.wait_for_handler().await;

    supervisor.signal(Signal::INT);
    supervisor.wait_for_log("shutting down: no new jobs").await;
    supervisor.signal(Signal::TERM);
    actor.wait_for_stop_request().await;
    assert_eq!(supervisor.exited().await.code(), Some(0));
    assert_eq!(api.job(&id).await["status"], "queued");
    let attempts = api.get(&format!("/jobs/{id}/attempts")).await.json();

    assert_eq!(outcomes(&attempts), ["released"]);
}

#[tokio::test]
async fn a_worker_that_dies_during_shutdown_is_reclaimed_and_changes_the_exit_code() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let mut supervisor = stack.supervisor(&api, 1, &[]).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    supervisor.signal(Signal::TERM);
    supervisor.wait_for_log("shutting down: no new jobs").await;
    signal(actor.pid, Signal::KILL);
    assert_eq!(supervisor.exited().await.code(), Some(1));
    assert_eq!(api.job(&id).await["status"], "queued");
}

#[tokio::test]
async fn workers_of_a_killed_supervisor_finish_their_jobs_and_exit() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let mut supervisor = stack.supervisor(&api, 2, &[]).await;
    let workers = Stack::wait_for_workers(&api, 2).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;

    supervisor.kill().await;
    let idle = workers.iter().find(|&&pid| pid != actor.pid).unwrap();
    wait_for_exit(*idle).await;
    assert_eq!(api.job(&id).await["status"], "running");
    let waiting = api.submit("act", &stage.payload()).await;
    actor.returns(&json!("done")).await;
    assert_eq!(api.wait_for_status(&id, "succeeded").await["result"], "done");
    for pid in workers {
        wait_for_exit(pid).await;
    }

    assert_eq!(api.job(&waiting).await["status"], "queued");
    assert!(supervisor.log().contains("the supervisor has ended"), "{}", supervisor.log());
}

#[tokio::test]
async fn an_invalid_configuration_is_reported_once_and_ends_the_supervisor() {
    let mut stack = Stack::start();
    let environment = [("CRUNCH_WORKER_SUPERVISE", "8"), ("CRUNCH_TASKS", "/nowhere/tasks.toml")];
    let mut supervisor = stack.worker_process(1, &environment);
    assert_eq!(supervisor.exited().await.code(), Some(2));
    assert_eq!(supervisor.log().matches("/nowhere/tasks.toml").count(), 1, "{}", supervisor.log());
}

#[tokio::test]
async fn a_configuration_that_becomes_invalid_does_not_end_running_workers() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let tasks = stack.directory().join("tasks.toml");

    std::fs::write(&tasks, "").unwrap();
    let environment = [("CRUNCH_TASKS", tasks.to_str().unwrap())];
    let mut supervisor = stack.supervisor(&api, 2, &environment).await;
    std::fs::write(&tasks, "not TOML").unwrap();
    let workers = Stack::wait_for_workers(&api, 2).await;
    signal(workers[0], Signal::KILL);
    supervisor.wait_for_log("status=exit status: 2").await;
    assert_eq!(Stack::wait_for_workers(&api, 1).await, workers[1..]);
    std::fs::write(&tasks, "").unwrap();
    Stack::wait_for_workers(&api, 2).await;
    terminate(supervisor).await;
}

#[tokio::test]
async fn a_command_of_a_worker_that_died_is_run_again_and_does_not_outlive_it() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let tasks = stack.directory().join("tasks.toml");
    let task =
        "[[task]]\nname = \"sleep\"\ncommand = [\"sh\", \"-c\", \"echo $$ >>pids; exec sleep 60\"]";

    std::fs::write(&tasks, task).unwrap();
    let environment = [("CRUNCH_TASKS", tasks.to_str().unwrap()), ("CRUNCH_WORKER_GRACE_MS", "0")];
    let supervisor = stack.supervisor(&api, 1, &environment).await;
    api.submit("sleep", &json!(null)).await;
    let commands = async |count: usize| {
        eventually(&format!("{count} commands were started"), async || {
            let text = std::fs::read_to_string(stack.directory().join("pids")).ok()?;
            let pids: Vec<u32> = text.lines().map(|line| line.parse().unwrap()).collect();
            (pids.len() == count).then_some(pids)
        })
        .await
    };
    commands(1).await;
    signal(Stack::wait_for_workers(&api, 1).await[0], Signal::KILL);
    let both = commands(2).await;
    wait_for_exit(both[0]).await;
    terminate(supervisor).await;
    wait_for_exit(both[1]).await;
}

#[tokio::test]
async fn a_worker_with_an_invalid_supervision_mark_reports_it_and_exits() {
    let mut stack = Stack::start();
    for mark in ["1", "8b9a9633-892d-492a-bc67-e4ebb7df5bfe"] {
        let mut worker = stack.worker_process(1, &[("CRUNCH_SUPERVISED", mark)]);
        assert_eq!(worker.exited().await.code(), Some(2));
        assert!(worker.log().contains("CRUNCH_SUPERVISED is set only by supervisors"));
    }
}
