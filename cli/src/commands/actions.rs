//! `actions`: what operators did.

use clap::Args;
use jiff::Timestamp;

use super::Session;
use super::list::finish;
use crate::client::Request;
use crate::completion;
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
    /// Only actions before: 1h (ago), a date, or an RFC 3339 time
    #[arg(long, value_name = "TIME", value_parser = parse_past)]
    before: Option<Timestamp>,
    /// Only those of this caller: the name of a key, or an address
    #[arg(long, value_name = "WHO")]
    by: Option<String>,
    /// Only these
    #[arg(long, value_name = "ACTION", value_parser = ACTIONS)]
    action: Option<String>,
    /// Only those on this queue
    #[arg(long, value_name = "QUEUE", add = clap_complete::ArgValueCandidates::new(completion::queues))]
    queue: Option<String>,
    /// Only those on this job alone
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
    /// Only those on this worker
    #[arg(long, value_name = "WORKER")]
    worker: Option<String>,
    /// Only those on jobs with this kind of error, an id of `crunch errors`
    #[arg(long, value_name = "ID")]
    error: Option<String>,
    /// At most this many actions, the newest
    #[arg(long, short = 'n', value_name = "N")]
    limit: Option<usize>,
}

const ACTIONS: [&str; 9] =
    ["cancel", "retry", "delete", "redrive", "purge", "pause", "resume", "quiet", "stop"];
const HEADER: [&str; 5] = ["AT", "BY", "ACTION", "ON", "JOBS"];

pub(crate) fn run(session: &mut Session<'_>, arguments: &Arguments) -> Result<Exit, Error> {
    let mut table = Table::new(&HEADER);
    let limit = arguments.limit.unwrap_or(usize::MAX);
    for document in session.client.items(arguments.request()).take(limit) {
        let document = document?;
        let action = read::<OperatorAction>(&document)?;
        if session.output.json {
            session.output.document(&document)?;
        } else {
            table.row(row(&action));
        }
    }
    finish(session, &table, "no actions")
}

impl Arguments {
    fn request(&self) -> Request {
        Request::get(&["actions"])
            .query_if("from", self.since.as_ref())
            .query_if("to", self.before.as_ref())
            .query_if("by", self.by.as_ref())
            .query_if("action", self.action.as_ref())
            .query_if("queue", self.queue.as_ref())
            .query_if("job", self.job.as_ref())
            .query_if("worker", self.worker.as_ref())
            .query_if("error", self.error.as_ref())
    }
}

fn row(action: &OperatorAction) -> Vec<Cell> {
    let by = action.key.as_ref().or(action.address.as_ref());
    let filter = action.filter.as_ref().map(|filter| match &action.error {
        Some(error) => format!("{filter} ({error})"),
        None => filter.clone(),
    });
    let group = action.group.as_ref().zip(action.queue.as_ref());
    let group = group.map(|(group, queue)| format!("{queue}: {group}"));
    let on = [
        &action.job,
        &action.worker,
        &filter,
        &group,
        &action.schedule,
        &action.limit,
        &action.queue,
    ];
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
