//! `wait`: until jobs have ended.

use std::time::{Duration, Instant};

use clap::Args;

use super::{Session, get};
use crate::error::Error;
use crate::exit::Exit;
use crate::follow;
use crate::format::parse_duration;
use crate::output::{Cell, Table};

/// Jobs, and how long to wait for all of them together.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Jobs
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// Give up after this time, with exit code 7; the jobs go on. With 0 it only looks
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

/// Prints a line for each job, in the order given.
pub(crate) fn run(session: &mut Session<'_>, arguments: &Arguments) -> Result<Exit, Error> {
    let started = Instant::now();
    get::each(&arguments.ids, |id| {
        let left = arguments.timeout.map(|limit| limit.saturating_sub(started.elapsed()));
        let ended = follow::until_end(&session.client, id, left).map_err(|error| match error {
            // The time for all of them, not what was left for this one.
            Error::TimedOut { id, after } => {
                Error::TimedOut { id, after: arguments.timeout.unwrap_or(after) }
            }
            other => other,
        })?;
        if session.output.json {
            session.output.document(&ended.document)?;
        } else {
            let mut table = Table::new(&["ID", "STATUS", "NOTE"]);
            let job = &ended.job;
            table.row([Cell::text(id), Cell::status(&job.status), Cell::text(job.note())]);
            session.output.table(&table)?;
        }
        session.output.flush()?;
        Ok(if ended.job.status == "succeeded" { Exit::Done } else { Exit::Failed })
    })
}
