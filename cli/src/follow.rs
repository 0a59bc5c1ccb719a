//! Waits for the end of a job, and shows its progress meanwhile.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::client::events::Next;
use crate::client::{Client, Request};
use crate::documents::{Job, read};
use crate::error::Error;
use crate::output::bar::Bar;

/// A job that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) document: Box<RawValue>,
    pub(crate) job: Job,
}

#[derive(Debug, Deserialize)]
struct Progress {
    progress: f64,
    progress_message: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Status {
    status: String,
}

/// Waits until a job has ended.
pub(crate) fn until_end(
    client: &Client,
    id: &str,
    limit: Option<Duration>,
) -> Result<Ended, Error> {
    let mut bar = Bar::new();
    let mut events = client.events(id, limit.map(|limit| Instant::now() + limit));
    let (mut status, mut part) = (String::from("waiting"), 0.0);
    loop {
        let event = match events.next()? {
            Next::Event(event) => event,
            // It ended before the stream began.
            Next::End => break,
            Next::Late => return look(client, id, limit.unwrap_or_default()),
        };
        match event.name.as_str() {
            "status" => {
                let change: Status = serde_json::from_str(&event.data)?;
                status = change.status;
                bar.show(part, &status);
            }
            "progress" => {
                let change: Progress = serde_json::from_str(&event.data)?;
                part = change.progress;
                bar.show(
                    part,
                    &format!("{status}  {}", change.progress_message.unwrap_or_default()),
                );
            }
            "done" => {
                let document = RawValue::from_string(event.data)?;
                return Ok(Ended { job: read(&document)?, document });
            }
            _ => {}
        }
    }
    let document: Box<RawValue> = client.read(&Request::get(&["jobs", id]))?;
    Ok(Ended { job: read(&document)?, document })
}

/// What the job is when the time is over: it may have ended meanwhile, or before a wait of no time.
fn look(client: &Client, id: &str, after: Duration) -> Result<Ended, Error> {
    let document: Box<RawValue> = client.look(&Request::get(&["jobs", id]))?;
    let job: Job = read(&document)?;
    if job.has_ended() {
        return Ok(Ended { job, document });
    }
    Err(Error::TimedOut { id: id.to_owned(), after })
}

/// How a job that did not succeed ended, as an error.
pub(crate) fn failure(job: &Job) -> Error {
    let reason = job.error.as_ref().map(|error| format!(" ({}: {})", error.code, error.message));
    let how = if job.status == "canceled" { "was canceled" } else { "failed" };
    Error::JobFailed(format!("job {} {how}{}", job.id, reason.unwrap_or_default()))
}
