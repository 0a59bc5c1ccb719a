//! What each program does as the first process of a container.

use crunch_tests::{Process, Stack, children_of, eventually};
use rustix::process::Signal;
use tokio::process::Command;

/// The same command line through a shell: its script ends with `exec "$@"`.
fn through_shell(script: &str, command: &Command) -> Command {
    let command = command.as_std();
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
    let variables = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    shell.envs(variables);
    shell
}

/// Runs a program as the first process of a new PID namespace; `None` where that is not permitted.
fn spawn_as_first(stack: &mut Stack, name: &str, environment: &[(&str, &str)]) -> Option<Process> {
    let unshare = ["--pid", "--fork", "--mount-proc", "--kill-child"];
    let probe = std::process::Command::new("unshare").args(unshare).arg("true").status();
    if !probe.is_ok_and(|status| status.success()) {
        return None;
    }
    let mut command = stack.command(name);
    command.envs(environment.iter().copied());
    let script = format!("exec unshare {} \"$@\"", unshare.join(" "));
    Some(stack.spawn(through_shell(&script, &command), name))
}

fn is_zombie(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

/// Leaves orphans, as `docker exec` does when its shell exits before the children of the shell.
async fn leave_orphans(first: u32) {
    let target = first.to_string();
    let arguments = ["-t", &target, "-p", "-m", "sh", "-c", "(true &); (true &); exit 0"];
    let status = Command::new("nsenter").args(arguments).status().await.unwrap();
    assert!(status.success());
}

/// Its name, its environment, and what it logs once it handles signals.
type Program = (&'static str, &'static [(&'static str, &'static str)], &'static str);

#[tokio::test]
async fn as_the_first_process_of_a_container_every_program_reaps_orphans() {
    let programs: [Program; 3] = [
        (
            "crunch-api",
            &[("CRUNCH_API_ADDR", "127.0.0.1:0"), ("CRUNCH_API_DRAIN_MS", "0")],
            "serving",
        ),
        ("crunch-worker", &[], "worker started"),
        ("crunch-worker", &[("CRUNCH_WORKER_SUPERVISE", "2")], "supervisor started"),
    ];

    for (name, environment, started) in programs {
        let mut stack = Stack::start();
        let Some(mut outer) = spawn_as_first(&mut stack, name, environment) else {
            return;
        };
        let first = eventually("the first process has started", async || {
            children_of(outer.pid()).first().copied()
        })
        .await;
        let program = eventually("the program runs as its child", async || {
            children_of(first).first().copied()
        })
        .await;
        for _ in 0..3 {
            leave_orphans(first).await;
        }
        eventually("no zombie is left", async || {
            let all = children_of(first);
            (all.len() == 1 && !all.into_iter().any(is_zombie)).then_some(())
        })
        .await;
        assert!(!is_zombie(program));
        // Before that, a signal kills it, as any other program.
        outer.wait_for_log(started).await;
        // As a container engine does.
        let first = rustix::process::Pid::from_raw(first.cast_signed()).unwrap();
        rustix::process::kill_process(first, Signal::TERM).unwrap();
        assert!(outer.exited().await.success(), "{name} {environment:?}: {}", outer.log());
    }
}
