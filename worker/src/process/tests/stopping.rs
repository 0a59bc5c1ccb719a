//! No process survives a cancellation, the end of the command, or the death of the worker.

use std::process::Stdio;

use super::*;

/// Set for the process that acts as a worker: the directory to work in.
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
    let bench = Bench::sh(
        "sleep 1000 & echo $! > child
         setsid sh -c 'trap \"\" TERM HUP; echo $$ > runaway; while :; do sleep 1; done' &
         while [ ! -s runaway ]; do :; done; echo 1",
    );
    let start = Instant::now();
    assert_eq!(bench.run("").await.unwrap(), "1");
    assert!(start.elapsed() < Duration::from_secs(5), "the handler does not wait for open pipes");
    assert!(is_dead(bench.pid_in("child").await));
    assert!(is_dead(bench.pid_in("runaway").await));
}

#[tokio::test]
async fn a_cancel_ends_the_whole_family() {
    let bench = Bench::sh(TREE);
    let running = bench.start();
    let tree = tree_in(bench.folder.path()).await;
    bench.job.cancellation().cancel();
    let start = Instant::now();
    readable(running.await.unwrap()).unwrap_err();
    // A process that left the group gets TERM too, once it lost its parent: the grace period need not run to its end.
    assert!(start.elapsed() < Duration::from_secs(5));
    wait_for_deaths(tree).await;
}

#[tokio::test]
async fn a_command_that_ends_well_when_it_is_stopped_has_no_result() {
    let bench = Bench::sh(
        "trap 'echo stopped > stopped; echo 1; exit 0' TERM
         sleep 1000 & echo $$ > command; wait",
    );
    let running = bench.start();
    bench.pid_in("command").await;
    bench.job.cancellation().cancel();
    let error = readable(running.await.unwrap()).unwrap_err();
    assert_eq!(error.message, "the command was stopped");
    assert!(bench.folder.path().join("stopped").exists());
}

#[tokio::test]
async fn the_grace_is_for_the_whole_group() {
    // The leader exits at once, as shells do; its child saves its state.
    let bench = Bench::python(
        "import os, signal, subprocess, sys\n\
         child = 'import signal, time, sys, pathlib\\n\
         def save(*_): time.sleep(0.5); pathlib.Path(\"saved\").write_text(\"x\"); sys.exit()\\n\
         signal.signal(signal.SIGTERM, save); pathlib.Path(\"child\").write_text(\"1\\\\n\")\\n\
         while True: signal.pause()'\n\
         subprocess.Popen([sys.executable, '-c', child])\n\
         signal.pause()",
    );
    let running = bench.start();
    bench.pid_in("child").await;
    bench.job.cancellation().cancel();
    readable(running.await.unwrap()).unwrap_err();
    assert!(bench.folder.path().join("saved").exists());
}

#[tokio::test]
async fn a_command_that_ignores_term_is_killed_after_five_seconds() {
    let bench = Bench::sh("trap '' TERM; sleep 1000 & echo $! > child; echo $$ > command; wait");
    let running = bench.start();
    let (command, child) = (bench.pid_in("command").await, bench.pid_in("child").await);
    bench.job.cancellation().cancel();
    let start = Instant::now();
    readable(running.await.unwrap()).unwrap_err();
    let took = start.elapsed();
    assert!(Duration::from_secs(5) <= took && took < crate::running::STOP_GRACE, "{took:?}");
    assert!(is_dead(command) && is_dead(child));
}

#[tokio::test]
async fn a_stop_that_comes_before_the_start_is_respected() {
    let bench = Bench::sh("sleep 1000");
    bench.job.cancellation().cancel();
    assert_eq!(bench.run("").await.unwrap_err().message, "the command was stopped");
}

#[tokio::test]
async fn nothing_survives_a_handler_that_is_dropped() {
    let bench = Bench::sh(TREE);
    let running = bench.start();
    let tree = tree_in(bench.folder.path()).await;
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

/// Not a test, but the worker of the one above.
#[tokio::test]
async fn a_worker_that_will_be_killed() {
    if let Some(folder) = std::env::var_os(WORKER_FOLDER) {
        let mut bench = Bench::sh(&format!("echo $PPID > launcher; {TREE}"));
        bench.handler.command.directory = folder.into();
        bench.run("").await.unwrap();
    }
}

/// Repeated: the launcher may die as soon as its command knows its process id, before it has sent any report.
#[tokio::test]
async fn the_death_of_a_launcher_ends_its_command() {
    for _ in 0..20 {
        let bench = Bench::sh("echo $PPID > launcher; sleep 1000 & wait");
        let running = bench.start();
        kill_process(bench.pid_in("launcher").await, Signal::KILL).unwrap();
        let error = readable(running.await.unwrap()).unwrap_err();
        assert_eq!((error.code, error.retryable), (ErrorCode::command_killed(), true));
        assert!(error.message.contains("signal: 9"), "{}", error.message);
        wait_until(|| processes_of(&bench.job).is_empty().then_some(())).await;
    }
}

#[tokio::test]
async fn a_command_leads_a_group_of_its_own_far_from_our_terminal() {
    // The session is the one its launcher created, so it is not ours.
    let numbers = "os.getsid(0) - os.getppid(), os.getpgid(0) - os.getpid()";
    let bench = Bench::python(&format!("import os; print([{numbers}])"));
    assert_eq!(bench.run("").await.unwrap(), "[0, 0]");
}

#[tokio::test]
async fn a_command_that_goes_on_forking_while_it_is_killed_is_gone() {
    let bench = Bench::python(
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
    assert_eq!(bench.run("").await.unwrap(), "1");
    assert_eq!(processes_of(&bench.job), Vec::<String>::new());
}

/// Lists all processes that have the job in their environment.
fn processes_of(job: &JobContext) -> Vec<String> {
    let mark = format!("CRUNCH_JOB_ID={}", job.id()).into_bytes();
    let entries = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let has_job = |process: &std::path::PathBuf| {
        let environment = std::fs::read(process.join("environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|variable| variable == mark)
    };
    entries.filter(has_job).map(|process| process.display().to_string()).collect()
}
