//! Watching jobs: a caller that waits for a change reads the job once, and receives its changes on one channel per
//! partition.
//!
//! Watching marks the job and reads it in one step; from then on every change of it is published. Changes of jobs that
//! are not watched are not published. So a process with ten thousand waiters has one subscription, and reads from Redis
//! only when something changed. A waiter registers with the subscriber *before* it watches, and reads again when the
//! subscription was renewed: what was published meanwhile is lost.

use redis::{Cmd, Value};

use super::connection::Call;
use super::error::Error;
use super::functions::Function;
use super::record::{self, JobRecord, Lookup};
use super::subscription::Subscription;
use super::{Broker, reply};
use crate::job::{JobId, Status};
use crate::time::Timestamp;

/// The message that is published when a watched job changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Id of the job.
    pub id: JobId,
    /// Its version; the same as before if only its log changed.
    pub version: u64,
    /// Its status.
    pub status: Status,
}

/// A change that is kept for readers.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The job's version after the change; versions have no gaps.
    pub version: u64,
    /// When it happened.
    pub at: Timestamp,
    /// The job's status after it.
    pub status: Status,
    /// Charged attempts, the current one included.
    pub attempt: u32,
    /// The job's progress and its message, if that is what changed. A long message is truncated.
    pub progress: Option<(f64, String)>,
}

/// A line of a job's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Its number, counted from 1 over the job's life.
    pub number: u64,
    /// When Redis received it.
    pub at: Timestamp,
    /// The attempt that wrote it.
    pub attempt: u32,
    /// The line, without its line break.
    pub line: String,
}

/// A job with its changes and log lines since the caller's last read.
#[derive(Debug, Clone, PartialEq)]
pub struct Followed {
    /// The job as it is now.
    pub job: JobRecord,
    /// Every change since the known version; `None` if some of them are not kept anymore.
    pub events: Option<Vec<Event>>,
    /// The lines after the known one, as far as they are kept.
    pub log: Vec<LogLine>,
}

/// A subscription to the changes of all partitions.
#[expect(missing_debug_implementations, reason = "a stream of redis has nothing to show")]
pub struct Changes(Subscription);

/// The size of a log, 64 KiB, and about as much for the kept changes.
const LOG_BYTES: usize = 128 * 1024;

impl Changes {
    /// Returns the next change; `None` once the connection broke, or a ping was not answered in time. Sends pings only
    /// while messages are `needed`. Messages of a later version are skipped.
    pub async fn next(&mut self, needed: impl Fn() -> bool) -> Option<Change> {
        loop {
            if let Some(change) = read_change(&self.0.next(&needed).await?) {
                return Some(change);
            }
        }
    }
}

impl Broker {
    /// Reads a job, and has its changes published from now on until it ends. One round trip.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn watch(&self, id: JobId) -> Result<Lookup<JobRecord>, Error> {
        let found = self.call_watch(id, "changes", None, 0).await?;
        found.try_map(|(job, _)| Ok(job))
    }

    /// Like [`Broker::watch`]; changes are also kept for readers. Returns the changes since the known version, and the
    /// log after the known line.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn follow(
        &self,
        id: JobId,
        known_version: Option<u64>,
        known_line: u64,
    ) -> Result<Lookup<Followed>, Error> {
        let found = self.call_watch(id, "events", known_version, known_line).await?;
        found.try_map(|(job, [kept, events, last, lines])| {
            let events = reply::array(events)?.into_iter().map(read_event);
            let events = events.collect::<Result<_, _>>()?;
            let events = (reply::integer(&kept)? == 1).then_some(events);
            Ok(Followed { job, events, log: read_lines(&last, lines)? })
        })
    }

    /// Reads a job and the lines of its log after the known one, as far as they are kept: the newest 256, at most 64
    /// KiB.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn log(
        &self,
        id: JobId,
        known_line: u64,
    ) -> Result<Lookup<(JobRecord, Vec<LogLine>)>, Error> {
        let found = self.call_watch(id, "log", None, known_line).await?;
        found.try_map(|(job, [_, _, last, lines])| Ok((job, read_lines(&last, lines)?)))
    }

    async fn call_watch(
        &self,
        id: JobId,
        how: &str,
        known_version: Option<u64>,
        known_line: u64,
    ) -> Result<Lookup<(JobRecord, [Value; 4])>, Error> {
        if !self.may_contain(id) {
            return Ok(Lookup::Unknown);
        }
        // The result is not part of a log.
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

    /// Subscribes to the changes of all watched jobs, no matter which process watches them. The subscription is active
    /// when this returns.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn changes(&self) -> Result<Changes, Error> {
        let channel = |partition| self.settings.keys(partition).changes().to_string();
        Ok(Changes(self.subscribe(channel).await?))
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
    parse_event(&text).ok_or_else(|| Error::unreadable("invalid event of a job"))
}

/// Parses `<version> <at> <status> <attempt> [<progress> <message>]`.
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

/// Parses lines `<at> <attempt> <text>`; the newest has the number `last`.
fn read_lines(last: &Value, lines: Value) -> Result<Vec<LogLine>, Error> {
    let (last, lines) = (reply::unsigned(last)?, reply::array(lines)?);
    let first = (last + 1).saturating_sub(lines.len() as u64);
    let numbered = (first..).zip(lines);
    numbered.map(|(number, line)| read_line(number, line)).collect()
}

fn read_line(number: u64, value: Value) -> Result<LogLine, Error> {
    // Handlers may write any bytes: those that are not UTF-8 are replaced.
    let bytes = reply::bytes(value)?;
    let text = String::from_utf8_lossy(&bytes);
    let parse = || {
        let mut words = text.splitn(3, ' ');
        let at = Timestamp::from_unix_ms(words.next()?.parse().ok()?);
        let attempt = words.next()?.parse().ok()?;
        Some(LogLine { number, at, attempt, line: words.next()?.to_owned() })
    };
    parse().ok_or_else(|| Error::unreadable("invalid log line of a job"))
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
