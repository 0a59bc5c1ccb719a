//! What a Crunch program does as the first process of a container.
//!
//! The first process of a PID namespace inherits every orphan in it, and each orphan that it does not wait for remains
//! a zombie. A library that starts processes waits only for its own, and would lose their exit codes to a loop that
//! waits for all. So a program that is the first process starts itself again: the first process waits for every process
//! that exits, forwards signals, and exits with the exit code of the second.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, exit};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use tokio::signal::unix::{SignalKind, signal};

/// The signals that are forwarded to the program.
const FORWARDED: [(SignalKind, Signal); 6] = [
    (SignalKind::hangup(), Signal::HUP),
    (SignalKind::interrupt(), Signal::INT),
    (SignalKind::quit(), Signal::QUIT),
    (SignalKind::terminate(), Signal::TERM),
    (SignalKind::user_defined1(), Signal::USR1),
    (SignalKind::user_defined2(), Signal::USR2),
];

/// Runs the program in a child process and never returns, if this is the first process of a container; else does
/// nothing. Call it early in a program, before it starts a thread.
#[expect(clippy::print_stderr, reason = "the process exits after the message")]
pub fn become_init_if_first() {
    if !rustix::process::getpid().is_init() {
        return;
    }
    // On a separate thread: the caller may run inside a runtime, and a runtime cannot block inside another one.
    let code = std::thread::spawn(run_as_init).join();
    match code.unwrap_or_else(|_| Err(io::Error::other("it panicked"))) {
        Ok(code) => exit(code),
        Err(error) => {
            eprintln!("crunch: cannot run as the first process of a container: {error}");
            exit(1);
        }
    }
}

fn run_as_init() -> io::Result<i32> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before the child starts: the kernel drops signals to a first process that has no handler for them.
        let mut child_exited = signal(SignalKind::child())?;
        let signals = FORWARDED.map(|(kind, number)| Ok::<_, io::Error>((signal(kind)?, number)));
        let signals = signals.into_iter().collect::<Result<Vec<_>, _>>()?;
        let program = start()?;
        for (mut received, number) in signals {
            tokio::spawn(async move {
                while received.recv().await.is_some() {
                    // The program may just have exited.
                    let _ = rustix::process::kill_process(program, number);
                }
            });
        }
        loop {
            if let Some(code) = reap(program) {
                return Ok(code);
            }
            child_exited.recv().await;
        }
    })
}

/// Starts this program again, with the same arguments and environment.
fn start() -> io::Result<Pid> {
    let mut arguments = std::env::args_os();
    let mut command = Command::new("/proc/self/exe");
    arguments.next().map(|name| command.arg0(name));
    let child = command.args(arguments).spawn()?;
    let number = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    number.ok_or_else(|| io::Error::other("the process id of the program is invalid"))
}

/// Reaps every process that has exited. Returns the exit code if the program is among them, as a shell computes it: for
/// a signal, 128 plus its number.
fn reap(program: Pid) -> Option<i32> {
    while let Ok(Some((process, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if process == program {
            return Some(code_of(status));
        }
    }
    None
}

fn code_of(status: WaitStatus) -> i32 {
    let signal = || status.terminating_signal().map(|signal| 128 + signal);
    status.exit_status().or_else(signal).unwrap_or(1)
}
