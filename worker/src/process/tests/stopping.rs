//! No process of a command survives a cancellation, the end of the command, or the death of the worker.

use std::process::Stdio;

use super::*;

/// Set for the process that acts as a worker: the directory of its command.
const WORKER_FOLDER: &str = "CRUNCH_TEST_WORKER_FOLDER";

/// A command with a child in its process group and one that left it; all three write their process ids to files.
const TREE: &str = "sleep 1000 & echo $! > child
                      setsid sh -c 'echo $$ > runaway; exec sleep 1000' &
                      echo $$ > command; wait";

async fn tree_in(folder: &Path) -> [Pid; 3] {
    let mut tree = Vec::new();
    for file in ["command", "child", "runaway"] {
        tree.push(pid_in(&folder.join(file)).await);
    }
    tree.try_into().unwrap()
}

async fn wait_for_deaths(tree: [Pid; 3]) {
    for process in tree {
        wait_for_death(process).await;
    }
}

#[tokio::test]
async fn what_a_command_leaves_behind_ends_with_it() {
    let fixture = Fixture::sh(
        "sleep 1000 & echo $! > child
         setsid sh -c 'trap \"\" TERM HUP; echo $$ > runaway; while :; do sleep 1; done' &
         while [ ! -s runaway ]; do :; done; echo 1",
    );
    let start = Instant::now();
    assert_eq!(fixture.run("").await.unwrap(), "1");
    assert!(start.elapsed() < Duration::from_secs(5), "the handler does not wait for open pipes");
    assert!(is_dead(fixture.pid_in("child").await));
    assert!(is_dead(fixture.pid_in("runaway").await));
}

#[tokio::test]
async fn a_cancel_ends_the_whole_process_tree() {
    let fixture = Fixture::sh(TREE);
    let running = fixture.start();
    let tree = tree_in(fixture.folder.path()).await;
    fixture.job.cancellation().cancel();
    let start = Instant::now();
    as_text(running.await.unwrap()).unwrap_err();
    // A process that left the group gets TERM too, once its parent has ended: so the grace period is not used up.
    assert!(start.elapsed() < Duration::from_secs(5));
    wait_for_deaths(tree).await;
}

#[tokio::test]
async fn a_command_that_succeeds_when_it_is_stopped_has_no_result() {
    let fixture = Fixture::sh(
        "trap 'echo stopped > stopped; echo 1; exit 0' TERM
         sleep 1000 & echo $$ > command; wait",
    );
    let running = fixture.start();
    fixture.pid_in("command").await;
    fixture.job.cancellation().cancel();
    let error = as_text(running.await.unwrap()).unwrap_err();
    assert_eq!(error.message, "the command was stopped");
    assert!(fixture.folder.path().join("stopped").exists());
}

#[tokio::test]
async fn the_grace_period_is_for_the_whole_process_group() {
    // The leader exits at once, as shells do; its child saves its state.
    let fixture = Fixture::python(
        "import os, signal, subprocess, sys\n\
         child = 'import signal, time, sys, pathlib\\n\
         def save(*_): time.sleep(0.5); pathlib.Path(\"saved\").write_text(\"x\"); sys.exit()\\n\
         signal.signal(signal.SIGTERM, save); pathlib.Path(\"child\").write_text(\"1\\\\n\")\\n\
         while True: signal.pause()'\n\
         subprocess.Popen([sys.executable, '-c', child])\n\
         signal.pause()",
    );
    let running = fixture.start();
    fixture.pid_in("child").await;
    fixture.job.cancellation().cancel();
    as_text(running.await.unwrap()).unwrap_err();
    assert!(fixture.folder.path().join("saved").exists());
}

#[tokio::test]
async fn a_command_that_ignores_term_is_killed_after_five_seconds() {
    let fixture =
        Fixture::sh("trap '' TERM; sleep 1000 & echo $! > child; echo $$ > command; wait");
    let running = fixture.start();
    let (command, child) = (fixture.pid_in("command").await, fixture.pid_in("child").await);
    fixture.job.cancellation().cancel();
    let start = Instant::now();
    as_text(running.await.unwrap()).unwrap_err();
    let took = start.elapsed();
    assert!(Duration::from_secs(5) <= took && took < crate::stop::STOP_GRACE, "{took:?}");
    assert!(is_dead(command) && is_dead(child));
}

#[tokio::test]
async fn a_command_that_is_canceled_before_its_start_is_stopped() {
    let fixture = Fixture::sh("sleep 1000");
    fixture.job.cancellation().cancel();
    assert_eq!(fixture.run("").await.unwrap_err().message, "the command was stopped");
}

#[tokio::test]
async fn nothing_survives_a_handler_that_is_dropped() {
    let fixture = Fixture::sh(TREE);
    let running = fixture.start();
    let tree = tree_in(fixture.folder.path()).await;
    running.abort();
    wait_for_deaths(tree).await;
}

#[tokio::test]
async fn nothing_survives_a_worker_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = std::process::Command::new("/proc/self/exe")
        .args(["--exact", "process::tests::stopping::a_worker_that_will_be_killed", "--nocapture"])
        .env(WORKER_FOLDER, folder.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let tree = tree_in(folder.path()).await;
    let launcher = pid_in(&folder.path().join("launcher")).await;
    worker.kill().unwrap();
    worker.wait().unwrap();
    wait_for_deaths(tree).await;
    wait_for_death(launcher).await;
}

/// Not a test: the worker that the test above starts and kills.
#[tokio::test]
async fn a_worker_that_will_be_killed() {
    if let Some(folder) = std::env::var_os(WORKER_FOLDER) {
        let mut fixture = Fixture::sh(&format!("echo $PPID > launcher; {TREE}"));
        fixture.handler.command.directory = folder.into();
        fixture.run("").await.unwrap();
    }
}

/// Repeated, because the launcher is killed as soon as the command has written the launcher's process id,
/// perhaps before any report was sent.
#[tokio::test]
async fn the_death_of_a_launcher_ends_its_command() {
    for _ in 0..20 {
        let fixture = Fixture::sh("echo $PPID > launcher; sleep 1000 & wait");
        let running = fixture.start();
        kill_process(fixture.pid_in("launcher").await, Signal::KILL).unwrap();
        let error = as_text(running.await.unwrap()).unwrap_err();
        assert_eq!((error.code, error.retryable), (ErrorCode::command_killed(), true));
        assert!(error.message.contains("signal: 9"), "{}", error.message);
        wait_until(|| processes_of(&fixture.job).is_empty().then_some(())).await;
    }
}

#[tokio::test]
async fn a_command_leads_its_own_process_group_in_the_session_of_its_launcher() {
    // The session is the one that the launcher created, so the command has no access to the terminal of the worker.
    let differences = "os.getsid(0) - os.getppid(), os.getpgid(0) - os.getpid()";
    let fixture = Fixture::python(&format!("import os; print([{differences}])"));
    assert_eq!(fixture.run("").await.unwrap(), "[0, 0]");
}

#[tokio::test]
async fn a_command_that_keeps_forking_while_it_is_killed_leaves_no_process() {
    let fixture = Fixture::python(
        "import os, signal, time\n\
         for _ in range(8):\n\
        \x20   if os.fork() == 0:\n\
        \x20       os.setsid()\n\
        \x20       while True:\n\
        \x20           if os.fork() != 0: os._exit(0)\n\
        \x20           os.setsid()\n\
        \x20           open('began', 'w').close()\n\
        \x20           time.sleep(0.01)\n\
         while not os.path.exists('began'): pass\n\
         print(1)",
    );
    assert_eq!(fixture.run("").await.unwrap(), "1");
    assert_eq!(processes_of(&fixture.job), Vec::<String>::new());
}

/// Lists all processes whose environment has the job's id.
fn processes_of(job: &JobContext) -> Vec<String> {
    let wanted = format!("CRUNCH_JOB_ID={}", job.id()).into_bytes();
    let entries = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let has_job = |process: &std::path::PathBuf| {
        let environment = std::fs::read(process.join("environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|variable| variable == wanted)
    };
    entries.filter(has_job).map(|process| process.display().to_string()).collect()
}
