//! Reports whether this worker makes progress, from what its loops report.
//!
//! Each loop that calls Redis has a pulse. A worker is ready while every pulse is healthy: so a loop that hangs shows as
//! one that fails, and no ping can report a worker as healthy that claims no jobs. `server.rs` serves the HTTP requests on a
//! separate thread (`health_thread.rs`), so that no handler can keep it from answering.

mod ask;
mod server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crunch_common::time::whole_ms;
use crunch_consumer::Pulses;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

pub(crate) use ask::ask;
pub(crate) use server::Server;

use crate::availability::Availability;

/// A worker's health. Clones share their state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    pulses: Pulses,
    availability: Option<Arc<Availability>>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Starting,
    Working,
    Draining,
}

/// The response to a request for health.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) status: Status,
    /// What is wrong, in words for operators. A worker that can run some of its tasks is ready, and lists others here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) reasons: Vec<String>,
    /// How long ago Redis last answered each kind of loop; of several the longest. A loop that has nothing to request,
    /// as in a worker whose slots are all busy, may well be silent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) last_success_ms: BTreeMap<String, u64>,
}

/// Whether jobs are claimed and run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Ok,
    #[default]
    Unavailable,
}

impl Report {
    /// Further reasons are cut: with many partitions all are the same.
    const MAX_REASONS: usize = 8;

    pub(crate) fn new(reasons: Vec<String>) -> Self {
        Self::with_notes(reasons, Vec::new())
    }

    /// Creates a report with notes, which do not make it unavailable.
    pub(crate) fn with_notes(mut reasons: Vec<String>, notes: Vec<String>) -> Self {
        let status = if reasons.is_empty() { Status::Ok } else { Status::Unavailable };
        reasons.extend(notes);
        reasons.truncate(Self::MAX_REASONS);
        Self { status, reasons, ..Self::default() }
    }
}

impl Health {
    /// Returns the pulses, for further loops to be added.
    pub(crate) fn pulses(&self) -> Pulses {
        self.0.lock().pulses.clone()
    }

    /// Reports what these can run from now on; when it is nothing, the worker is not ready.
    pub(crate) fn set_availability(&self, availability: Arc<Availability>) {
        self.0.lock().availability = Some(availability);
    }

    /// Reports that jobs are claimed from now on.
    pub(crate) fn set_working(&self) {
        self.0.lock().phase = Phase::Working;
    }

    /// Reports that no more jobs are claimed.
    pub(crate) fn set_draining(&self) {
        self.0.lock().phase = Phase::Draining;
    }

    pub(crate) fn report(&self) -> Report {
        let (now, state) = (Instant::now(), self.0.lock());
        let phase = match state.phase {
            Phase::Starting => Some("starting"),
            Phase::Working => None,
            Phase::Draining => Some("shutting down: no new jobs are taken"),
        };
        let problems = state.pulses.problems(now);
        let mut reasons: Vec<_> = phase.map(str::to_owned).into_iter().chain(problems).collect();
        let availability = state.availability.as_ref();
        let mut notes = availability.map(|it| it.problems()).unwrap_or_default();
        if availability.is_some_and(|it| !it.can_run_any()) {
            reasons.append(&mut notes);
        }
        let ages = state.pulses.ages(now).into_iter();
        let last_success_ms = ages.map(|(kind, age)| (kind, whole_ms(age))).collect();
        Report { last_success_ms, ..Report::with_notes(reasons, notes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suspension::Suspensions;

    #[test]
    fn a_worker_is_ready_while_it_can_run_one_of_its_tasks() {
        let (health, suspensions) = (Health::default(), Arc::<Suspensions>::default());
        let availability = Availability {
            running: Arc::default(),
            suspensions: suspensions.clone(),
            servers: Vec::new(),
            own_tasks: ["a", "b"].map(|name| name.parse().unwrap()).to_vec(),
            wanted: tokio::sync::watch::Sender::default(),
            requested: Arc::default(),
            changed: Arc::default(),
        };
        health.set_availability(Arc::new(availability));
        health.set_working();
        suspensions.suspend(&"a".parse().unwrap(), "no disk");
        let report = health.report();
        let reason = "task a is suspended, as this machine cannot run it: no disk";
        assert_eq!((report.status, &report.reasons[..]), (Status::Ok, &[reason.to_owned()][..]));
        suspensions.suspend(&"b".parse().unwrap(), "no disk");
        let report = health.report();
        assert_eq!((report.status, report.reasons.len()), (Status::Unavailable, 2));
    }

    #[test]
    fn a_worker_is_ready_between_start_and_drain_while_every_pulse_is_well() {
        let health = Health::default();
        let pulses = ["heartbeat", "consumer of partition 0"].map(|name| health.pulses().add(name));
        assert_eq!(health.report().reasons[0], "starting");
        health.set_working();
        assert_eq!(health.report().reasons.len(), 2);
        pulses.iter().for_each(crunch_consumer::Pulse::answered);
        let report = health.report();
        assert_eq!((report.status, &report.reasons[..]), (Status::Ok, &[][..]));
        assert!(report.last_success_ms.keys().eq(["consumer", "heartbeat"]));
        pulses[1].failed("away");
        assert_eq!(health.report().reasons, ["consumer of partition 0: away"]);
        pulses[1].answered();
        health.set_draining();
        assert_eq!(health.report().status, Status::Unavailable);
    }

    #[test]
    fn a_report_says_little_even_of_many_partitions() {
        let health = Health::default();
        let _pulses: Vec<_> =
            (0..4096).map(|at| health.pulses().add(format!("consumer {at}"))).collect();
        assert!(serde_json::to_vec(&health.report()).unwrap().len() < 1024);
    }
}
