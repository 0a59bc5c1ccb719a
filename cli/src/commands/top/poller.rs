//! Reads what is shown, for as long as the program runs: at most one request a second, every other one for the pane in use.
//!
//! The API has no public stream of what happens everywhere: the ticks of the dashboard belong to its sessions. And its lists
//! have no ETag, because the ages in them differ in each answer. So this asks, and keeps it cheap.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::model::{PANES, Pane, Rows, Update};
use crate::client::{Client, Request};
use crate::error::Error;

/// Between two requests. An outage is over for a viewer as soon as it is over.
const INTERVAL: Duration = Duration::from_secs(1);
/// More rows than any screen has.
const ROWS: u32 = 100;

#[derive(Debug, Deserialize)]
struct Page<T> {
    items: Vec<T>,
}

/// Which pane is read next.
#[derive(Debug)]
struct Turns {
    in_use: Pane,
    other: usize,
    is_for_other: bool,
}

impl Turns {
    const fn new() -> Self {
        Self { in_use: PANES[0], other: 0, is_for_other: true }
    }

    /// The pane in use is another one, or what it shows has changed: it is next.
    fn use_pane(&mut self, pane: Pane) {
        (self.in_use, self.is_for_other) = (pane, true);
    }

    fn next(&mut self) -> Pane {
        self.is_for_other = !self.is_for_other;
        if self.is_for_other {
            self.other = (self.other + 1) % PANES.len();
            if PANES[self.other] == self.in_use {
                self.other = (self.other + 1) % PANES.len();
            }
            return PANES[self.other];
        }
        self.in_use
    }
}

/// Starts the thread; a message is the pane in use.
pub(super) fn start(client: Client, updates: Sender<Update>) -> Sender<Pane> {
    let (sender, in_use) = channel();
    thread::spawn(move || {
        // First everything, so that no pane is empty without reason.
        let is_open = PANES.into_iter().all(|pane| updates.send(read(&client, pane)).is_ok());
        let mut turns = Turns::new();
        while is_open && pause(&in_use, &mut turns) {
            if updates.send(read(&client, turns.next())).is_err() {
                return;
            }
        }
    });
    sender
}

/// Waits for the next request, and learns which pane is in use. Returns false if the program ends.
fn pause(in_use: &Receiver<Pane>, turns: &mut Turns) -> bool {
    let ends = Instant::now() + INTERVAL;
    loop {
        match in_use.recv_timeout(ends.saturating_duration_since(Instant::now())) {
            Ok(pane) => turns.use_pane(pane),
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

fn read(client: &Client, pane: Pane) -> Update {
    let list = |name: &str| Request::get(&[name]);
    let running = || list("jobs").query("status", "running").query("limit", &ROWS);
    let rows = match pane {
        Pane::Queues => page(client, &list("queues")).map(Rows::Queues),
        Pane::Running => page(client, &running()).map(Rows::Running),
        Pane::Workers => page(client, &list("workers")).map(Rows::Workers),
        Pane::Errors => page(client, &list("errors").query("limit", &ROWS)).map(Rows::Errors),
    };
    rows.map_or_else(|error| Update::Away(error.to_string()), Update::Rows)
}

fn page<T: DeserializeOwned>(client: &Client, request: &Request) -> Result<Vec<T>, Error> {
    client.read::<Page<T>>(request).map(|page| page.items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_other_turn_is_for_the_pane_in_use() {
        use Pane::{Errors, Queues, Running, Workers};
        let mut turns = Turns::new();
        let mut next = |count: usize| (0..count).map(|_| turns.next()).collect::<Vec<_>>();
        assert_eq!(next(6), [Queues, Running, Queues, Workers, Queues, Errors]);
        assert_eq!(next(3), [Queues, Running, Queues]);
        turns.use_pane(Workers);
        let next: Vec<_> = (0..6).map(|_| turns.next()).collect();
        assert_eq!(next, [Workers, Errors, Workers, Queues, Workers, Running]);
    }
}
