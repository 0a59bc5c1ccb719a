//! What a program of Crunch does as the first process of a container.
//!
//! The first process of a PID namespace inherits every orphan in it, and one that does not wait for them leaves a zombie of
//! each. A library that starts processes waits for its own only, and would lose their exit codes to somebody who waits for all.
//! So a program that is the first process starts itself once more: the first waits for whatever ends, hands signals on, and exits
//! as the second did.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, exit};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use tokio::signal::unix::{SignalKind, signal};

/// The signals that ask a program for something.
const HANDED_ON: [(SignalKind, Signal); 6] = [
    (SignalKind::hangup(), Signal::HUP),
    (SignalKind::interrupt(), Signal::INT),
    (SignalKind::quit(), Signal::QUIT),
    (SignalKind::terminate(), Signal::TERM),
    (SignalKind::user_defined1(), Signal::USR1),
    (SignalKind::user_defined2(), Signal::USR2),
];

/// To be called early in a program, before it starts a thread. Where the program is the first process of a container this never
/// returns: the program goes on in a child.
#[expect(clippy::print_stderr, reason = "the last words of a process")]
pub fn become_init_if_first() {
    if !rustix::process::getpid().is_init() {
        return;
    }
    // On a thread of its own: the caller may run inside a runtime, and none can wait in another.
    let code = std::thread::spawn(run_as_init).join();
    match code.unwrap_or_else(|_| Err(io::Error::other("it panicked"))) {
        Ok(code) => exit(code),
        Err(error) => {
            eprintln!("crunch: cannot work as the first process of a container: {error}");
            exit(1);
        }
    }
}

fn run_as_init() -> io::Result<i32> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before the child: the kernel drops signals to a first process that does not wait for them.
        let mut ended = signal(SignalKind::child())?;
        let asked = HANDED_ON.map(|(kind, number)| Ok::<_, io::Error>((signal(kind)?, number)));
        let asked = asked.into_iter().collect::<Result<Vec<_>, _>>()?;
        let program = start()?;
        for (mut asked, number) in asked {
            tokio::spawn(async move {
                while asked.recv().await.is_some() {
                    // It may just have ended.
                    let _ = rustix::process::kill_process(program, number);
                }
            });
        }
        loop {
            if let Some(code) = reap(program) {
                return Ok(code);
            }
            ended.recv().await;
        }
    })
}

/// This program once more, with the same arguments and environment.
fn start() -> io::Result<Pid> {
    let mut arguments = std::env::args_os();
    let mut command = Command::new("/proc/self/exe");
    arguments.next().map(|name| command.arg0(name));
    let child = command.args(arguments).spawn()?;
    let number = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    number.ok_or_else(|| io::Error::other("the system gave the program no number"))
}

/// Waits for everything that has ended. Returns how the program ended, as a shell writes it: 128 and the signal's number.
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
