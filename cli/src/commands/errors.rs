//! `errors`: failures by their kind.

use clap::Args;
use jiff::Timestamp;
use serde_json::value::RawValue;

use super::Session;
use super::list::finish;
use crate::client::Request;
use crate::completion;
use crate::documents::{ErrorGroup, read};
use crate::error::Error;
use crate::exit::Exit;
use crate::format::parse_past;
use crate::output::{Cell, Style, Table};

/// Which kinds.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only this kind
    #[arg(value_name = "ID", conflicts_with_all = ["queue", "task"])]
    id: Option<String>,
    /// Only failures in this queue
    #[arg(long, value_name = "QUEUE", add = clap_complete::ArgValueCandidates::new(completion::queues))]
    queue: Option<String>,
    /// Only failures of this task
    #[arg(long, value_name = "TASK", add = clap_complete::ArgValueCandidates::new(completion::tasks))]
    task: Option<String>,
    /// Only kinds of which something failed since: 1h (ago), a date, or an RFC 3339 time
    #[arg(long, value_name = "TIME", value_parser = parse_past, conflicts_with = "id")]
    since: Option<Timestamp>,
    /// Only kinds of which nothing had failed before: those that are new since a deployment
    #[arg(long, value_name = "TIME", value_parser = parse_past, conflicts_with = "id")]
    new_since: Option<Timestamp>,
}

const HEADER: [&str; 8] =
    ["ID", "FAILED JOBS", "FAILURES", "TASK", "QUEUE", "FIRST", "LAST", "ERROR"];

pub(crate) fn run(session: &mut Session<'_>, arguments: &Arguments) -> Result<Exit, Error> {
    let mut table = Table::new(&HEADER);
    if let Some(id) = &arguments.id {
        let document: Box<RawValue> = session.client.read(&Request::get(&["errors", id]))?;
        if session.output.json {
            session.output.document(&document)?;
            return Ok(Exit::Done);
        }
        table.row(row(&read(&document)?));
        return finish(session, &table, "");
    }
    let request = Request::get(&["errors"])
        .query_if("queue", arguments.queue.as_ref())
        .query_if("task", arguments.task.as_ref());
    let is_new =
        |group: &ErrorGroup| arguments.new_since.is_none_or(|since| group.first_at >= since);
    for document in session.client.items(request) {
        let document = document?;
        let group: ErrorGroup = read(&document)?;
        // The one with the newest failure is first.
        if arguments.since.max(arguments.new_since).is_some_and(|since| group.last_at < since) {
            break;
        }
        if !is_new(&group) {
            continue;
        }
        if session.output.json {
            session.output.document(&document)?;
        } else {
            table.row(row(&group));
        }
    }
    finish(session, &table, "no failures")
}

fn row(group: &ErrorGroup) -> Vec<Cell> {
    vec![
        Cell::text(&group.id),
        Cell::number(group.failed_jobs).styled_if(group.failed_jobs > 0, Style::Bad),
        Cell::number(group.failures),
        Cell::optional(group.task.as_ref()),
        Cell::optional(group.queue.as_ref()),
        Cell::time(Some(group.first_at)),
        Cell::time(Some(group.last_at)),
        Cell::text(format!("{}: {}", group.error.code, group.error.message)),
    ]
}
