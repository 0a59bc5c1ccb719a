//! The execution ledger: what ran, where and when, written by the handlers themselves, as in Jepsen's tests.
//!
//! A line is appended with one write, so lines of many processes do not mix, and a written line survives `kill -9` of
//! its writer.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crunch_common::time::Timestamp;
use crunch_worker::JobContext;

/// The start or the end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The handler was entered.
    Start,
    /// The handler is about to return.
    End,
}

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Start or end.
    pub moment: Moment,
    /// The job's id.
    pub id: String,
    /// The epoch of the claim.
    pub epoch: u64,
    /// The worker's process id.
    pub pid: u32,
    /// Whether it ran in a child of a server of the worker.
    pub in_child: bool,
    /// The time in Unix milliseconds, by the worker's clock.
    pub at_ms: u64,
}

/// An open ledger file.
#[derive(Debug)]
pub struct Ledger(File);

impl Ledger {
    /// Opens a ledger for appending; creates it if it does not exist.
    ///
    /// # Errors
    /// If the system reports an error.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        OpenOptions::new().create(true).append(true).open(path).map(Self)
    }

    /// Writes one line.
    ///
    /// # Errors
    /// If the system reports an error.
    pub fn record(&self, moment: Moment, job: &JobContext) -> std::io::Result<()> {
        let word = match moment {
            Moment::Start => "start",
            Moment::End => "end",
        };
        let (pid, now) = (std::process::id(), Timestamp::now().unix_ms());
        let line = format!("{word} {} {} {pid} {now}\n", job.id(), job.epoch());
        (&self.0).write_all(line.as_bytes())
    }

    /// Reads everything written so far.
    ///
    /// # Panics
    /// If a line is malformed.
    #[must_use]
    pub fn read(path: &Path) -> Vec<Entry> {
        Self::read_from(path, 0)
    }

    /// Returns how many bytes were written so far.
    #[must_use]
    pub fn size(path: &Path) -> u64 {
        std::fs::metadata(path).map_or(0, |file| file.len())
    }

    /// Reads everything written since the file had this size.
    ///
    /// # Panics
    /// If a line is malformed.
    #[must_use]
    pub fn read_from(path: &Path, size: u64) -> Vec<Entry> {
        let mut text = String::new();
        if let Ok(mut file) = File::open(path) {
            file.seek(SeekFrom::Start(size)).unwrap();
            file.read_to_string(&mut text).unwrap();
        }
        // An incomplete last line is still being written.
        let complete = text.rfind('\n').map_or(0, |end| end + 1);
        text[..complete]
            .lines()
            .map(|line| entry(line).unwrap_or_else(|| panic!("not a line of the ledger: {line}")))
            .collect()
    }
}

fn entry(line: &str) -> Option<Entry> {
    let mut words = line.split(' ');
    let moment = match words.next()? {
        "start" => Moment::Start,
        "end" => Moment::End,
        _ => return None,
    };
    Some(Entry {
        moment,
        id: words.next()?.to_owned(),
        epoch: words.next()?.parse().ok()?,
        pid: words.next()?.parse().ok()?,
        at_ms: words.next()?.parse().ok()?,
        in_child: words.next() == Some("child"),
    })
}
