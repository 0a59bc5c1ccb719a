//! The last resort, when a launcher itself was killed: ends everything in its session.
//!
//! A launcher begins a session of its own, whose number is the launcher's, and a worker knows that from the start: there
//! is no moment in which a command runs and cannot be found. What began yet another session is not found here; while it
//! lives, the launcher sees to that too.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// A process that was just forking leaves a child behind that the first look did not see; one that was killed forks no
/// more.
const LOOKS: usize = 3;

/// Kills every member of a session.
pub(super) fn kill(session: Pid) {
    for _ in 0..LOOKS {
        for member in members(session) {
            let _already_gone = kill_process(member, Signal::KILL);
        }
    }
}

fn members(session: Pid) -> impl Iterator<Item = Pid> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter_map(Pid::from_raw).filter(move |&process| session_of(process) == Some(session))
}

/// The sixth field of `/proc/<pid>/stat`, see proc_pid_stat(5). The second is the program's name in parentheses, and may
/// hold blanks and parentheses itself.
fn session_of(process: Pid) -> Option<Pid> {
    let stat = fs::read(format!("/proc/{}/stat", process.as_raw_nonzero())).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (_, fields) = stat.rsplit_once(") ")?;
    Pid::from_raw(fields.split(' ').nth(3)?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_in_its_session() {
        let process = rustix::process::getpid();
        let session = rustix::process::getsid(None).unwrap();
        assert_eq!(session_of(process), Some(session));
        assert!(members(session).any(|member| member == process));
    }
}
