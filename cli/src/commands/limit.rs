//! `limit`: how many jobs of a queue run, and start in a time.

use clap::Args;
use jiff::Timestamp;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Session;
use super::groups::{RateArguments, body, rate};
use super::list::finish;
use crate::client::Request;
use crate::completion;
use crate::documents::{Limit, read};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Cell, Style, Table};

/// The limit of a queue: alone, shows it.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The queue
    #[arg(value_name = "QUEUE", add = clap_complete::ArgValueCandidates::new(completion::queues))]
    queue: String,
    /// How many of its jobs may run at the same time
    #[arg(long, value_name = "N")]
    concurrency: Option<u32>,
    #[command(flatten)]
    rate: RateArguments,
    /// A limit that it shares with other queues; twice for two
    #[arg(long, value_name = "LIMIT")]
    share: Vec<String>,
    /// Remove the limit
    #[arg(long, conflicts_with_all = ["concurrency", "rate", "burst", "share"])]
    remove: bool,
}

impl Arguments {
    /// As the body of a request, which replaces the limit before; `None` if nothing is given.
    fn body(&self) -> Option<Value> {
        let shared = if self.share.is_empty() { Value::Null } else { json!(self.share) };
        body([
            ("concurrency", json!(self.concurrency)),
            ("rate", self.rate.body()),
            ("limits", shared),
        ])
    }
}

pub(crate) fn run(session: &mut Session<'_>, arguments: &Arguments) -> Result<Exit, Error> {
    let path = ["queues", &arguments.queue, "limit"];
    if arguments.remove {
        session.client.send(&Request::new("DELETE", &path))?;
        return Ok(Exit::Done);
    }
    let request = match arguments.body() {
        Some(body) => {
            Request::new("PUT", &path).body("application/json", body.to_string().into_bytes())
        }
        None => Request::get(&path),
    };
    let document: Box<RawValue> = session.client.read(&request)?;
    if session.output.json {
        session.output.document(&document)?;
        return Ok(Exit::Done);
    }
    let mut table =
        Table::new(&["CONCURRENCY", "RATE", "SHARED", "RUNNING", "STATE", "NEXT START"]);
    table.row(cells(&read(&document)?));
    finish(session, &table, "")
}

/// The state of a limit, and when the next job may start.
pub(super) fn state(state: &str, next_start_at: Option<Timestamp>) -> [Cell; 2] {
    let style = if state == "open" { Style::Good } else { Style::Busy };
    [Cell::text(state).styled(style), Cell::time(next_start_at)]
}

fn cells(limit: &Limit) -> [Cell; 6] {
    let [state, next_start] = state(&limit.state, limit.next_start_at);
    [
        limit.concurrency.map_or_else(|| Cell::text(""), Cell::number),
        Cell::optional(limit.rate.as_ref().map(rate)),
        Cell::text(limit.limits.join(" ")),
        Cell::number(limit.running),
        state,
        next_start,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_has_the_members_of_the_api() {
        let mut arguments = Arguments {
            queue: "q".to_owned(),
            concurrency: None,
            rate: RateArguments::default(),
            share: Vec::new(),
            remove: false,
        };
        assert_eq!(arguments.body(), None);
        arguments.concurrency = Some(3);
        arguments.rate = RateArguments::of("100/60s");
        let rate = json!({ "starts": 100, "per_ms": 60_000 });
        assert_eq!(arguments.body(), Some(json!({ "concurrency": 3, "rate": rate })));
        arguments = Arguments { concurrency: None, rate: RateArguments::default(), ..arguments };
        arguments.share = vec!["one".to_owned(), "two".to_owned()];
        assert_eq!(arguments.body(), Some(json!({ "limits": ["one", "two"] })));
    }
}
