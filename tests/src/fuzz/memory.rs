//! Whether a process keeps what it should let go.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Finding, Report, Until};

/// A process may have that much more at the end than when it was warm, in KiB: allocators keep pages for a while.
const GROWTH_KIB: u64 = 64 * 1024;
/// How often the memory is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// It is noted so often during a run.
const SAMPLES: u64 = 8;
/// A process is warm with this one.
const WARM: usize = 1;

/// The resident memory of some processes.
#[derive(Debug)]
pub(super) struct Memory {
    processes: Vec<(&'static str, u32)>,
    /// Of each sample that of each process, in KiB.
    samples: Vec<Vec<u64>>,
}

impl Memory {
    pub(super) fn of<const N: usize>(processes: [(&'static str, u32); N]) -> Self {
        Self { processes: processes.into(), samples: Vec::new() }
    }

    fn note(&mut self) {
        self.samples.push(self.processes.iter().map(|&(_, pid)| resident_kib(pid)).collect());
    }

    /// Looks at the memory in equal parts of the run, and at its end.
    pub(super) async fn watched_while<T>(
        &mut self,
        until: Until,
        done: &AtomicU64,
        work: impl Future<Output = T>,
    ) -> T {
        let begun = std::time::Instant::now();
        let whole = until.end.saturating_duration_since(begun);
        let is_due = |noted: usize| {
            let next = noted as u64 + 1;
            let inputs = done.load(Ordering::Relaxed) * SAMPLES >= until.inputs * next;
            inputs || begun.elapsed() * SAMPLES as u32 >= whole * next as u32
        };
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                outcome = &mut work => {
                    self.note();
                    return outcome;
                }
                () = tokio::time::sleep(LOOK) => {
                    if is_due(self.samples.len()) {
                        self.note();
                    }
                }
            }
        }
    }

    pub(super) fn judge(self, report: &mut Report) {
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

/// What `/proc` has of a process; 0 if it is gone.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
