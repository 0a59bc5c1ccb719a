//! Readiness of this API: Redis is reachable and suitable, and the process is not shutting down.

use std::time::Duration;

use crunch_common::broker::{Broker, Error};
use parking_lot::Mutex;
use tokio::time::Instant;

/// How often a new connection checks what others may have changed (eviction policy, layout).
const RECHECK: Duration = Duration::from_secs(60);

/// The last result of a probe.
#[derive(Debug)]
pub(crate) struct Readiness {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    probe: Broker,
    opened: Option<Instant>,
    ready: Result<(), String>,
    draining: bool,
}

impl Readiness {
    /// A failure is detected within this time and the time limit of one call.
    pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

    pub(crate) fn new(broker: &Broker) -> Self {
        let ready = Err("not probed yet".to_owned());
        let state =
            State { probe: broker.with_own_connection(), opened: None, ready, draining: false };
        Self { state: Mutex::new(state) }
    }

    pub(crate) async fn tick(&self) -> Result<(), Error> {
        let probe = self.probe();
        let opened = probe.open().await;
        let mut state = self.state.lock();
        state.ready = opened.as_ref().map(|&()| ()).map_err(ToString::to_string);
        if opened.is_ok() {
            state.opened.get_or_insert_with(Instant::now);
        } else {
            state.opened = None;
        }
        opened
    }

    /// Returns why the API cannot serve, if it cannot.
    pub(crate) fn check(&self) -> Result<(), String> {
        let state = self.state.lock();
        if state.draining { Err("shutting down".to_owned()) } else { state.ready.clone() }
    }

    pub(crate) fn drain(&self) {
        self.state.lock().draining = true;
    }

    fn probe(&self) -> Broker {
        let mut state = self.state.lock();
        if state.opened.is_some_and(|opened| opened.elapsed() >= RECHECK) {
            state.probe = state.probe.with_own_connection();
            state.opened = None;
        }
        state.probe.clone()
    }
}
