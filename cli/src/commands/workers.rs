//! `workers`: who runs jobs, and what they are requested to do.

use clap::Args;
use serde_json::value::RawValue;

use super::list::{finish, list};
use super::{Session, get};
use crate::client::Request;
use crate::documents::{Worker, read};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Cell, Style, Table};

/// Which worker, and what it is to do.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only this worker
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// It claims no more jobs; those it has continue
    #[arg(long, requires = "id", conflicts_with_all = ["resume", "stop"])]
    quiet: bool,
    /// It claims jobs again
    #[arg(long, requires = "id", conflicts_with = "stop")]
    resume: bool,
    /// It claims no more jobs, and ends once nothing runs
    #[arg(long, requires = "id")]
    stop: bool,
    /// List the jobs that it runs
    #[arg(long, requires = "id", conflicts_with_all = ["quiet", "resume", "stop"])]
    jobs: bool,
}

const HEADER: [&str; 10] =
    ["ID", "KIND", "STATE", "HOST", "PID", "VERSION", "BUSY", "STARTED", "SEEN", "TASKS"];

pub(crate) fn run(session: &mut Session<'_>, arguments: &Arguments) -> Result<Exit, Error> {
    let mut table = Table::new(&HEADER);
    let Some(id) = &arguments.id else {
        list(session, &["workers"], |document| {
            table.row(row(&read(document)?));
            Ok(())
        })?;
        return finish(session, &table, "no workers: start one, crunch-worker");
    };
    if arguments.jobs {
        return running(session, id);
    }
    let document: Box<RawValue> = session.client.read(&match verb(arguments) {
        Some(verb) => Request::post(&["workers", id, verb]),
        None => Request::get(&["workers", id]),
    })?;
    if session.output.json {
        session.output.document(&document)?;
        return Ok(Exit::Done);
    }
    table.row(row(&read(&document)?));
    finish(session, &table, "")
}

fn running(session: &mut Session<'_>, id: &str) -> Result<Exit, Error> {
    let worker: Worker = session.client.read(&Request::get(&["workers", id]))?;
    let mut table = Table::new(&get::WIDE_HEADER);
    for job in worker.running {
        let document: Box<RawValue> = match session.client.read(&Request::get(&["jobs", &job.id])) {
            Ok(document) => document,
            // It has ended meanwhile, and was deleted.
            Err(error) if error.exit() == Exit::NotFound => continue,
            Err(error) => return Err(error),
        };
        if session.output.json {
            session.output.document(&document)?;
        } else {
            table.row(get::wide_row(&read(&document)?));
        }
    }
    finish(session, &table, "it runs no job")
}

const fn verb(arguments: &Arguments) -> Option<&'static str> {
    match arguments {
        Arguments { quiet: true, .. } => Some("quiet"),
        Arguments { resume: true, .. } => Some("resume"),
        Arguments { stop: true, .. } => Some("stop"),
        _ => None,
    }
}

fn row(worker: &Worker) -> Vec<Cell> {
    let is_full = worker.busy >= worker.slots;
    vec![
        Cell::text(&worker.id),
        Cell::text(&worker.kind),
        Cell::text(state(worker)).styled_if(worker.state != "running", Style::Busy),
        Cell::text(&worker.host),
        Cell::number(worker.pid),
        Cell::text(&worker.version),
        Cell::text(format!("{}/{}", worker.busy, worker.slots)).styled_if(is_full, Style::Busy),
        Cell::time(Some(worker.started_at)),
        Cell::time(Some(worker.seen_at)),
        Cell::text(worker.tasks.join(",")),
    ]
}

/// What it does, and what it is to do if that is something else: it learns it with its next heartbeat.
fn state(worker: &Worker) -> String {
    match &worker.wanted {
        Some(wanted) if *wanted != worker.state => format!("{} → {wanted}", worker.state),
        _ => worker.state.clone(),
    }
}
