//! `schedules`: jobs that are submitted by themselves, and what operators do with them.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::value::RawValue;

use super::Session;
use super::list::{finish, list};
use crate::client::Request;
use crate::documents::{Schedule, read};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Cell, Style, Table, log};

/// All schedules, or one.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The schedule
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// What to do with it
    #[arg(value_name = "ACTION", requires = "name", conflicts_with_all = ["file", "remove"])]
    action: Option<Action>,
    /// Create or replace it, from a file with its JSON; - is standard input
    #[arg(long, value_name = "FILE", requires = "name")]
    file: Option<PathBuf>,
    /// Remove it; its jobs stay as they are
    #[arg(long, requires = "name", conflicts_with = "file")]
    remove: bool,
}

/// What to do with a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Action {
    /// Stop its ticks until it is resumed
    Pause,
    /// Go on with its next tick
    Resume,
    /// Submit a job now
    Run,
}

impl Action {
    const fn path(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Run => "run",
        }
    }
}

pub(crate) fn run(session: &mut Session<'_>, arguments: &Arguments) -> Result<Exit, Error> {
    let Some(name) = &arguments.name else { return show_all(session) };
    let path = ["schedules", name.as_str()];
    if arguments.remove {
        session.client.send(&Request::new("DELETE", &path))?;
        return Ok(Exit::Done);
    }
    if let Some(file) = &arguments.file {
        let body = read_file(file)?;
        let request = Request::new("PUT", &path).body("application/json", body);
        let document: Box<RawValue> = session.client.read(&request)?;
        return show(session, &document);
    }
    match arguments.action {
        None => {
            let document: Box<RawValue> = session.client.read(&Request::get(&path))?;
            show(session, &document)
        }
        Some(Action::Run) => {
            let request = Request::new("POST", &["schedules", name, Action::Run.path()]);
            let document: Box<RawValue> = session.client.read(&request)?;
            if session.output.json {
                session.output.document(&document)?;
            } else {
                session.output.line(&read::<crate::documents::Job>(&document)?.id)?;
            }
            Ok(Exit::Done)
        }
        Some(action) => {
            let request = Request::new("POST", &["schedules", name, action.path()]);
            let document: Box<RawValue> = session.client.read(&request)?;
            show(session, &document)
        }
    }
}

fn read_file(file: &PathBuf) -> Result<Vec<u8>, Error> {
    let read = if file.as_os_str() == "-" {
        let mut body = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin(), &mut body).map(|_| body)
    } else {
        std::fs::read(file)
    };
    read.map_err(|error| {
        let reason = format!("{} cannot be read: {error}", file.display());
        Error::usage(reason, "name a file with the JSON of a schedule, or - for standard input")
    })
}

const HEADER: [&str; 9] = [
    "SCHEDULE",
    "STATE",
    "WHEN",
    "TASK",
    "NEXT RUN",
    "LAST TICK",
    "SUBMITTED",
    "SKIPPED",
    "MISSED",
];

fn show_all(session: &mut Session<'_>) -> Result<Exit, Error> {
    let mut table = Table::new(&HEADER);
    list(session, &["schedules"], |document| {
        table.row(row(&read(document)?));
        Ok(())
    })?;
    finish(session, &table, "no schedules: create one with crunch schedules NAME --file FILE")
}

fn show(session: &mut Session<'_>, document: &RawValue) -> Result<Exit, Error> {
    if session.output.json {
        session.output.document(document)?;
        return Ok(Exit::Done);
    }
    let schedule: Schedule = read(document)?;
    let mut table = Table::new(&HEADER);
    table.row(row(&schedule));
    if let Some(paused) = &schedule.paused {
        log::hint(&format!("paused: {} {}", paused.code, paused.reason));
    }
    finish(session, &table, "")
}

fn row(schedule: &Schedule) -> Vec<Cell> {
    let style = match schedule.status.as_str() {
        "active" => Style::Good,
        "paused" => Style::Busy,
        _ => Style::Plain,
    };
    vec![
        Cell::text(&schedule.name),
        Cell::text(&schedule.status).styled(style),
        Cell::text(when(schedule)),
        Cell::text(&schedule.spec.task),
        Cell::time(schedule.next_runs.first().copied()),
        Cell::time(schedule.runs.first().map(|run| run.tick)),
        Cell::number(schedule.submitted),
        Cell::number(schedule.skipped),
        Cell::number(schedule.missed),
    ]
}

/// The line of cron with its time zone, or the interval.
fn when(schedule: &Schedule) -> String {
    let spec = &schedule.spec;
    match (&spec.cron, spec.every_ms) {
        (Some(cron), _) => match spec.time_zone.as_deref() {
            Some("UTC") | None => cron.clone(),
            Some(zone) => format!("{cron} {zone}"),
        },
        (None, ms) => {
            let interval = std::time::Duration::from_millis(ms.unwrap_or_default());
            format!("every {}", crate::format::short_duration(interval))
        }
    }
}
