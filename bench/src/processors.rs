//! Assignment of processes to processors.

use std::fs;

use crunch_tests::RedisServer;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Reserves one processor for Redis until it is dropped: where hundreds of processes share two processors, the longest
/// calls are those in which the scheduler ran another process.
pub(crate) struct ReservedProcessor {
    all: CpuSet,
    reserved: CpuSet,
}

impl ReservedProcessor {
    /// Moves this process, and the processes that it will start, off one processor. `None` if there is no other.
    pub(crate) fn new() -> Option<Self> {
        let all = sched_getaffinity(None).ok()?;
        let at = (0..CpuSet::MAX_CPU).find(|&at| all.is_set(at))?;
        let (mut reserved, mut others) = (CpuSet::new(), all);
        reserved.set(at);
        others.unset(at);
        if others.count() == 0 {
            return None;
        }
        run_on(&others);
        Some(Self { all, reserved })
    }

    /// Moves the thread of a Redis that runs commands to the reserved processor.
    pub(crate) fn assign(&self, server: &RedisServer) {
        sched_setaffinity(Some(server.pid()), &self.reserved)
            .expect("the processor was available to this process");
    }
}

impl Drop for ReservedProcessor {
    fn drop(&mut self) {
        run_on(&self.all);
    }
}

/// Moves every thread of this process; threads that exit meanwhile are ignored.
fn run_on(processors: &CpuSet) {
    for thread in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let number = thread.file_name().to_string_lossy().parse().ok();
        if let Some(thread) = number.and_then(Pid::from_raw) {
            let _ = sched_setaffinity(Some(thread), processors);
        }
    }
}
