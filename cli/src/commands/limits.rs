//! `limits`: limits that queues share.

use clap::Args;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Session;
use super::groups::{RateArguments, body, rate};
use super::limit::state;
use super::list::finish;
use crate::client::Request;
use crate::documents::{SharedLimit, read};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Cell, Table, log};

/// The limits that queues share, or one of them: alone, shows it.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The limit. A queue shares it with `crunch limit QUEUE --share NAME`
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// How many jobs of its queues may run at the same time
    #[arg(long, value_name = "N", requires = "name")]
    concurrency: Option<u32>,
    #[command(flatten)]
    rate: RateArguments,
    /// Remove the limit
    #[arg(long, requires = "name", conflicts_with_all = ["concurrency", "rate", "burst"])]
    remove: bool,
}

impl Arguments {
    /// As the body of a request, which replaces the limit before; `None` if nothing is given.
    fn body(&self) -> Option<Value> {
        body([("concurrency", json!(self.concurrency)), ("rate", self.rate.body())])
    }
}

pub(crate) fn run(session: &mut Session<'_>, arguments: &Arguments) -> Result<Exit, Error> {
    let Some(name) = &arguments.name else {
        if arguments.body().is_some() {
            return Err(Error::usage("there is no limit to set", "name the limit first"));
        }
        return list(session);
    };
    let path = ["limits", name];
    if arguments.remove {
        return remove(session, &path);
    }
    let request = match arguments.body() {
        Some(body) => {
            Request::new("PUT", &path).body("application/json", body.to_string().into_bytes())
        }
        None => Request::get(&path),
    };
    let document: Box<RawValue> = session.client.read(&request)?;
    show(session, &[document])
}

fn list(session: &mut Session<'_>) -> Result<Exit, Error> {
    let items = session.client.items(Request::get(&["limits"])).collect::<Result<Vec<_>, _>>()?;
    if items.is_empty() {
        log::hint("no limits: make one with crunch limits NAME --concurrency 2");
    }
    show(session, &items)
}

fn remove(session: &mut Session<'_>, path: &[&str]) -> Result<Exit, Error> {
    let document: Box<RawValue> = session.client.read(&Request::new("DELETE", path))?;
    if session.output.json {
        session.output.document(&document)?;
    }
    Ok(Exit::Done)
}

fn show(session: &mut Session<'_>, documents: &[Box<RawValue>]) -> Result<Exit, Error> {
    if session.output.json {
        for document in documents {
            session.output.document(document)?;
        }
        return Ok(Exit::Done);
    }
    let columns = ["NAME", "CONCURRENCY", "RATE", "RUNNING", "STATE", "NEXT START", "QUEUES"];
    let mut table = Table::new(&columns);
    for document in documents {
        table.row(cells(&read(document)?));
    }
    finish(session, &table, "")
}

fn cells(limit: &SharedLimit) -> [Cell; 7] {
    let [state, next_start] = state(&limit.state, limit.next_start_at);
    [
        Cell::text(&limit.name),
        limit.concurrency.map_or_else(|| Cell::text(""), Cell::number),
        Cell::optional(limit.rate.as_ref().map(rate)),
        Cell::number(limit.running),
        state,
        next_start,
        Cell::text(limit.queues.join(" ")),
    ]
}
