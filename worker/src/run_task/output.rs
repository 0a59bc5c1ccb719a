//! What the command `run` writes: the result to standard output, all else to standard error.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crunch_common::broker::Progress;
use parking_lot::Mutex;

use crate::context::Observer;

/// Progress is shown as often as a worker sends it.
const INTERVAL: Duration = Duration::from_millis(100);

/// Shows log lines and progress on standard error.
#[derive(Debug, Default)]
pub(super) struct Terminal {
    progress: Mutex<Shown>,
}

#[derive(Debug, Default)]
struct Shown {
    last: Option<Instant>,
    /// Reported, and not shown yet.
    pending: Option<Progress>,
}

impl Terminal {
    /// Shows the last progress, if it came too soon after the one before.
    pub(super) fn finish(&self) {
        self.progress.lock().pending.take().iter().for_each(show);
    }
}

impl Observer for Terminal {
    fn progress(&self, progress: &Progress) {
        let mut shown = self.progress.lock();
        if shown.last.is_some_and(|last| last.elapsed() < INTERVAL) {
            shown.pending = Some(progress.clone());
            return;
        }
        *shown = Shown { last: Some(Instant::now()), pending: None };
        show(progress);
    }

    fn log(&self, line: &str) {
        write_line(line);
    }
}

/// `progress: 40 % page 4 of 10`
fn show(progress: &Progress) {
    let percent = (progress.fraction * 100.0).round();
    write_line(format!("progress: {percent} % {}", progress.message).trim_end());
}

/// Writes a sentence for the person at the terminal.
pub(super) fn hint(sentence: &str) {
    write_line(&format!("crunch-worker: {sentence}"));
}

/// Ignores errors: a result must not be lost because standard error is closed.
fn write_line(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Writes the result as it is, without a line break.
pub(super) fn write_result(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}
