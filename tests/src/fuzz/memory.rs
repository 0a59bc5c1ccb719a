//! Checks that processes do not leak memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Finding, Limits, Report};

/// How much more memory a process may have at the end than when it was warm, in KiB: allocators keep pages for a while.
const GROWTH_KIB: u64 = 64 * 1024;
/// How often a sample may be due.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The number of samples during a run.
const SAMPLES: u64 = 8;
/// The index of the sample at which a process is warm.
const WARM: usize = 1;

/// The resident memory of some processes.
#[derive(Debug)]
pub(super) struct Memory {
    processes: Vec<(&'static str, u32)>,
    /// For each sample, the memory of each process, in KiB.
    samples: Vec<Vec<u64>>,
}

impl Memory {
    pub(super) fn of<const N: usize>(processes: [(&'static str, u32); N]) -> Self {
        Self { processes: processes.into(), samples: Vec::new() }
    }

    fn sample(&mut self) {
        self.samples.push(self.processes.iter().map(|&(_, pid)| resident_kib(pid)).collect());
    }

    /// Samples the memory at equal intervals during the run, and at its end.
    pub(super) async fn sample_while<T>(
        &mut self,
        limits: Limits,
        done: &AtomicU64,
        work: impl Future<Output = T>,
    ) -> T {
        let start = std::time::Instant::now();
        let total = limits.end.saturating_duration_since(start);
        let is_due = |taken: usize| {
            let next = taken as u64 + 1;
            let inputs = done.load(Ordering::Relaxed) * SAMPLES >= limits.inputs * next;
            inputs || start.elapsed() * SAMPLES as u32 >= total * next as u32
        };
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                outcome = &mut work => {
                    self.sample();
                    return outcome;
                }
                () = tokio::time::sleep(POLL_INTERVAL) => {
                    if is_due(self.samples.len()) {
                        self.sample();
                    }
                }
            }
        }
    }

    pub(super) fn check(self, report: &mut Report) {
        for (at, &(name, _)) in self.processes.iter().enumerate() {
            let samples: Vec<_> = self.samples.iter().map(|sample| sample[at]).collect();
            let warm = samples.get(WARM).or(samples.first()).copied().unwrap_or(0);
            let end = samples.last().copied().unwrap_or(0);
            if end > warm + GROWTH_KIB {
                let what = format!("its memory grew from {warm} to {end} KiB: {samples:?}");
                report.findings.push(Finding { input: name.to_owned(), what });
            }
            report.memory.push((name.to_owned(), samples));
        }
    }
}

/// The resident memory of a process, from `/proc`; 0 if it has ended.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
