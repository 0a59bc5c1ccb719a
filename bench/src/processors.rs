//! Who runs on which processor.

use std::fs;

use crunch_tests::RedisServer;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// One processor is kept for Redis: where hundreds of processes share two, the longest calls are those in which the scheduler
/// let somebody else run. Until this is dropped.
pub(crate) struct Apart {
    all: CpuSet,
    first: CpuSet,
}

impl Apart {
    /// Moves this process, and whatever it will start, off one processor. `None` if there is no other.
    pub(crate) fn new() -> Option<Self> {
        let all = sched_getaffinity(None).ok()?;
        let at = (0..CpuSet::MAX_CPU).find(|&at| all.is_set(at))?;
        let (mut first, mut others) = (CpuSet::new(), all);
        first.set(at);
        others.unset(at);
        if others.count() == 0 {
            return None;
        }
        run_on(&others);
        Some(Self { all, first })
    }

    /// Moves the thread of a Redis that runs commands to it.
    pub(crate) fn give(&self, server: &RedisServer) {
        sched_setaffinity(Some(server.pid()), &self.first).expect("a processor that was ours");
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        run_on(&self.all);
    }
}

/// Moves every thread of this process; those that end meanwhile need no processor.
fn run_on(processors: &CpuSet) {
    for thread in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let number = thread.file_name().to_string_lossy().parse().ok();
        if let Some(thread) = number.and_then(Pid::from_raw) {
            let _ = sched_setaffinity(Some(thread), processors);
        }
    }
}
