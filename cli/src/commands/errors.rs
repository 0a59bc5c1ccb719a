//! `errors`: failures by their kind.

use clap::Args;
use serde_json::value::RawValue;

use super::Session;
use super::list::{finish, list_by};
use crate::client::Request;
use crate::completion;
use crate::documents::{ErrorGroup, read};
use crate::error::Error;
use crate::exit::Exit;
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
    list_by(session, request, |document| {
        table.row(row(&read(document)?));
        Ok(())
    })?;
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
