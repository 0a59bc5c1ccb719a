//! The last resort when a launcher itself was killed: kills everything in its session.
//!
//! A launcher creates a session whose id is the launcher's process id, and the worker knows that from the start: a
//! running command can be found at any moment. A process that created yet another session is not found here; while the
//! launcher lives, it handles those too.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// A process that was just forking leaves a child behind that the first pass did not see; a killed process does not
/// fork any more.
const PASSES: usize = 3;

/// Kills every member of a session.
pub(super) fn kill(session: Pid) {
    for _ in 0..PASSES {
        for member in members(session) {
            let _already_ended = kill_process(member, Signal::KILL);
        }
    }
}

fn members(session: Pid) -> impl Iterator<Item = Pid> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter_map(Pid::from_raw).filter(move |&process| session_of(process) == Some(session))
}

fn session_of(process: Pid) -> Option<Pid> {
    let stat = fs::read(format!("/proc/{}/stat", process.as_raw_nonzero())).ok()?;
    session_in(&String::from_utf8_lossy(&stat))
}

/// The sixth field of `/proc/<pid>/stat`, see proc_pid_stat(5). The second is the program's name in parentheses, which
/// may itself contain blanks and parentheses. A process that the kernel is just removing has -1: no session.
fn session_in(stat: &str) -> Option<Pid> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let number = fields.split(' ').nth(3)?.parse().ok()?;
    if number > 0 { Pid::from_raw(number) } else { None }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_that_is_just_being_forgotten_has_no_session() {
        assert_eq!(session_in("7 (a) b) S 1 5 6 0 -1 4194560"), Pid::from_raw(6));
        assert_eq!(session_in("7 (sh) X 0 -1 -1 0 -1 4228100"), None);
        assert_eq!(session_in("7 (kthreadd) S 0 0 0 0 -1 2129984"), None);
    }

    #[test]
    fn the_first_process_of_a_session_is_found_in_it_and_killed() {
        let waits_forever = ["sh", "-c", "echo begun; exec cat"];
        let mut command = Command::new("setsid");
        command.args(waits_forever).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap();

        let process = Pid::from_child(&child);
        assert_eq!(session_of(process), Some(process));
        assert_eq!(members(process).collect::<Vec<_>>(), [process]);
        kill(process);
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
    }
}
