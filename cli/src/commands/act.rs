//! `cancel`, `retry` and `delete`: jobs by their ids, or all that a filter finds.

use clap::Args;
use serde_json::value::RawValue;

use super::bulk::{self, Consent, Verb};
use super::filter::Filter;
use super::{Session, get};
use crate::client::{Answer, Request};
use crate::documents::{Job, read};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::log;

/// Ids or filters.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Jobs
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    consent: Consent,
}

pub(crate) fn run(
    session: &mut Session<'_>,
    arguments: &Arguments,
    verb: Verb,
) -> Result<Exit, Error> {
    let Arguments { ids, filter, consent } = arguments;
    match (ids.is_empty(), filter.is_empty()) {
        (false, true) => by_id(session, ids, verb, *consent),
        (true, false) => bulk::run(session, verb, &[complete(filter, verb)?], *consent),
        (true, true) => Err(Error::usage(
            format!("there is no job to {}", verb.name()),
            format!(
                "give ids, or a filter such as: crunch {} --status {}",
                verb.name(),
                example(verb)
            ),
        )),
        (false, false) => Err(Error::usage("ids and filters are given", "use one of them")),
    }
}

/// A filter names the status of the jobs, so that no verb reaches further than its user thinks.
fn complete(filter: &Filter, verb: Verb) -> Result<Filter, Error> {
    if filter.status.is_some() || filter.error.is_some() {
        return Ok(filter.clone());
    }
    Err(Error::usage(
        format!("a status is needed to {} many jobs", verb.name()),
        format!("add --status, such as --status {}", example(verb)),
    ))
}

fn example(verb: Verb) -> &'static str {
    match verb {
        Verb::Cancel => "queued",
        Verb::Retry => "failed",
        Verb::Delete => "succeeded",
    }
}

fn by_id(
    session: &mut Session<'_>,
    ids: &[String],
    verb: Verb,
    consent: Consent,
) -> Result<Exit, Error> {
    if consent.dry_run || consent.limit.is_some() {
        return Err(Error::usage("--dry-run and --limit are for filters", "leave them out"));
    }
    get::each(ids, |id| {
        let document = act(session, id, verb)?;
        if session.output.json {
            document.map(|it| session.output.document(&it)).transpose()?;
            return Ok(Exit::Done);
        }
        // A job that runs is canceled when its handler stops.
        let status = match document {
            Some(document) => read::<Job>(&document)?.status,
            None => verb.past().to_owned(),
        };
        let status =
            if verb == Verb::Cancel && status == "running" { "canceling" } else { &status };
        session.output.line(&format!("{id}\t{status}"))?;
        Ok(Exit::Done)
    })
}

/// Acts on one job; returns its document, unless it is deleted.
fn act(session: &Session<'_>, id: &str, verb: Verb) -> Result<Option<Box<RawValue>>, Error> {
    let request = match verb {
        Verb::Delete => Request::new("DELETE", &["jobs", id]),
        Verb::Cancel | Verb::Retry => Request::post(&["jobs", id, verb.name()]),
    };
    match session.client.send_in_doubt(&request) {
        Ok(answer) => document(session, &answer),
        // An earlier try, whose answer was lost, may have done it: the state shows what became of the job.
        Err((Error::Problem(problem), true)) => match (verb, problem.status) {
            (Verb::Delete, 410) => {
                log::note(&format!("an answer was lost; job {id} is deleted now"));
                Ok(None)
            }
            (Verb::Retry, 409) => {
                let document: Box<RawValue> = session.client.read(&Request::get(&["jobs", id]))?;
                let status = read::<Job>(&document)?.status;
                log::note(&format!(
                    "an answer was lost; job {id} is {status} now, perhaps because it was queued again: see crunch attempts {id}"
                ));
                Ok(Some(document))
            }
            _ => Err(Error::Problem(problem)),
        },
        Err((error, _)) => Err(error),
    }
}

fn document(session: &Session<'_>, answer: &Answer) -> Result<Option<Box<RawValue>>, Error> {
    if answer.body.is_empty() {
        Ok(None)
    } else {
        answer.json(&session.client.target.url).map(Some)
    }
}
