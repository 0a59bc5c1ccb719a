//! Watching jobs: whoever waits for a change asks once, and hears of it on one channel a partition.
//!
//! To watch marks the job and reads it in one step; from then on every change of it is told. Jobs that nobody watches tell
//! nobody. So a process with ten thousand waiters has one subscription, and asks Redis only when something happened. A
//! waiter registers with whoever listens *before* it watches, and looks again when the subscription was made anew: what was
//! told meanwhile is lost.

use redis::{Cmd, Value};

use super::connection::Call;
use super::error::Error;
use super::functions::Function;
use super::record::{self, JobRecord, Lookup};
use super::subscription::Subscription;
use super::{Broker, reply};
use crate::job::{JobId, Status};
use crate::time::Timestamp;

/// What is told of a watched job when it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Which job.
    pub id: JobId,
    /// Its version; the same as before if only its log grew.
    pub version: u64,
    /// Where it stands.
    pub status: Status,
}

/// A change that was kept to be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The job's version after it; they follow one another without a gap.
    pub version: u64,
    /// When it happened.
    pub at: Timestamp,
    /// Where the job stood then.
    pub status: Status,
    /// Charged attempts, the current one included.
    pub attempt: u32,
    /// How far the job was and what it did, if that is what changed. A long message is cut.
    pub progress: Option<(f64, String)>,
}

/// A line of a job's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Counted from 1 over the job's life.
    pub number: u64,
    /// When it came.
    pub at: Timestamp,
    /// The attempt that wrote it.
    pub attempt: u32,
    /// The line, without its end.
    pub line: String,
}

/// A job with what happened since somebody looked last.
#[derive(Debug, Clone, PartialEq)]
pub struct Followed {
    /// The job as it is now.
    pub job: JobRecord,
    /// Every change since the version that was known; `None` if not all of them are there any more.
    pub events: Option<Vec<Event>>,
    /// The lines behind the one that was known, as far as they are kept.
    pub log: Vec<LogLine>,
}

/// The messages of a subscription to all partitions' changes.
#[expect(missing_debug_implementations, reason = "a stream of redis has nothing to show")]
pub struct Changes(Subscription);

/// A log is of 64 KiB, and what is kept of changes of about as much.
const LOG_BYTES: usize = 128 * 1024;

impl Changes {
    /// The next change; `None` once the connection broke, or a ping was not answered in time. Pings only while messages are
    /// `needed`. Messages of a later version are skipped.
    pub async fn next(&mut self, needed: impl Fn() -> bool) -> Option<Change> {
        loop {
            if let Some(change) = read_change(&self.0.next(&needed).await?) {
                return Some(change);
            }
        }
    }
}

impl Broker {
    /// Reads a job, and has its changes told from now on until it ends. One round trip.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn watch(&self, id: JobId) -> Result<Lookup<JobRecord>, Error> {
        let found = self.look(id, "changes", None, 0).await?;
        found.try_map(|(job, _)| Ok(job))
    }

    /// As [`Broker::watch`]; changes are also kept, to be read one by one: those since the version that is known, and the
    /// log behind the line that is known.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn follow(
        &self,
        id: JobId,
        known_version: Option<u64>,
        known_line: u64,
    ) -> Result<Lookup<Followed>, Error> {
        let found = self.look(id, "events", known_version, known_line).await?;
        found.try_map(|(job, [kept, events, last, lines])| {
            let events = reply::array(events)?.into_iter().map(read_event);
            let events = events.collect::<Result<_, _>>()?;
            let events = (reply::integer(&kept)? == 1).then_some(events);
            Ok(Followed { job, events, log: read_lines(&last, lines)? })
        })
    }

    /// Reads a job and the lines of its log behind the given one, as far as they are kept: the newest 256, at most 64 KiB.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn log(
        &self,
        id: JobId,
        known_line: u64,
    ) -> Result<Lookup<(JobRecord, Vec<LogLine>)>, Error> {
        let found = self.look(id, "log", None, known_line).await?;
        found.try_map(|(job, [_, _, last, lines])| Ok((job, read_lines(&last, lines)?)))
    }

    async fn look(
        &self,
        id: JobId,
        how: &str,
        known_version: Option<u64>,
        known_line: u64,
    ) -> Result<Lookup<(JobRecord, [Value; 4])>, Error> {
        if !self.holds(id) {
            return Ok(Lookup::Unknown);
        }
        // Whoever reads a log is not shown the result.
        let fields = if how == "log" { record::WITHOUT_RESULT } else { &record::FIELDS };
        let arguments = |command: &mut Cmd| {
            command.arg(id.to_string()).arg(how);
            command.arg(known_version.map_or_else(String::new, |version| version.to_string()));
            command.arg(known_line).arg(fields);
        };
        let call = Call::new(Function::Watch, id.partition()).carrying(LOG_BYTES);
        let reply = self.link.call(call, arguments).await?;
        let [fields, rest @ ..] = reply::fields::<5>(reply)?;
        record::read(id, fields)?.try_map(|job| Ok((job, rest)))
    }

    /// Listens to the changes of all watched jobs, whoever watches them. Subscribed when this returns.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn changes(&self) -> Result<Changes, Error> {
        let channels =
            self.partitions().map(|partition| self.settings.keys(partition).changes().to_string());
        Ok(Changes(self.subscribe(channels).await?))
    }
}

fn read_change(message: &str) -> Option<Change> {
    let mut words = message.split(' ');
    Some(Change {
        id: words.next()?.parse().ok()?,
        version: words.next()?.parse().ok()?,
        status: words.next()?.parse().ok()?,
    })
}

fn read_event(value: Value) -> Result<Event, Error> {
    let text = reply::text(value)?;
    parse_event(&text).ok_or_else(|| Error::unreadable("an event is not what belongs there"))
}

/// `<version> <at> <status> <attempt> [<progress> <message>]`
fn parse_event(text: &str) -> Option<Event> {
    let mut words = text.splitn(6, ' ');
    Some(Event {
        version: words.next()?.parse().ok()?,
        at: Timestamp::from_unix_ms(words.next()?.parse().ok()?),
        status: words.next()?.parse().ok()?,
        attempt: words.next()?.parse().ok()?,
        progress: match (words.next(), words.next()) {
            (Some(fraction), message) => {
                Some((fraction.parse().ok()?, message.unwrap_or_default().to_owned()))
            }
            (None, _) => None,
        },
    })
}

/// Lines `<at> <attempt> <text>`, of which the newest has the number `last`.
fn read_lines(last: &Value, lines: Value) -> Result<Vec<LogLine>, Error> {
    let (last, lines) = (reply::unsigned(last)?, reply::array(lines)?);
    let first = (last + 1).saturating_sub(lines.len() as u64);
    let numbered = (first..).zip(lines);
    numbered.map(|(number, line)| read_line(number, line)).collect()
}

fn read_line(number: u64, value: Value) -> Result<LogLine, Error> {
    // Handlers write what they like: bytes that are no text are shown as such.
    let bytes = reply::bytes(value)?;
    let text = String::from_utf8_lossy(&bytes);
    let parse = || {
        let mut words = text.splitn(3, ' ');
        let at = Timestamp::from_unix_ms(words.next()?.parse().ok()?);
        let attempt = words.next()?.parse().ok()?;
        Some(LogLine { number, at, attempt, line: words.next()?.to_owned() })
    };
    parse().ok_or_else(|| Error::unreadable("a line of a log is not what belongs there"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reads_as_it_was_written() {
        let event = parse_event("7 1700000000000 running 2 0.5 half a way").unwrap();
        assert_eq!((event.version, event.status, event.attempt), (7, Status::Running, 2));
        assert_eq!(event.progress, Some((0.5, "half a way".to_owned())));
        assert_eq!(parse_event("7 1 running 2 1 ").unwrap().progress, Some((1.0, String::new())));
        assert_eq!(parse_event("8 1700000000000 queued 0").unwrap().progress, None);
        assert!(parse_event("8 soon queued 0").is_none());
    }

    #[test]
    fn a_message_of_a_later_version_is_no_change() {
        let id = JobId::generate(crate::job::Partition::default());
        let change = read_change(&format!("{id} 3 succeeded")).unwrap();
        assert_eq!((change.id, change.version, change.status), (id, 3, Status::Succeeded));
        assert!(read_change(&format!("{id} 3 waiting")).is_none() && read_change("").is_none());
    }
}
