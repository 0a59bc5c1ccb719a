//! `logs` and `events`: what a job reports.

use std::collections::VecDeque;

use clap::Args;
use serde_json::json;
use serde_json::value::RawValue;

use super::Session;
use super::get::OneJob;
use crate::client::Request;
use crate::client::events::Next;
use crate::documents::{LogLine, read};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Output;

/// A job, and which part of its log.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The job
    #[arg(value_name = "ID")]
    id: String,
    /// Go on with new lines until the job has ended
    #[arg(long, short)]
    follow: bool,
    /// Begin with the last lines
    #[arg(long, short = 'n', value_name = "LINES")]
    tail: Option<usize>,
    /// Print time and attempt before each line
    #[arg(long, short)]
    timestamps: bool,
}

/// The largest page of a log.
const PAGE: usize = 256;

pub(crate) fn run(session: &mut Session<'_>, arguments: &Arguments) -> Result<Exit, Error> {
    let (known, is_over) = print_after(session, arguments, 0, arguments.tail)?;
    session.output.flush()?;
    if !arguments.follow || is_over {
        return Ok(Exit::Done);
    }
    let known = follow(session, arguments, known)?;
    // The stream leaves lines out if there were too many at once.
    match print_after(session, arguments, known, None) {
        // The job was deleted as soon as it had ended.
        Err(error) if error.exit() == Exit::NotFound => Ok(Exit::Done),
        other => other.map(|_| Exit::Done),
    }
}

/// Prints what there is of the log after a line, at most the last `tail` lines; returns the number of its last line, and whether there will be no more.
fn print_after(
    session: &mut Session<'_>,
    arguments: &Arguments,
    mut known: u64,
    tail: Option<usize>,
) -> Result<(u64, bool), Error> {
    let mut request = Request::get(&["jobs", &arguments.id, "logs"]).query("limit", &PAGE);
    if known > 0 {
        request = request.query("cursor", &known);
    }
    let mut lines: VecDeque<Box<RawValue>> = VecDeque::new();
    let is_over = loop {
        let page: Page = session.client.read(&request)?;
        let is_last = page.items.len() < PAGE;
        for item in page.items {
            known = read::<LogLine>(&item)?.number;
            lines.push_back(item);
            if tail.is_some_and(|tail| lines.len() > tail) {
                lines.pop_front();
            }
        }
        match page.next_cursor {
            None => break true,
            // A short page of a job that has not ended: there are no more lines now.
            Some(_) if is_last => break false,
            Some(cursor) => request = request.query("cursor", &cursor),
        }
    };
    for line in lines {
        print(session.output, arguments, &line)?;
    }
    Ok((known, is_over))
}

#[derive(Debug, serde::Deserialize)]
struct Page {
    items: Vec<Box<RawValue>>,
    next_cursor: Option<String>,
}

/// Prints every line after `known`, each once, until the job has ended; returns the number of the last one.
fn follow(session: &mut Session<'_>, arguments: &Arguments, mut known: u64) -> Result<u64, Error> {
    let mut events = session.client.events(&arguments.id, None);
    loop {
        let event = match events.next()? {
            Next::Event(event) => event,
            Next::End | Next::Late => return Ok(known),
        };
        if event.name == "log" {
            let document = RawValue::from_string(event.data)?;
            let line: LogLine = read(&document)?;
            // The stream begins with the whole log, also after too many changes.
            if line.number > known {
                known = line.number;
                print(session.output, arguments, &document)?;
                session.output.flush()?;
            }
        }
    }
}

fn print(output: &mut Output, arguments: &Arguments, document: &RawValue) -> Result<(), Error> {
    if output.json {
        return Ok(output.document(document)?);
    }
    let LogLine { at, attempt, line, .. } = read(document)?;
    if arguments.timestamps {
        return Ok(output.line(&format!("{at}\t{attempt}\t{line}"))?);
    }
    Ok(output.line(&line)?)
}

pub(crate) fn events(session: &mut Session<'_>, job: &OneJob) -> Result<Exit, Error> {
    let mut events = session.client.events(&job.id, None);
    loop {
        let event = match events.next()? {
            Next::Event(event) => event,
            Next::End | Next::Late => return Ok(Exit::Done),
        };
        if session.output.json {
            let document = json!({ "event": event.name, "id": event.id, "data": event.data });
            session.output.own_document(&document)?;
        } else {
            session.output.line(&format!("{}\t{}", event.name, event.data))?;
        }
        session.output.flush()?;
    }
}
