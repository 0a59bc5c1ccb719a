//! What the supervisor knows of its workers' health.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::health::{Report, Status};

/// Workers tell how they are every half second; whoever does not, hangs.
const SILENCE: Duration = Duration::from_millis(1500);

/// One place for each child_slot.
#[derive(Debug)]
pub(crate) struct Board(Mutex<State>);

#[derive(Debug)]
struct State {
    draining: bool,
    child_slots: Vec<Option<Heard>>,
}

#[derive(Debug)]
struct Heard {
    pid: u32,
    report: Report,
    at: Instant,
}

impl Board {
    pub(crate) fn new(child_slots: usize) -> Self {
        let child_slots = (0..child_slots).map(|_| None).collect();
        Self(Mutex::new(State { draining: false, child_slots }))
    }

    pub(super) fn drains(&self) {
        self.lock().draining = true;
    }

    /// The worker in that child_slot has told how it is.
    pub(super) fn heard(&self, child_slot: usize, pid: u32, report: Report) {
        if let Some(place) = self.lock().child_slots.get_mut(child_slot - 1) {
            *place = Some(Heard { pid, report, at: Instant::now() });
        }
    }

    /// Nobody works in that child_slot.
    pub(super) fn empty(&self, child_slot: usize) {
        if let Some(place) = self.lock().child_slots.get_mut(child_slot - 1) {
            *place = None;
        }
    }

    /// Ready while all workers are.
    pub(super) fn report(&self) -> Report {
        let (now, state) = (Instant::now(), self.lock());
        let (mut reasons, mut notes) = (Vec::new(), Vec::new());
        if state.draining {
            reasons.push("shutting down: no new jobs are taken".to_owned());
        }
        for (child_slot, heard) in (1..).zip(&state.child_slots) {
            match heard {
                None => reasons.push(format!("worker {child_slot}: starting")),
                Some(heard) => match heard.is_well(now) {
                    true => notes.extend(heard.reasons(now, child_slot)),
                    false => reasons.extend(heard.reasons(now, child_slot)),
                },
            }
        }
        Report::with_notes(reasons, notes)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Each change is whole: a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.at)
    }

    fn is_well(&self, now: Instant) -> bool {
        self.silence(now) <= SILENCE && self.report.status == Status::Ok
    }

    /// What the worker reports, or that it reports nothing.
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
        let board = Board::new(2);
        board.heard(1, 7, Report::new(Vec::new()));
        assert_eq!(board.report().reasons, ["worker 2: starting"]);
        board.heard(2, 8, Report::new(vec!["redis: away".to_owned()]));
        assert_eq!(board.report().reasons, ["worker 2 (process 8): redis: away"]);
        board.heard(2, 8, Report::new(Vec::new()));
        assert_eq!(board.report().status, Status::Ok);
        board.heard(2, 8, Report::with_notes(Vec::new(), vec!["a is suspended".to_owned()]));
        let report = board.report();
        assert_eq!(report.status, Status::Ok);
        assert_eq!(report.reasons, ["worker 2 (process 8): a is suspended"]);
        board.heard(2, 8, Report::new(Vec::new()));
        board.empty(1);
        assert_eq!(board.report().reasons, ["worker 1: starting"]);
        board.drains();
        assert_eq!(board.report().reasons.len(), 2);
    }

    #[test]
    fn a_worker_that_says_nothing_any_more_is_not_well() {
        let heard = Heard { pid: 7, report: Report::new(Vec::new()), at: Instant::now() };
        assert!(heard.reasons(heard.at + SILENCE, 1).is_empty());
        let late = heard.reasons(heard.at + Duration::from_secs(2), 1);
        assert_eq!(late, ["worker 1 (process 7): silent for 2.0 s"]);
    }
}
