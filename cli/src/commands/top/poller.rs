//! Reads everything that is shown, once a second, for as long as the program runs.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::model::{Snapshot, Update};
use crate::client::{Client, Request};
use crate::error::Error;

/// How often the API is asked: an outage is over for a viewer as soon as it is over.
const INTERVAL: Duration = Duration::from_secs(1);
/// More rows than any screen has.
const ROWS: u32 = 100;

#[derive(Debug, Deserialize)]
struct Page<T> {
    items: Vec<T>,
}

/// Starts the thread; a message makes it read at once.
pub(super) fn start(client: Client, updates: Sender<Update>) -> Sender<()> {
    let (wake, woken) = channel();
    thread::spawn(move || {
        loop {
            let update = match read(&client) {
                Ok(snapshot) => Update::Snapshot(Box::new(snapshot)),
                Err(error) => Update::Away(error.to_string()),
            };
            let is_over = updates.send(update).is_err();
            let next = woken.recv_timeout(INTERVAL);
            if is_over || next == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    });
    wake
}

fn read(client: &Client) -> Result<Snapshot, Error> {
    let running = Request::get(&["jobs"]).query("status", "running").query("limit", &ROWS);
    Ok(Snapshot {
        queues: page(client, &Request::get(&["queues"]))?,
        running: page(client, &running)?,
        workers: page(client, &Request::get(&["workers"]))?,
        errors: page(client, &Request::get(&["errors"]).query("limit", &ROWS))?,
    })
}

fn page<T: DeserializeOwned>(client: &Client, request: &Request) -> Result<Vec<T>, Error> {
    client.read::<Page<T>>(request).map(|page| page.items)
}
