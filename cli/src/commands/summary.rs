//! `summary`: what the first jobs of a list have in common.

use std::cmp::Reverse;

use clap::Args;
use serde_json::value::RawValue;

use super::Session;
use super::filter::Filter;
use super::list::finish;
use crate::client::{Client, Request};
use crate::clock;
use crate::documents::{Attempt, FailureCount, Job, LabelValue, Summary, read};
use crate::error::Error;
use crate::exit::Exit;
use crate::format::{self, short_duration};
use crate::output::{Cell, Style, Table, log};

/// Which jobs, and what is shown of them.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Count the jobs by the values of this label
    #[arg(long, value_name = "LABEL")]
    by: Option<String>,
    /// Show the jobs whose last attempt took longest, or has run longest
    #[arg(long, conflicts_with = "by")]
    slowest: bool,
    /// Show workers that died or were silent, and the jobs that they ran then
    #[arg(long, conflicts_with_all = ["by", "slowest"])]
    lost: bool,
    /// Read at most this many jobs, the first ones of the list; at most 5000
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1000)]
    limit: u64,
    #[command(flatten)]
    filter: Filter,
}

pub(crate) fn run(session: &mut Session<'_>, arguments: &Arguments) -> Result<Exit, Error> {
    let request = arguments.filter.apply(Request::get(&["jobs", "summary"]));
    let request = request.query_if("by", arguments.by.as_ref()).query("limit", &arguments.limit);
    let document: Box<RawValue> = session.client.read(&request)?;
    if session.output.json {
        session.output.document(&document)?;
        return Ok(Exit::Done);
    }
    let summary: Summary = read(&document)?;
    if summary.more {
        let read = format::jobs(summary.jobs);
        log::note(&format!("only the first {read} of the list were read; there are more"));
    }
    let table = if arguments.by.is_some() {
        by_label(&summary.values)
    } else if arguments.slowest {
        slowest(&summary.slowest)
    } else if arguments.lost {
        lost(&session.client, &summary.lost)?
    } else {
        failures(&summary.failures)
    };
    let why_empty =
        if summary.jobs == 0 { "no jobs" } else { "no such jobs among those that were read" };
    finish(session, &table, why_empty)
}

fn by_label(values: &[LabelValue]) -> Table {
    let mut table = Table::new(&["VALUE", "JOBS", "ERRORS"]);
    for LabelValue { value, jobs, failures } in values {
        let errors = failures.iter().map(|failure| format!("{} x {}", failure.jobs, failure.error));
        table.row([
            Cell::optional(value.as_ref()),
            Cell::number(*jobs),
            Cell::text(errors.collect::<Vec<_>>().join("; ")),
        ]);
    }
    table
}

fn failures(failures: &[FailureCount]) -> Table {
    let mut table = Table::new(&["ERROR", "JOBS", "TASK", "MESSAGE"]);
    for FailureCount { error, jobs } in failures {
        table.row([
            Cell::text(&error.id),
            Cell::number(*jobs),
            Cell::optional(error.task.as_ref()),
            Cell::text(format!("{}: {}", error.code, error.message)).styled(Style::Bad),
        ]);
    }
    table
}

fn slowest(jobs: &[Job]) -> Table {
    let header = ["ID", "STATUS", "TASK", "QUEUE", "RAN FOR", "STARTED", "WORKER", "NOTE"];
    let mut table = Table::new(&header);
    for job in jobs {
        let Some(started) = job.started_at else { continue };
        let took = match job.finished_at {
            Some(ended) => ended.duration_since(started).unsigned_abs(),
            None => clock::since(started),
        };
        table.row([
            Cell::text(&job.id),
            Cell::status(&job.status),
            Cell::text(&job.task),
            Cell::text(&job.queue),
            Cell::shown_as(format::age(took), short_duration(took)),
            Cell::time(Some(started)),
            Cell::optional(job.worker.as_ref()),
            Cell::text(job.note()),
        ]);
    }
    table
}

/// The attempts that ended with their worker, the last one first.
fn lost(client: &Client, jobs: &[Job]) -> Result<Table, Error> {
    let mut all = Vec::new();
    for job in jobs {
        for document in client.items(Request::get(&["jobs", &job.id, "attempts"])) {
            let attempt: Attempt = read(&document?)?;
            if attempt.outcome == "lost" {
                all.push((attempt, job));
            }
        }
    }
    all.sort_by_key(|(attempt, _)| Reverse(attempt.finished_at));
    let mut table = Table::new(&["WORKER", "HOST", "LOST", "ID", "STATUS", "TASK", "QUEUE"]);
    for (attempt, job) in all {
        table.row([
            Cell::optional(attempt.worker),
            Cell::optional(attempt.host),
            Cell::time(attempt.finished_at),
            Cell::text(&job.id),
            Cell::status(&job.status),
            Cell::text(&job.task),
            Cell::text(&job.queue),
        ]);
    }
    Ok(table)
}
