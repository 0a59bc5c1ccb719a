//! `get`, `attempts` and `deliveries`: what is known of single jobs.

use clap::Args;
use serde_json::value::RawValue;

use super::Session;
use super::list::{finish, list};
use crate::client::Request;
use crate::documents::{Attempt, Job, read};
use crate::error::Error;
use crate::exit::Exit;
use crate::format::bytes;
use crate::output::{Cell, Style, Table, log};

/// Some jobs.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Jobs
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

/// One job.
#[derive(Debug, Args)]
pub(crate) struct OneJob {
    /// The job
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

pub(crate) fn run(session: &mut Session<'_>, arguments: &Arguments) -> Result<Exit, Error> {
    each(&arguments.ids, |id| {
        let document: Box<RawValue> = session.client.read(&Request::get(&["jobs", id]))?;
        show(session, &document)?;
        Ok(Exit::Done)
    })
}

/// Does something for each id: what is wrong with one job is reported, and does not prevent the others. Returns the
/// worst of all.
pub(super) fn each(
    ids: &[String],
    mut act: impl FnMut(&str) -> Result<Exit, Error>,
) -> Result<Exit, Error> {
    let mut worst = Exit::Done;
    for id in ids {
        let error = match act(id) {
            Ok(exit) => {
                worst = worst.max(exit);
                continue;
            }
            // Nothing more can be printed.
            Err(error @ Error::Output(_)) => return Err(error),
            Err(error) => error,
        };
        log::error(&error);
        worst = worst.max(error.exit());
        // What the API refuses, or does not answer, it would do for all others too.
        if matches!(error.exit(), Exit::Away | Exit::Refused | Exit::Usage) {
            break;
        }
    }
    Ok(worst)
}

/// Shows one job: its members below each other on a terminal, in a row elsewhere.
pub(super) fn show(session: &mut Session<'_>, document: &RawValue) -> Result<(), Error> {
    if session.output.json {
        return Ok(session.output.document(document)?);
    }
    let job: Job = read(document)?;
    if !session.output.is_terminal {
        let mut table = Table::new(&[]);
        table.row(row(&job));
        return Ok(session.output.table(&table)?);
    }
    let mut table = Table::new(&[]);
    let mut add = |name: &str, cell: Cell| table.row([Cell::text(name).styled(Style::Dim), cell]);
    add("id", Cell::text(&job.id));
    add("task", Cell::text(&job.task));
    add("queue", Cell::text(format!("{} ({})", job.queue, job.priority)));
    if let Some(group) = &job.group {
        add("group", Cell::text(group));
    }
    if let Some(unique) = &job.unique {
        add("unique", Cell::text(unique.to_string()));
    }
    add("status", Cell::status(&job.status));
    if let Some(progress) = job.progress {
        let message = job.progress_message.clone().unwrap_or_default();
        add("progress", Cell::text(format!("{:.0} %  {message}", progress * 100.0)));
    }
    let put_off = match job.snoozes {
        0 => String::new(),
        times => format!(", put off {times}×"),
    };
    add("attempt", Cell::text(format!("{} of {}{put_off}", job.attempt, job.max_attempts)));
    if !job.note().is_empty() && job.status != "running" {
        add("note", Cell::text(job.note()).styled_if(job.status == "failed", Style::Bad));
    }
    if let Some(group) = &job.error_group {
        add("error kind", Cell::text(group));
    }
    if let Some(worker) = &job.worker {
        add("worker", Cell::text(worker));
    }
    let times = [
        ("created", Some(job.created_at)),
        ("starts", job.run_at),
        ("started", job.started_at),
        ("ended", job.finished_at),
        ("expires", job.expires_at),
    ];
    for (name, time) in times.into_iter().filter(|(_, time)| time.is_some()) {
        add(name, Cell::time(time));
    }
    add("payload", Cell::text(bytes(job.payload_size)));
    if let Some(size) = job.result_size {
        add("result", Cell::text(bytes(size)));
    }
    for (name, value) in &job.metadata {
        add("metadata", Cell::text(format!("{name}={value}")));
    }
    Ok(session.output.table(&table)?)
}

/// The row of a job in a list.
pub(super) fn row(job: &Job) -> Vec<Cell> {
    let progress = match job.progress {
        Some(part) if job.status == "running" => {
            Cell::shown_as(format!("{:.0} %", part * 100.0), part.to_string())
        }
        _ => Cell::text(""),
    };
    vec![
        Cell::text(&job.id),
        Cell::status(&job.status),
        Cell::text(&job.task),
        Cell::text(&job.queue),
        Cell::number(job.attempt),
        progress,
        Cell::time(Some(job.created_at)),
        Cell::text(job.note()),
    ]
}

/// The same with who ran it when, and for whom, before the note.
pub(super) fn wide_row(job: &Job) -> Vec<Cell> {
    let labels = job.metadata.iter().map(|(name, value)| format!("{name}={value}"));
    let mut row = row(job);
    let note = row.pop();
    row.extend([
        Cell::optional(job.worker.as_ref()),
        Cell::time(job.started_at),
        Cell::time(job.finished_at),
        Cell::text(labels.collect::<Vec<_>>().join(" ")),
    ]);
    row.extend(note);
    row
}

/// The header of [`wide_row`].
pub(super) const WIDE_HEADER: [&str; 12] = [
    "ID", "STATUS", "TASK", "QUEUE", "ATTEMPT", "PROGRESS", "CREATED", "WORKER", "STARTED",
    "ENDED", "METADATA", "NOTE",
];

/// The header of [`row`].
pub(super) const HEADER: [&str; 8] =
    ["ID", "STATUS", "TASK", "QUEUE", "ATTEMPT", "PROGRESS", "CREATED", "NOTE"];

pub(crate) fn attempts(session: &mut Session<'_>, job: &OneJob) -> Result<Exit, Error> {
    let header = ["ATTEMPT", "OUTCOME", "WORKER", "HOST", "STARTED", "ENDED", "ERROR"];
    let mut table = Table::new(&header);
    list(session, &["jobs", &job.id, "attempts"], |document| {
        let attempt: Attempt = read(document)?;
        let error = attempt.error.map(|error| format!("{}: {}", error.code, error.message));
        table.row([
            Cell::number(attempt.number),
            Cell::status(&attempt.outcome),
            Cell::optional(attempt.worker),
            Cell::optional(attempt.host),
            Cell::time(attempt.started_at),
            Cell::time(attempt.finished_at),
            Cell::optional(error),
        ]);
        Ok(())
    })?;
    finish(session, &table, "the job has not run yet")
}

pub(crate) fn deliveries(session: &mut Session<'_>, job: &OneJob) -> Result<Exit, Error> {
    let mut table = Table::new(&["DELIVERY", "STATUS", "ATTEMPT", "CREATED", "EVENT"]);
    list(session, &["jobs", &job.id, "deliveries"], |document| {
        let delivery: Delivery = read(document)?;
        table.row([
            Cell::optional(delivery.id),
            Cell::status(&delivery.status),
            Cell::number(delivery.attempt),
            Cell::time(delivery.created_at),
            Cell::optional(delivery.event),
        ]);
        Ok(())
    })?;
    finish(session, &table, "the job has no webhook, or has not ended yet")
}

#[derive(Debug, serde::Deserialize)]
struct Delivery {
    id: Option<String>,
    status: String,
    #[serde(default)]
    attempt: u32,
    created_at: Option<jiff::Timestamp>,
    event: Option<String>,
}
