//! How much memory a child uses, and whether the kernel kills processes for lack of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
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
pub(super) fn resident(process: u32) -> Option<u64> {
    let sizes = fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
    let pages: u64 = sizes.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// The file in which the kernel counts the processes that it has killed for lack of memory.
#[derive(Debug, Clone)]
pub(crate) struct OomCounter(Arc<Path>);

/// The counter of this worker, in which its children are counted too.
static OWN: LazyLock<Arc<Path>> = LazyLock::new(|| {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let of_groups = counters_of(&groups).into_iter().find(|file| kills_in(file).is_some());
    of_groups.unwrap_or_else(|| "/proc/vmstat".into()).into()
});

impl Default for OomCounter {
    /// That of the worker's cgroup, or of the smallest one around it that has one. Without cgroups of version 2 that of the
    /// whole machine: then a child that anything else has killed by `SIGKILL` at the same time as the kernel kills another
    /// process is believed to have been killed by the kernel, too.
    fn default() -> Self {
        Self(OWN.clone())
    }
}

#[cfg(test)]
impl From<PathBuf> for OomCounter {
    fn from(file: PathBuf) -> Self {
        Self(file.into())
    }
}

/// Returns the files of a process in these groups (see proc_pid_cgroup(5)), that of the smallest group first.
fn counters_of(groups: &str) -> Vec<PathBuf> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let root = Path::new("/sys/fs/cgroup");
    let group = group.map(|group| root.join(group));
    let around = group.iter().flat_map(|group| group.ancestors());
    around
        .take_while(|group| group.starts_with(root))
        .map(|group| group.join("memory.events"))
        .collect()
}

/// Reads a counter.
fn kills_in(file: &Path) -> Option<u64> {
    let counters = fs::read_to_string(file).ok()?;
    counters.lines().find_map(|line| line.strip_prefix("oom_kill "))?.parse().ok()
}

/// Whether the kernel has killed a process for lack of memory while a child ran.
#[derive(Debug)]
pub(super) struct OomKills {
    counter: OomCounter,
    count: u64,
    grew: Option<Instant>,
}

impl OomKills {
    /// Begins to look at a counter.
    pub(super) fn of(counter: OomCounter) -> Self {
        let count = kills_in(&counter.0).unwrap_or(0);
        Self { counter, count, grew: None }
    }

    /// Reads the counter again.
    pub(super) fn look(&mut self) {
        let count = kills_in(&self.counter.0).unwrap_or(self.count);
        if count > self.count {
            (self.count, self.grew) = (count, Some(Instant::now()));
        }
    }

    pub(super) fn grew_lately(&self) -> bool {
        self.grew.is_some_and(|grew| grew.elapsed() < LATELY)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_counter_is_that_of_the_smallest_group_that_has_one() {
        let of = |groups: &str| {
            let files = counters_of(groups).into_iter();
            files.map(|file| file.into_os_string().into_string().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(
            of("1:name=systemd:/a\n0::/system.slice/crunch.service\n"),
            [
                "/sys/fs/cgroup/system.slice/crunch.service/memory.events",
                "/sys/fs/cgroup/system.slice/memory.events",
                "/sys/fs/cgroup/memory.events",
            ]
        );
        assert_eq!(of("0::/\n"), ["/sys/fs/cgroup/memory.events"]);
        assert!(of("9:memory:/docker/1\n").is_empty());
        // The file that was found can be read.
        assert!(kills_in(&OomCounter::default().0).is_some());
    }

    #[test]
    fn a_counter_that_grows_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("memory.events");
        let write = |kills| {
            let text = format!("low 0\nhigh 0\nmax 7\noom 4\noom_kill {kills}\noom_group_kill 9\n");
            std::fs::write(&file, text).unwrap();
        };
        write(3);
        let mut kills = OomKills::of(file.clone().into());
        kills.look();
        assert!(!kills.grew_lately());
        write(4);
        kills.look();
        assert!(kills.grew_lately());
        // A file that cannot be read any more shows nothing, and neither does one that is back.
        std::fs::remove_file(&file).unwrap();
        kills.grew = None;
        kills.look();
        write(4);
        kills.look();
        assert!(!kills.grew_lately());
    }

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
