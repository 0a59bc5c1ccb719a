//! `jobs`: a list of jobs.

use clap::Args;

use super::filter::Filter;
use super::list::finish;
use super::{Session, get};
use crate::client::Request;
use crate::documents::{Job, read};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Table, log};

/// Which jobs, and how many.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// At most this many jobs
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
    limit: usize,
    /// All jobs
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Also show worker, start, end and metadata
    #[arg(long, short)]
    wide: bool,
    #[command(flatten)]
    filter: Filter,
}

/// The largest page.
const PAGE: usize = 100;
/// How many rows are aligned together; a longer list is printed in parts, in constant memory.
const ROWS: usize = 1000;

pub(crate) fn run(session: &mut Session<'_>, arguments: &Arguments) -> Result<Exit, Error> {
    let limit = if arguments.all { usize::MAX } else { arguments.limit };
    // One more than wanted, to know whether there are more.
    let page = PAGE.min(limit.saturating_add(1));
    let request = arguments.filter.apply(Request::get(&["jobs"])).query("limit", &page);
    let header = || match arguments.wide {
        true => Table::new(&get::WIDE_HEADER),
        false => Table::new(&get::HEADER),
    };
    let row: fn(&Job) -> _ = if arguments.wide { get::wide_row } else { get::row };
    let (mut table, mut printed) = (header(), false);
    for (at, document) in session.client.items(request).enumerate() {
        let document = document?;
        if at == limit {
            log::hint("there are more: use --limit or --all");
            break;
        }
        if session.output.json {
            session.output.document(&document)?;
            continue;
        }
        table.row(row(&read::<Job>(&document)?));
        if table.len() == ROWS {
            session.output.table(&table)?;
            (table, printed) = (header(), true);
        }
    }
    if printed && table.is_empty() {
        return Ok(Exit::Done);
    }
    finish(session, &table, "no jobs")
}
