//! Finds the children of a worker's server, and breaks them.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::time::{Instant, sleep};

use super::faults::{Fault, Kind};
use super::orders::CHILD;
use crate::process::children_of;

/// How long a worker may take until it has a child: it may have been started at this moment.
const START: Duration = Duration::from_secs(5);

/// A child of a server and its launcher, by descriptors: their numbers may soon belong to other processes.
struct ServerChild {
    launcher: OwnedFd,
    process: OwnedFd,
}

/// Breaks one of the children of a worker for a while; none if the worker starts none in time.
pub(super) async fn break_one(worker: u32, fault: &Fault) {
    let deadline = Instant::now() + START;
    let child = loop {
        let mut children = of_worker(worker);
        if !children.is_empty() {
            break children.swap_remove(fault.strength as usize % children.len());
        }
        if Instant::now() > deadline {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    };
    match fault.kind {
        Kind::KillLauncher => send(&child.launcher, Signal::KILL),
        Kind::FreezeChild => {
            send(&child.process, Signal::STOP);
            sleep(fault.length).await;
            send(&child.process, Signal::CONT);
        }
        Kind::ExitChild => {
            send(&child.process, Signal::USR1);
            sleep(fault.length).await;
            // In case it got no job: this fault is over.
            send(&child.process, Signal::KILL);
        }
        Kind::RepeatAnswers => send(&child.process, Signal::USR2),
        _ => send(&child.process, Signal::KILL),
    }
}

fn send(process: &OwnedFd, signal: Signal) {
    // It may have ended.
    let _ = pidfd_send_signal(process, signal);
}

fn of_worker(worker: u32) -> Vec<ServerChild> {
    let pairs = children_of(worker).into_iter().filter_map(|launcher| {
        let process = children_of(launcher).into_iter().find(|&process| is_ours(process))?;
        Some(ServerChild { launcher: open(launcher)?, process: open(process)? })
    });
    pairs.collect()
}

/// Whether it is a child of the server: a worker starts commands too.
fn is_ours(process: u32) -> bool {
    let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    line.split(|&byte| byte == 0).any(|word| word == CHILD.as_bytes())
}

fn open(process: u32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(process.cast_signed())?, PidfdFlags::empty()).ok()
}
