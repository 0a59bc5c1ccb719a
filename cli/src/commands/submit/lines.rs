//! Very many submissions: lines are read, given a key each, and sent in groups, in constant memory.
//!
//! Every line has an idempotency key, so a group whose answer was lost is sent again, and a run that was interrupted is
//! repeated with the same `--key`: lines that were accepted are answered with the job they have.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, stdin};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Arguments, source};
use crate::client::{Client, Request};
use crate::commands::Session;
use crate::documents::{LineError, Lines};
use crate::error::Error;
use crate::exit::Exit;
use crate::format;
use crate::ndjson;
use crate::output::bar::Bar;
use crate::output::log;

/// How many lines are sent together: the API lists the errors of a hundred lines, and enqueues as many at once.
const GROUP_LINES: usize = 100;
/// And no more bytes than this, unless one line is longer.
const GROUP_BYTES: usize = 1024 * 1024;
/// The longest line: more than any API accepts.
const LONGEST_LINE: u64 = 64 * 1024 * 1024;
/// How many groups are on their way: the API is never idle while lines are read.
const IN_FLIGHT: usize = 4;
/// How many rejected lines are reported.
const MAX_ERRORS: usize = 100;
/// The pause before a group is sent again of which some lines could not be accepted for now.
const PAUSE: Duration = Duration::from_secs(1);

/// Lines that are sent together.
#[derive(Debug, Default)]
struct Group {
    body: Vec<u8>,
    /// The number of each line in the input, from 1.
    numbers: Vec<u64>,
}

/// What happened so far.
#[derive(Debug, Default)]
struct Report {
    accepted: u64,
    existing: u64,
    refused: u64,
    errors: Vec<Value>,
    /// Whether a line was rejected that may be accepted later.
    has_temporary: bool,
    bar: Option<Bar>,
}

pub(super) fn run(
    session: &mut Session<'_>,
    arguments: &Arguments,
    task: Option<&str>,
) -> Result<Exit, Error> {
    if task.is_none() && !arguments.options.is_empty() {
        return Err(Error::usage(
            "options of a job are given, and each line has its own",
            "name a task, or write the options into the lines",
        ));
    }
    let input = open(source(arguments))?;
    let run = arguments.key.clone().unwrap_or_else(|| {
        let run = Uuid::new_v4().simple().to_string();
        log::hint(&format!("after an interruption, repeat this command with --key {run}"));
        run
    });
    let members = task.map(|task| arguments.options.members(task));
    let key = |line: &str, number: u64| {
        let key = format!("{run}:{number}");
        match &members {
            Some(members) => ndjson::envelope(line, members, &key),
            None => ndjson::with_key(line, &key),
        }
    };
    let report = Mutex::new(Report { bar: Some(Bar::new()), ..Report::default() });
    let sent = send_all(&session.client, input, key, &report);
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    // Removes it from the terminal.
    report.bar = None;
    if let Err(error) = sent {
        let counts = report.counts();
        log::note(&format!("{counts}; to go on, repeat this command with --key {run}"));
        return Err(error);
    }
    print(session, report)
}

fn print(session: &mut Session<'_>, report: Report) -> Result<Exit, Error> {
    let counts = report.counts();
    let Report { accepted, existing, refused, errors, has_temporary, .. } = report;
    if session.output.json {
        let document = json!({ "accepted": accepted, "existing": existing, "refused": refused,
            "errors": errors });
        session.output.own_document(&document)?;
    } else if session.output.is_terminal {
        session.output.line(&format!("{counts}, {refused} lines refused"))?;
    } else {
        session.output.line(&format!("{accepted}\t{refused}\t{existing}"))?;
    }
    Ok(match (refused, has_temporary) {
        (0, _) => Exit::Done,
        (_, true) => Exit::Away,
        (_, false) => Exit::Invalid,
    })
}

fn open(path: Option<&Path>) -> Result<Box<dyn BufRead>, Error> {
    match path {
        Some(path) if path != Path::new("-") => {
            let file = File::open(path).map_err(|cause| Error::file("read", path, cause))?;
            Ok(Box::new(BufReader::new(file)))
        }
        _ => Ok(Box::new(stdin().lock())),
    }
}

/// Reads lines in this thread, and sends groups in others.
fn send_all(
    client: &Client,
    input: Box<dyn BufRead>,
    key: impl Fn(&str, u64) -> String,
    report: &Mutex<Report>,
) -> Result<(), Error> {
    // A group waits until another one is answered, so memory is bounded.
    let (sender, receiver) = sync_channel::<Group>(1);
    let receiver = Mutex::new(receiver);
    let failed = AtomicBool::new(false);
    thread::scope(|scope| {
        let senders: Vec<_> = (0..IN_FLIGHT)
            .map(|_| scope.spawn(|| send_groups(client, &receiver, report, &failed)))
            .collect();
        let read = read_groups(input, key, &sender, &failed);
        drop(sender);
        let sent = senders.into_iter().map(|sender| sender.join().unwrap_or(Ok(())));
        sent.fold(read, |outcome, sent| outcome.and(sent))
    })
}

fn read_groups(
    mut input: Box<dyn BufRead>,
    key: impl Fn(&str, u64) -> String,
    groups: &SyncSender<Group>,
    failed: &AtomicBool,
) -> Result<(), Error> {
    let mut group = Group::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
        let read = read.map_err(|cause| Error::file("read", "the lines", cause))?;
        if read as u64 == LONGEST_LINE {
            return Err(Error::usage(format!("line {number} is too long"), "submit it alone"));
        }
        if read == 0 || failed.load(Ordering::Relaxed) {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        // The API rejects a line that is not UTF-8.
        let prepared = std::str::from_utf8(&line).map(|text| key(text, number).into_bytes());
        let prepared = prepared.unwrap_or_else(|_| line.trim_ascii().to_vec());
        let is_full = group.numbers.len() == GROUP_LINES
            || (!group.numbers.is_empty() && group.body.len() + prepared.len() > GROUP_BYTES);
        if is_full && groups.send(std::mem::take(&mut group)).is_err() {
            return Ok(());
        }
        group.body.extend(prepared);
        group.body.push(b'\n');
        group.numbers.push(number);
    }
    if !group.numbers.is_empty() {
        // If nobody receives it, another error is reported.
        let _ = groups.send(group);
    }
    Ok(())
}

/// Sends groups until there are no more, or one cannot be sent.
fn send_groups(
    client: &Client,
    groups: &Mutex<Receiver<Group>>,
    report: &Mutex<Report>,
    failed: &AtomicBool,
) -> Result<(), Error> {
    loop {
        let next = groups.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(group) = next else { return Ok(()) };
        if failed.load(Ordering::Relaxed) {
            continue;
        }
        match send(client, &group) {
            Ok(lines) => report.lock().unwrap_or_else(PoisonError::into_inner).add(&group, lines),
            Err(error) => {
                failed.store(true, Ordering::Relaxed);
                // The reader may wait for room.
                while groups.lock().unwrap_or_else(PoisonError::into_inner).recv().is_ok() {}
                return Err(error);
            }
        }
    }
}

/// Sends a group, again while the API cannot accept some of its lines for now.
fn send(client: &Client, group: &Group) -> Result<Lines, Error> {
    let request = Request::post(&["jobs", "batch"])
        .body("application/x-ndjson", group.body.clone())
        // All lines are rejected: the answer lists them as well.
        .accepting(422);
    let mut since = None;
    loop {
        let lines: Lines = client.read(&request)?;
        let since = *since.get_or_insert_with(Instant::now);
        if !lines.errors.iter().any(is_temporary) || since.elapsed() >= client.retry_for() {
            return Ok(lines);
        }
        thread::sleep(PAUSE);
    }
}

fn is_temporary(error: &LineError) -> bool {
    error.problem.exit() == Exit::Away
}

impl Report {
    /// How many jobs the lines created, and for how many lines another job stands.
    fn counts(&self) -> String {
        let accepted = format::jobs(self.accepted);
        match self.existing {
            0 => format!("{accepted} accepted"),
            existing => format!("{accepted} accepted, {existing} existing"),
        }
    }

    fn add(&mut self, group: &Group, lines: Lines) {
        self.accepted += lines.accepted;
        self.existing += lines.existing;
        self.refused += lines.refused;
        for error in lines.errors {
            let at = usize::try_from(error.line.saturating_sub(1)).unwrap_or(usize::MAX);
            let number = group.numbers.get(at).copied().unwrap_or(error.line);
            self.has_temporary |= is_temporary(&error);
            if self.errors.len() < MAX_ERRORS {
                if let Some(bar) = &mut self.bar {
                    bar.clear();
                }
                log::note(&format!("line {number}: {}", error.problem.message()));
                self.errors.push(json!({ "line": number, "problem": error.document }));
            }
        }
        let text = self.counts();
        if let Some(bar) = &mut self.bar {
            bar.show_count(&text);
        }
    }
}
