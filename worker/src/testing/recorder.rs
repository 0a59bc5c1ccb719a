//! Records what a handler reports during an attempt.

use std::collections::VecDeque;
use std::sync::Arc;

use crunch_common::broker::Progress;
use parking_lot::Mutex;

use crate::context::Observer;

/// How many log lines are kept, the newest: as many as a job's log has.
const MAX_LINES: usize = 256;
/// How many progress reports are kept, the newest. A worker sends only the latest of every 100 ms, so in a job of ten
/// minutes a client sees 6000 at most, and no test compares as many.
const MAX_PROGRESS: usize = 6000;

/// Everything that was reported so far.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    reported: Mutex<Reported>,
    observer: Option<Arc<dyn Observer>>,
}

#[derive(Debug, Default)]
struct Reported {
    progress: VecDeque<Progress>,
    log: VecDeque<String>,
}

impl Recorder {
    pub(super) fn forwarding_to(observer: Option<Arc<dyn Observer>>) -> Self {
        Self { reported: Mutex::default(), observer }
    }

    /// Returns progress reports and log lines, oldest first.
    pub(super) fn reported(&self) -> (Vec<Progress>, Vec<String>) {
        let reported = self.reported.lock();
        (reported.progress.iter().cloned().collect(), reported.log.iter().cloned().collect())
    }
}

impl Observer for Recorder {
    fn progress(&self, progress: &Progress) {
        push(&mut self.reported.lock().progress, progress.clone(), MAX_PROGRESS);
        if let Some(observer) = &self.observer {
            observer.progress(progress);
        }
    }

    fn log(&self, line: &str) {
        push(&mut self.reported.lock().log, line.to_owned(), MAX_LINES);
        if let Some(observer) = &self.observer {
            observer.log(line);
        }
    }
}

fn push<T>(kept: &mut VecDeque<T>, entry: T, max: usize) {
    if kept.len() == max {
        kept.pop_front();
    }
    kept.push_back(entry);
}
