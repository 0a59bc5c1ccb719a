//! What the supervisor knows of its workers' health.

use std::time::{Duration, Instant};

use crate::health::{Report, Status};
use parking_lot::Mutex;

/// Workers report their health every half second; a worker that does not hangs.
const SILENCE: Duration = Duration::from_millis(1500);

/// One entry for each child slot.
#[derive(Debug)]
pub(crate) struct HealthSummary(Mutex<State>);

#[derive(Debug)]
struct State {
    draining: bool,
    child_slots: Vec<Option<Received>>,
}

#[derive(Debug)]
struct Received {
    pid: u32,
    report: Report,
    at: Instant,
}

impl HealthSummary {
    pub(crate) fn new(child_slots: usize) -> Self {
        let child_slots = (0..child_slots).map(|_| None).collect();
        Self(Mutex::new(State { draining: false, child_slots }))
    }

    pub(super) fn set_draining(&self) {
        self.0.lock().draining = true;
    }

    /// Records the health that the worker in that child slot reported.
    pub(super) fn record(&self, child_slot: usize, pid: u32, report: Report) {
        if let Some(entry) = self.0.lock().child_slots.get_mut(child_slot - 1) {
            *entry = Some(Received { pid, report, at: Instant::now() });
        }
    }

    /// Records that no worker runs in that child slot.
    pub(super) fn empty(&self, child_slot: usize) {
        if let Some(entry) = self.0.lock().child_slots.get_mut(child_slot - 1) {
            *entry = None;
        }
    }

    /// Returns a report that is ready while all workers are.
    pub(super) fn report(&self) -> Report {
        let (now, state) = (Instant::now(), self.0.lock());
        let (mut reasons, mut notes) = (Vec::new(), Vec::new());
        if state.draining {
            reasons.push("shutting down: no new jobs are taken".to_owned());
        }
        for (child_slot, received) in (1..).zip(&state.child_slots) {
            match received {
                None => reasons.push(format!("worker {child_slot}: starting")),
                Some(received) => match received.is_healthy(now) {
                    true => notes.extend(received.reasons(now, child_slot)),
                    false => reasons.extend(received.reasons(now, child_slot)),
                },
            }
        }
        Report::with_notes(reasons, notes)
    }
}

impl Received {
    fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.at)
    }

    fn is_healthy(&self, now: Instant) -> bool {
        self.silence(now) <= SILENCE && self.report.status == Status::Ok
    }

    /// Returns the reasons that the worker reports, or that it reports nothing.
    fn reasons(&self, now: Instant, child_slot: usize) -> Vec<String> {
        let who = format!("worker {child_slot} (process {})", self.pid);
        let silence = self.silence(now);
        if silence > SILENCE {
            return vec![format!("{who}: silent for {:.1} s", silence.as_secs_f64())];
        }
        self.report.reasons.iter().map(|reason| format!("{who}: {reason}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_ready_or_none_is() {
        let summary = HealthSummary::new(2);
        summary.record(1, 7, Report::new(Vec::new()));
        assert_eq!(summary.report().reasons, ["worker 2: starting"]);
        summary.record(2, 8, Report::new(vec!["redis: away".to_owned()]));
        assert_eq!(summary.report().reasons, ["worker 2 (process 8): redis: away"]);
        summary.record(2, 8, Report::new(Vec::new()));
        assert_eq!(summary.report().status, Status::Ok);
        summary.record(2, 8, Report::with_notes(Vec::new(), vec!["a is suspended".to_owned()]));
        let report = summary.report();
        assert_eq!(report.status, Status::Ok);
        assert_eq!(report.reasons, ["worker 2 (process 8): a is suspended"]);
        summary.record(2, 8, Report::new(Vec::new()));
        summary.empty(1);
        assert_eq!(summary.report().reasons, ["worker 1: starting"]);
        summary.set_draining();
        assert_eq!(summary.report().reasons.len(), 2);
    }

    #[test]
    fn a_worker_that_says_nothing_any_more_is_not_well() {
        let received = Received { pid: 7, report: Report::new(Vec::new()), at: Instant::now() };
        assert!(received.reasons(received.at + SILENCE, 1).is_empty());
        let late = received.reasons(received.at + Duration::from_secs(2), 1);
        assert_eq!(late, ["worker 1 (process 7): silent for 2.0 s"]);
    }
}
