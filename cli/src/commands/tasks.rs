//! `tasks`: what workers declared, and what a task accepts.

use std::time::Duration;

use clap::Args;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Session;
use super::list::{finish, list};
use crate::client::Request;
use crate::completion;
use crate::documents::{Task, read};
use crate::error::Error;
use crate::exit::Exit;
use crate::format::{bytes, short_duration};
use crate::output::{Cell, Style, Table};

/// All tasks, or one.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Show this task with its schemas
    #[arg(value_name = "TASK", add = clap_complete::ArgValueCandidates::new(completion::tasks))]
    task: Option<String>,
}

pub(crate) fn run(session: &mut Session<'_>, arguments: &Arguments) -> Result<Exit, Error> {
    if let Some(task) = &arguments.task {
        let document: Box<RawValue> = session.client.read(&Request::get(&["tasks", task]))?;
        return show(session, &document);
    }
    let mut table = Table::new(&["TASK", "QUEUE", "WORKERS", "ATTEMPTS", "TIMEOUT", "DESCRIPTION"]);
    list(session, &["tasks"], |document| {
        let task: Task = read(document)?;
        table.row([
            Cell::text(&task.name),
            Cell::text(&task.queue),
            Cell::number(task.workers).styled_if(task.workers == 0, Style::Bad),
            Cell::number(task.max_attempts),
            timeout(&task),
            Cell::text(task.description),
        ]);
        Ok(())
    })?;
    finish(session, &table, "no tasks: no worker was started yet")
}

fn timeout(task: &Task) -> Cell {
    Cell::shown_as(
        short_duration(Duration::from_millis(task.timeout_ms)),
        task.timeout_ms.to_string(),
    )
}

fn show(session: &mut Session<'_>, document: &RawValue) -> Result<Exit, Error> {
    if session.output.json {
        session.output.document(document)?;
        return Ok(Exit::Done);
    }
    let task: Task = read(document)?;
    let mut table = Table::new(&[]);
    let mut add = |name: &str, cell: Cell| table.row([Cell::text(name).styled(Style::Dim), cell]);
    add("name", Cell::text(&task.name));
    add("description", Cell::text(&task.description));
    add("queue", Cell::text(format!("{} ({})", task.queue, task.priority)));
    add("workers", Cell::text(task.workers.to_string()).styled_if(task.workers == 0, Style::Bad));
    add(
        "accepts",
        Cell::text(format!("{}, at most {}", task.accepts.join(", "), bytes(task.max_payload))),
    );
    add("returns", Cell::text(&task.content_type));
    add("attempts", Cell::text(task.max_attempts.to_string()));
    add("timeout", timeout(&task));
    if let Some(unique) = &task.unique {
        add("unique", Cell::text(unique.to_string()));
    }
    session.output.table(&table)?;
    for (name, schema) in [("payload", &task.payload_schema), ("result", &task.result_schema)] {
        let Some(schema) = schema else { continue };
        session.output.line("")?;
        session.output.line(&format!("schema of the {name}:"))?;
        print_schema(session, schema)?;
    }
    Ok(Exit::Done)
}

fn print_schema(session: &mut Session<'_>, schema: &Value) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(schema)?;
    Ok(text.lines().try_for_each(|line| session.output.line(line))?)
}
