//! Streams a job's events (WHATWG server-sent events): the current state first, then every change and every line of its
//! log, until it has ended.
//!
//! Every event has a position as its id: how many steps of the job's versions and how many lines of its log were sent.
//! A client that reconnects with it gets what follows, each once; if the changes in between are not all kept any more,
//! the current state comes first again. A version has up to two steps: the status of the job, and what belongs to it
//! (its progress, or its end).

use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use actix_web::web::{self, Bytes};
use crunch_common::broker::{Error, Event, Followed, JobRecord, LogLine, Lookup};
use crunch_common::job::{JobId, Status};
use crunch_common::time::Timestamp;
use futures_util::{Stream, stream};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use crate::document::JobDocument;
use crate::places::Place;
use crate::state::App;
use crate::watching::{Waiter, Wakeup};

/// A comment after this much silence keeps proxies from closing the connection.
const SILENCE: Duration = Duration::from_secs(15);

/// How soon the job is read again after Redis did not answer.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// What a client has received of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Position {
    /// The last version it has received.
    version: u64,
    /// Whether it has also received what belongs to that version.
    whole: bool,
    /// The last line of the log it has received.
    line: u64,
}

impl Position {
    fn id(self) -> String {
        format!("{}.{}", 2 * self.version + u64::from(self.whole), self.line)
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(id: &str) -> Result<Self, ()> {
        let (step, line) = id.split_once('.').ok_or(())?;
        let step: u64 = step.parse().map_err(|_| ())?;
        let line = line.parse().map_err(|_| ())?;
        Ok(Self { version: step / 2, whole: step % 2 == 1, line })
    }
}

/// The reader of a stream.
#[derive(Debug)]
pub(crate) struct Reader {
    app: web::Data<App>,
    id: JobId,
    waiter: Waiter,
    /// `None` before the first read for a client without a position.
    position: Option<Position>,
    /// Whether it reconnected and has not read yet: the connection may have broken within a version.
    reconnected: bool,
    over: bool,
    _place: Place,
}

impl Reader {
    pub(crate) fn new(
        app: web::Data<App>,
        id: JobId,
        position: Option<Position>,
        place: Place,
    ) -> Self {
        let waiter = app.watchers.waiter(id);
        Self {
            app,
            id,
            waiter,
            position,
            reconnected: position.is_some(),
            over: false,
            _place: place,
        }
    }

    /// Reads the job once: returns what is new as text to send, empty if nothing is.
    ///
    /// # Errors
    /// If Redis is unavailable; read again.
    pub(crate) async fn look(&mut self) -> Result<Lookup<String>, Error> {
        self.waiter.ready().await?;
        let version = self.position.map(|position| position.version);
        let line = self.position.map_or(0, |position| position.line);
        let found = self.app.broker.follow(self.id, version, line).await?;
        found.try_map(|followed| Ok(self.write(followed)))
    }

    /// Whether the job has ended, and its end was sent.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// Streams `first` and what follows, until the job has ended, is deleted, or this process ends.
    pub(crate) fn stream(
        self,
        first: String,
    ) -> impl Stream<Item = Result<Bytes, actix_web::Error>> {
        let first = Some(first).filter(|text| !text.is_empty());
        stream::unfold((self, first), async |(mut reader, first)| {
            let text = match first {
                Some(text) => text,
                None => reader.next().await?,
            };
            Some((Ok(Bytes::from(text)), (reader, None)))
        })
    }

    async fn next(&mut self) -> Option<String> {
        let silent_until = Instant::now() + SILENCE;
        while !self.over {
            let mut until = silent_until;
            // While Redis is unavailable the connection is kept: a client would take its end for the end of the job.
            match self.look().await {
                Ok(Lookup::Found(text)) if text.is_empty() => {}
                Ok(Lookup::Found(text)) => return Some(text),
                Ok(Lookup::Gone(_) | Lookup::Unknown) => return None,
                Err(error) => {
                    tracing::debug!(%error, "an event stream waits for Redis");
                    until = until.min(Instant::now() + AFTER_FAILURE);
                }
            }
            match self.waiter.next(|_| true, until).await {
                Wakeup::Look => {}
                Wakeup::Nothing if Instant::now() < silent_until => {}
                Wakeup::Nothing => return Some(": still here\n\n".to_owned()),
                Wakeup::Closing => return None,
            }
        }
        None
    }

    /// Writes what is new, and advances the position.
    fn write(&mut self, followed: Followed) -> String {
        let Followed { job, events, log } = followed;
        let mut page = Page { text: String::new(), position: self.position.unwrap_or_default() };
        match events {
            Some(events) => {
                if std::mem::take(&mut self.reconnected) {
                    page.finish(&job);
                }
                page.changes(events, log);
            }
            None => page.snapshot(&job, log),
        }
        self.over = job.status.is_terminal();
        if self.over && page.position.version == job.version && !page.position.whole {
            page.add("done", &JobDocument::new(job), |position| position.whole = true);
        }
        self.position = Some(page.position);
        page.text
    }
}

/// Events that are sent together.
struct Page {
    text: String,
    position: Position,
}

impl Page {
    fn add(&mut self, name: &str, data: &impl Serialize, step: impl FnOnce(&mut Position)) {
        step(&mut self.position);
        let data = serde_json::to_string(data).unwrap_or_default();
        let id = self.position.id();
        let _ = write!(self.text, "event: {name}\nid: {id}\ndata: {data}\n\n");
    }

    /// Adds what belongs to the version that was sent already, if it was not sent itself.
    fn finish(&mut self, job: &JobRecord) {
        let same = self.position.version == job.version && !self.position.whole;
        if let (true, false, Some(fraction)) = (same, job.status.is_terminal(), job.progress) {
            let message = job.progress_message.as_deref().unwrap_or_default();
            self.progress(fraction, message, None);
        }
    }

    /// Adds the state of the job, for a client that has received nothing of it or too little.
    fn snapshot(&mut self, job: &JobRecord, log: Vec<LogLine>) {
        self.position.version = job.version;
        self.status(job.status, job.attempt, None);
        log.into_iter().for_each(|line| self.line(&line));
        self.finish(job);
    }

    /// Adds changes and lines in the order in which they happened.
    fn changes(&mut self, events: Vec<Event>, log: Vec<LogLine>) {
        let mut log = log.into_iter().peekable();
        for event in events {
            while let Some(line) = log.next_if(|line| line.at <= event.at) {
                self.line(&line);
            }
            self.position.version = event.version;
            match event.progress {
                Some((fraction, message)) => self.progress(fraction, &message, Some(event.at)),
                None => self.status(event.status, event.attempt, Some(event.at)),
            }
        }
        log.for_each(|line| self.line(&line));
    }

    fn status(&mut self, status: Status, attempt: u32, at: Option<Timestamp>) {
        let data = json!({ "status": status.as_str(), "attempt": attempt, "at": at });
        self.add("status", &data, |position| position.whole = false);
    }

    fn progress(&mut self, fraction: f64, message: &str, at: Option<Timestamp>) {
        let data = json!({ "progress": fraction, "progress_message": message, "at": at });
        self.add("progress", &data, |position| position.whole = true);
    }

    fn line(&mut self, line: &LogLine) {
        let data = json!({ "number": line.number, "attempt": line.attempt, "at": line.at, "line": line.line });
        self.add("log", &data, |position| position.line = line.number);
    }
}
