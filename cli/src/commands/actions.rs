//! `actions`: what operators did.

use clap::Args;
use jiff::Timestamp;

use super::Session;
use super::list::finish;
use crate::client::Request;
use crate::documents::{OperatorAction, read};
use crate::error::Error;
use crate::exit::Exit;
use crate::format::parse_past;
use crate::output::{Cell, Table};

/// Which actions.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only actions since: 1h (ago), a date, or an RFC 3339 time
    #[arg(long, value_name = "TIME", value_parser = parse_past)]
    since: Option<Timestamp>,
    /// At most this many actions, the newest
    #[arg(long, short = 'n', value_name = "N")]
    limit: Option<usize>,
}

const HEADER: [&str; 5] = ["AT", "BY", "ACTION", "ON", "JOBS"];

pub(crate) fn run(session: &mut Session<'_>, arguments: &Arguments) -> Result<Exit, Error> {
    let mut table = Table::new(&HEADER);
    let limit = arguments.limit.unwrap_or(usize::MAX);
    for document in session.client.items(Request::get(&["actions"])).take(limit) {
        let document = document?;
        let action = read::<OperatorAction>(&document)?;
        // The newest are first.
        if arguments.since.is_some_and(|since| action.at < since) {
            break;
        }
        if session.output.json {
            session.output.document(&document)?;
        } else {
            table.row(row(&action));
        }
    }
    finish(session, &table, "no actions")
}

fn row(action: &OperatorAction) -> Vec<Cell> {
    let by = action.key.as_ref().or(action.address.as_ref());
    let on = [&action.job, &action.worker, &action.filter, &action.queue];
    let on = on.into_iter().flatten().next();
    let jobs = action.count.map(|count| count.to_string());
    vec![
        Cell::time(Some(action.at)),
        Cell::optional(by),
        Cell::text(&action.action),
        Cell::optional(on),
        Cell::optional(jobs.as_ref()),
    ]
}
