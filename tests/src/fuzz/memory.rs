//! Whether a process keeps what it should let go.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Finding, Report, Until};

/// A process may have that much more at the end than when it was warm, in KiB: allocators keep pages for a while.
const GROWTH_KIB: u64 = 64 * 1024;
/// How often the memory is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// A process is warm after this share of the run: one in so many.
const WARM_SHARE: u64 = 4;

/// The resident memory of some processes.
#[derive(Debug)]
pub(super) struct Memory {
    processes: Vec<(&'static str, u32)>,
    warm: Vec<u64>,
    end: Vec<u64>,
}

impl Memory {
    pub(super) fn of<const N: usize>(processes: [(&'static str, u32); N]) -> Self {
        Self { processes: processes.into(), warm: Vec::new(), end: Vec::new() }
    }

    fn now(&self) -> Vec<u64> {
        self.processes.iter().map(|&(_, pid)| resident_kib(pid)).collect()
    }

    /// Looks at the memory when the run is warm, and at its end.
    pub(super) async fn watched_while<T>(
        &mut self,
        until: Until,
        done: &AtomicU64,
        work: impl Future<Output = T>,
    ) -> T {
        let begun = std::time::Instant::now();
        let whole = until.end.saturating_duration_since(begun);
        let is_warm = || {
            let inputs = done.load(Ordering::Relaxed) * WARM_SHARE >= until.inputs;
            inputs || begun.elapsed() * WARM_SHARE as u32 >= whole
        };
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                outcome = &mut work => {
                    self.end = self.now();
                    return outcome;
                }
                () = tokio::time::sleep(LOOK), if self.warm.is_empty() => {
                    if is_warm() {
                        self.warm = self.now();
                    }
                }
            }
        }
    }

    pub(super) fn judge(self, report: &mut Report) {
        let warm = if self.warm.is_empty() { &self.end } else { &self.warm };
        for ((&(name, _), &warm), &end) in self.processes.iter().zip(warm).zip(&self.end) {
            report.memory.push((name.to_owned(), warm, end));
            if end > warm + GROWTH_KIB {
                let what = format!("its memory grew from {warm} to {end} KiB");
                report.findings.push(Finding { input: name.to_owned(), what });
            }
        }
    }
}

/// What `/proc` has of a process; 0 if it is gone.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
