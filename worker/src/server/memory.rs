//! How much memory a child uses, and whether the kernel kills processes for lack of it.

use std::fs;
use std::time::{Duration, Instant};

use crate::process::children_of;

/// How long after the kernel killed a process for lack of memory the death of a child is attributed to it: the counter
/// is read every second.
const LATELY: Duration = Duration::from_secs(3);
/// More descendants are not counted: what has that many is no ordinary child.
const MAX_PROCESSES: usize = 1024;

/// Returns the resident memory of all descendants of a process, in bytes.
pub(super) fn of_tree(root: u32) -> u64 {
    let (mut waiting, mut bytes, mut seen) = (children_of(root), 0, 0);
    while let Some(process) = waiting.pop()
        && seen < MAX_PROCESSES
    {
        seen += 1;
        bytes += resident(process).unwrap_or(0);
        waiting.extend(children_of(process));
    }
    bytes
}

/// The second field of `/proc/<pid>/statm`, in pages: see proc_pid_statm(5).
fn resident(process: u32) -> Option<u64> {
    let sizes = fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
    let pages: u64 = sizes.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// How many processes of this machine the kernel has killed for lack of memory, of a container or of all.
#[derive(Debug)]
pub(super) struct OomKills {
    count: u64,
    grew: Option<Instant>,
}

impl OomKills {
    pub(super) fn now() -> Self {
        Self { count: count(), grew: None }
    }

    /// Reads the counter again.
    pub(super) fn look(&mut self) {
        let count = count();
        if count > self.count {
            *self = Self { count, grew: Some(Instant::now()) };
        }
    }

    pub(super) fn grew_lately(&self) -> bool {
        self.grew.is_some_and(|grew| grew.elapsed() < LATELY)
    }
}

/// The counter of the kernel includes those for the limits of containers.
fn count() -> u64 {
    let statistics = fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let kills = statistics.lines().find_map(|line| line.strip_prefix("oom_kill "));
    kills.and_then(|kills| kills.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_memory_of_descendants_is_counted() {
        let mut command = Command::new("sh");
        command.args(["-c", "sh -c 'cat; :'; :"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        // All three run.
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 1]).unwrap();
        let (below, whole) = (of_tree(child.id()), of_tree(std::process::id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(0 < below && below < whole, "{below} {whole}");
    }
}
