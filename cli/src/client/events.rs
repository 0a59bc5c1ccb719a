//! The events of a job, each once, over any number of connections.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::time::{Duration, Instant};

use ureq::BodyReader;

use super::pace::Pace;
use super::{Client, Request};
use crate::error::Error;

/// The longest line of a stream: the document of a job with the largest inline result and metadata, many times over.
const LONGEST_LINE: u64 = 16 * 1024 * 1024;

/// An event of a stream.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) data: String,
}

/// The events of one job.
pub(crate) struct Events<'a> {
    client: &'a Client,
    request: Request,
    /// The id of the last event: the next connection continues after it.
    last: Option<String>,
    reader: Option<BufReader<BodyReader<'static>>>,
    pace: Pace,
    deadline: Option<Instant>,
}

impl fmt::Debug for Events<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("last", &self.last).finish_non_exhaustive()
    }
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Next {
    Event(Event),
    /// The job has ended, and all events were received.
    End,
    /// The deadline has passed.
    Late,
}

impl Client {
    /// Follows a job until it has ended, or the deadline has passed.
    pub(crate) fn events(&self, id: &str, deadline: Option<Instant>) -> Events<'_> {
        let request = Request::get(&["jobs", id, "events"]);
        let pace = Pace::new(self.retry_for).until(deadline);
        Events { client: self, request, last: None, reader: None, pace, deadline }
    }
}

impl Events<'_> {
    pub(crate) fn next(&mut self) -> Result<Next, Error> {
        loop {
            let Some(left) = self.left() else { return Ok(Next::Late) };
            let reader = match &mut self.reader {
                Some(reader) => reader,
                None => match self.connect(left) {
                    Ok(Some(reader)) => self.reader.insert(reader),
                    Ok(None) => return Ok(Next::End),
                    Err(error) => match error {
                        Some(error) => return Err(error),
                        None => continue,
                    },
                },
            };
            // Also a comment: an outage after it is another one.
            let is_alive = reader.fill_buf().is_ok_and(|bytes| !bytes.is_empty());
            if is_alive {
                self.pace.reset();
            }
            // An event that is not complete is sent again on the next connection.
            match read_event(reader) {
                Ok(Some(event)) => {
                    self.last = Some(event.id.clone());
                    return Ok(Next::Event(event));
                }
                Ok(None) | Err(_) => self.reader = None,
            }
            if !is_alive && !self.pace.wait(None) && self.left().is_some() {
                let (url, cause) = (self.client.target.url.clone(), "the stream ends at once");
                let retried = self.client.retry_for;
                return Err(Error::Away { url, cause: cause.to_owned(), retried });
            }
        }
    }

    /// The time that is left; `None` if the deadline has passed.
    fn left(&self) -> Option<Duration> {
        match self.deadline {
            None => Some(Duration::MAX),
            Some(deadline) => Some(deadline.saturating_duration_since(Instant::now()))
                .filter(|left| !left.is_zero()),
        }
    }

    /// Opens a connection; `None` if there are no further events. An error without a reason is temporary.
    fn connect(
        &mut self,
        left: Duration,
    ) -> Result<Option<BufReader<BodyReader<'static>>>, Option<Error>> {
        let request = match &self.last {
            Some(last) => self.request.clone().header("last-event-id", last),
            None => self.request.clone(),
        };
        let limit = self.deadline.map(|_| left);
        match self.client.open_once(&request, limit) {
            Ok(response) if response.status() == 204 => Ok(None),
            Ok(response) => Ok(Some(BufReader::new(response.into_body().into_reader()))),
            Err(failure) if failure.is_temporary => {
                // After the deadline there is no error: the job has not ended in time.
                let goes_on = self.client.wait(&mut self.pace, &failure) || self.left().is_none();
                Err((!goes_on).then(|| failure.error.after(self.client.retry_for)))
            }
            Err(failure) => Err(Some(failure.error)),
        }
    }
}

/// Reads the next event (WHATWG, server-sent events); `None` if the stream ends before one is complete.
fn read_event(reader: &mut impl BufRead) -> io::Result<Option<Event>> {
    let mut event = Event::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.strip_suffix('\r').unwrap_or(&text);
        let (field, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            // A blank line ends an event; a comment is not one.
            "" if text.is_empty() && !event.data.is_empty() => return Ok(Some(event)),
            "event" => value.clone_into(&mut event.name),
            "id" => value.clone_into(&mut event.id),
            "data" if event.data.is_empty() => value.clone_into(&mut event.data),
            "data" => {
                event.data.push('\n');
                event.data.push_str(value);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(text: &str) -> Vec<(String, String, String)> {
        let mut reader = text.as_bytes();
        std::iter::from_fn(|| read_event(&mut reader).unwrap())
            .map(|event| (event.name, event.id, event.data))
            .collect()
    }

    #[test]
    fn events_are_read_and_comments_skipped() {
        let text = ": still here\n\nevent: log\nid: 4.1\ndata: {\"a\":\ndata: 1}\n\nid:5\r\ndata:x\r\n\r\n";
        let owned = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(events(text), [owned("log", "4.1", "{\"a\":\n1}"), owned("", "5", "x")]);
    }

    #[test]
    fn an_event_that_is_cut_is_no_event() {
        for text in ["event: log\ndata: {}", "event: log\ndata: {}\n", "data: {", ""] {
            assert_eq!(events(text), [], "{text:?}");
        }
    }
}
