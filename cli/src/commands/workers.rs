//! `workers`: who runs jobs.

use super::Session;
use super::list::{finish, list};
use crate::documents::{Worker, read};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Cell, Style, Table};

const HEADER: [&str; 9] =
    ["ID", "KIND", "HOST", "PID", "VERSION", "BUSY", "STARTED", "SEEN", "TASKS"];

pub(crate) fn run(session: &mut Session<'_>) -> Result<Exit, Error> {
    let mut table = Table::new(&HEADER);
    list(session, &["workers"], |document| {
        table.row(row(&read(document)?));
        Ok(())
    })?;
    finish(session, &table, "no workers: start one, crunch-worker")
}

fn row(worker: &Worker) -> Vec<Cell> {
    let is_full = worker.busy >= worker.slots;
    vec![
        Cell::text(&worker.id),
        Cell::text(&worker.kind),
        Cell::text(&worker.host),
        Cell::number(worker.pid),
        Cell::text(&worker.version),
        Cell::text(format!("{}/{}", worker.busy, worker.slots)).styled_if(is_full, Style::Busy),
        Cell::time(Some(worker.started_at)),
        Cell::time(Some(worker.seen_at)),
        Cell::text(worker.tasks.join(",")),
    ]
}
