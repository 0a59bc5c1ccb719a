//! `queues` and the verbs on one: `pause`, `resume`, `purge`, `redrive`.

use std::time::Duration;

use clap::Args;
use serde_json::value::RawValue;

use super::Session;
use super::bulk::{self, Consent, Verb};
use super::filter::Filter;
use super::list::{finish, list};
use crate::client::Request;
use crate::completion;
use crate::documents::{Queue, read};
use crate::error::Error;
use crate::exit::Exit;
use crate::format::age;
use crate::output::{Cell, Style, Table};

/// All queues, or one.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only this queue
    #[arg(value_name = "QUEUE", add = clap_complete::ArgValueCandidates::new(completion::queues))]
    queue: Option<String>,
}

/// One queue.
#[derive(Debug, Args)]
pub(crate) struct OneQueue {
    /// The queue
    #[arg(value_name = "QUEUE", add = clap_complete::ArgValueCandidates::new(completion::queues))]
    queue: String,
}

/// A queue to empty.
#[derive(Debug, Args)]
pub(crate) struct PurgeArguments {
    #[command(flatten)]
    queue: OneQueue,
    #[command(flatten)]
    consent: Consent,
}

/// A queue whose failed jobs run again.
#[derive(Debug, Args)]
pub(crate) struct RedriveArguments {
    #[command(flatten)]
    queue: OneQueue,
    /// Only jobs of this task
    #[arg(long, value_name = "TASK", add = clap_complete::ArgValueCandidates::new(completion::tasks))]
    task: Option<String>,
    /// Only jobs whose error is of this kind, an id of `crunch errors`
    #[arg(long, value_name = "ID")]
    error: Option<String>,
    #[command(flatten)]
    consent: Consent,
}

const HEADER: [&str; 11] = [
    "QUEUE",
    "STATE",
    "QUEUED",
    "SCHEDULED",
    "RETRYING",
    "RUNNING",
    "FAILED",
    "OLDEST",
    "ENDED/MIN",
    "WORKERS",
    "EMPTY IN",
];

pub(crate) fn run(session: &mut Session<'_>, arguments: &Arguments) -> Result<Exit, Error> {
    if let Some(queue) = &arguments.queue {
        let document: Box<RawValue> = session.client.read(&Request::get(&["queues", queue]))?;
        return show(session, &document);
    }
    let mut table = Table::new(&HEADER);
    list(session, &["queues"], |document| {
        table.row(row(&read(document)?));
        Ok(())
    })?;
    finish(session, &table, "no queues: start a worker, or submit a job")
}

fn show(session: &mut Session<'_>, document: &RawValue) -> Result<Exit, Error> {
    if session.output.json {
        session.output.document(document)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&HEADER);
    table.row(row(&read(document)?));
    finish(session, &table, "")
}

fn row(queue: &Queue) -> Vec<Cell> {
    let counts = queue.counts;
    let waits = counts.queued + counts.retrying > 0;
    let state = match (queue.paused, queue.workers) {
        (true, 0) => Cell::text("paused, no worker").styled_if(waits, Style::Bad),
        (true, _) => Cell::text("paused").styled(Style::Busy),
        (false, 0) => Cell::text("no worker").styled_if(waits, Style::Bad),
        (false, _) => Cell::text("active").styled(Style::Good),
    };
    let time = |time: Option<Duration>| {
        time.map_or_else(
            || Cell::text(""),
            |it| Cell::shown_as(age(it), it.as_millis().to_string()),
        )
    };
    vec![
        Cell::text(&queue.name),
        state,
        Cell::number(counts.queued),
        Cell::number(counts.scheduled),
        Cell::number(counts.retrying),
        Cell::number(counts.running),
        Cell::number(counts.failed).styled_if(counts.failed > 0, Style::Bad),
        time(queue.oldest_age_ms.map(Duration::from_millis)),
        Cell::number(queue.finished_last_minute),
        Cell::number(queue.workers),
        time(queue.empty_in().filter(|_| counts.queued > 0)),
    ]
}

/// Pauses or resumes.
pub(crate) fn switch(
    session: &mut Session<'_>,
    OneQueue { queue }: &OneQueue,
    verb: &str,
) -> Result<Exit, Error> {
    let document: Box<RawValue> = session.client.read(&Request::post(&["queues", queue, verb]))?;
    show(session, &document)
}

pub(crate) fn purge(session: &mut Session<'_>, arguments: &PurgeArguments) -> Result<Exit, Error> {
    let queue = &arguments.queue.queue;
    // Not those that wait for another attempt.
    let filters = ["queued", "scheduled"].map(|status| Filter::of_queue(queue, status));
    bulk::run(session, Verb::Cancel, &filters, arguments.consent)
}

pub(crate) fn redrive(
    session: &mut Session<'_>,
    arguments: &RedriveArguments,
) -> Result<Exit, Error> {
    let RedriveArguments { queue, task, error, consent } = arguments;
    let filter = Filter {
        task: task.clone(),
        error: error.clone(),
        ..Filter::of_queue(&queue.queue, "failed")
    };
    bulk::run(session, Verb::Retry, &[filter], *consent)
}
