//! What a handler may know of its job, and tell about it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crunch_common::broker::{ClaimedJob, Epoch, LeaseKey, Progress, Report, Reported};
use crunch_common::job::{ContentType, JobId, Metadata, TraceContext};
use crunch_common::task::TaskName;
use crunch_common::time::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::slots::Slot;

/// The longest progress message and log line kept, in bytes.
const MAX_LINE_BYTES: usize = 1024;
/// Log lines that wait to be confirmed, and their bytes. A handler that writes faster than they are confirmed loses the
/// oldest, and the log shows how many. Redis keeps one line more, which states that number, and 16 bytes beside each.
const MAX_WAITING_LINES: usize = 255;
const MAX_WAITING_BYTES: usize = 60 * 1024;

/// A running job as its handler sees it. Clones speak for the same job.
#[derive(Debug, Clone)]
pub struct JobContext {
    job: Arc<Facts>,
    cancellation: CancellationToken,
    said: Arc<Mutex<Said>>,
    /// The slot is free again when nobody speaks for the job any more: code that hangs keeps it.
    _slot: Option<Arc<Slot>>,
}

#[derive(Debug)]
struct Facts {
    id: JobId,
    epoch: Epoch,
    task: TaskName,
    attempt: u32,
    max_attempts: u32,
    metadata: Metadata,
    content_type: ContentType,
    trace: Option<TraceContext>,
    /// In Unix milliseconds; moved when the input is complete.
    deadline: AtomicU64,
}

/// What the handler reported and Redis has not confirmed.
#[derive(Debug, Default)]
struct Said {
    /// How often progress was reported in this attempt.
    progress_count: u64,
    progress: Option<Progress>,
    /// How many lines came before `log`: confirmed, or dropped.
    lines_before: u64,
    log: VecDeque<String>,
    log_bytes: usize,
}

impl Said {
    fn push_line(&mut self, line: String) {
        self.log_bytes += line.len();
        self.log.push_back(line);
        while self.log.len() > MAX_WAITING_LINES || self.log_bytes > MAX_WAITING_BYTES {
            self.pop_line();
        }
    }

    fn pop_line(&mut self) {
        if let Some(line) = self.log.pop_front() {
            self.log_bytes -= line.len();
            self.lines_before += 1;
        }
    }

    fn confirm(&mut self, report: &Report) {
        if report.progress.as_ref().is_some_and(|&(number, _)| number == self.progress_count) {
            self.progress = None;
        }
        let confirmed = report.first_line - 1 + report.log.len() as u64;
        while self.lines_before < confirmed && !self.log.is_empty() {
            self.pop_line();
        }
    }
}

impl JobContext {
    /// The context of a claimed job that must end by `deadline`.
    #[must_use]
    pub fn new(job: &ClaimedJob, deadline: Timestamp, cancellation: CancellationToken) -> Self {
        let facts = Facts {
            id: job.id,
            epoch: job.epoch,
            task: job.task.clone(),
            attempt: job.attempt,
            max_attempts: job.options.max_attempts,
            metadata: job.options.metadata.clone(),
            content_type: job.options.content_type.clone(),
            trace: job.options.trace.as_ref().map(TraceContext::child),
            deadline: AtomicU64::new(deadline.unix_ms()),
        };
        Self { job: Arc::new(facts), cancellation, said: Arc::default(), _slot: None }
    }

    /// Keeps a slot occupied for as long as this context or a clone of it lives.
    pub(crate) fn occupying(self, slot: Slot) -> Self {
        Self { _slot: Some(Arc::new(slot)), ..self }
    }

    /// The job's id. With [`JobContext::epoch`] it makes an idempotency key towards other systems.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.job.id
    }

    /// The task that is run.
    #[must_use]
    pub fn task(&self) -> &TaskName {
        &self.job.task
    }

    /// Which charged attempt this is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.job.attempt
    }

    /// How many attempts there will be at most.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.job.max_attempts
    }

    /// A fencing token: it grows with every run of the job. A system that remembers the highest one it saw can refuse a
    /// late writer.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.job.epoch
    }

    /// When this attempt will be stopped.
    #[must_use]
    pub fn deadline(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.job.deadline.load(Ordering::Relaxed))
    }

    /// Moves the moment at which this attempt will be stopped, before the handler starts.
    pub(crate) fn set_deadline(&self, deadline: Timestamp) {
        self.job.deadline.store(deadline.unix_ms(), Ordering::Relaxed);
    }

    /// The client's labels.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.job.metadata
    }

    /// The trace its submission belongs to, with this attempt's span for a parent (W3C Trace Context): what the handler calls
    /// is to hear of it.
    #[must_use]
    pub fn trace(&self) -> Option<&TraceContext> {
        self.job.trace.as_ref()
    }

    /// What the payload's bytes are.
    #[must_use]
    pub fn content_type(&self) -> &ContentType {
        &self.job.content_type
    }

    /// Fires when the job is to stop: canceled, out of time, or the worker shuts down.
    #[must_use]
    pub fn cancellation(&self) -> &CancellationToken {
        &self.cancellation
    }

    /// Tells how far the job is, 0 to 1; values outside are taken to the nearest. Cheap: what was said last is reported
    /// at most every 100 ms.
    pub fn progress(&self, fraction: f64, message: impl Into<String>) {
        let fraction = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
        let message = one_line(&message.into());
        let mut said = self.lock();
        said.progress_count += 1;
        said.progress = Some(Progress { fraction, message });
    }

    /// Adds a line to the job's log; several lines are added one by one. The newest 256 lines are kept, a line up to
    /// 1 KiB. Lines arrive even if Redis is away meanwhile, as long as the job runs; if too many wait, the log shows how
    /// many are missing.
    pub fn log(&self, text: impl AsRef<str>) {
        let mut said = self.lock();
        text.as_ref().lines().for_each(|line| said.push_line(one_line(line)));
    }

    /// What was reported and is not confirmed, if there is anything.
    pub(crate) fn unconfirmed(&self, lease: LeaseKey) -> Option<Report> {
        let said = self.lock();
        let progress = said.progress.clone().map(|progress| (said.progress_count, progress));
        let log: Vec<_> = said.log.iter().cloned().collect();
        let first_line = said.lines_before + 1;
        (progress.is_some() || !log.is_empty()).then_some(Report {
            lease,
            progress,
            first_line,
            log,
        })
    }

    /// Notes what became of a report. Reports of a lost lease are of no use to anybody.
    pub(crate) fn note(&self, report: &Report, outcome: Reported) {
        match outcome {
            Reported::Confirmed => self.lock().confirm(report),
            Reported::Stale => self.discard(),
            Reported::Full => {}
        }
    }

    /// Forgets what is not confirmed.
    pub(crate) fn discard(&self) {
        let mut said = self.lock();
        said.progress = None;
        said.log.clear();
        said.log_bytes = 0;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Said> {
        // A handler that panicked while it spoke left whole values behind.
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Cuts to the limit at a character's border, and replaces control characters: line breaks would split the entry.
fn one_line(text: &str) -> String {
    let end = (0..=MAX_LINE_BYTES.min(text.len()))
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0);
    text[..end]
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect()
}

#[cfg(test)]
mod tests {
    use crunch_common::job::Partition;

    use super::*;

    fn job() -> (JobContext, LeaseKey) {
        let id = JobId::generate(Partition::default());
        let lease = LeaseKey { id, epoch: Epoch::new(1) };
        let facts = Facts {
            id,
            epoch: lease.epoch,
            task: "task".parse().unwrap(),
            attempt: 1,
            max_attempts: 1,
            metadata: Metadata::default(),
            content_type: ContentType::json(),
            trace: None,
            deadline: AtomicU64::new(0),
        };
        let cancellation = CancellationToken::new();
        let said = Arc::default();
        (JobContext { job: Arc::new(facts), cancellation, said, _slot: None }, lease)
    }

    #[test]
    fn what_is_not_confirmed_is_reported_again() {
        let (job, lease) = job();
        assert!(job.unconfirmed(lease).is_none());
        job.log("one\n\nthree");
        job.progress(0.5, "half");
        let first = job.unconfirmed(lease).unwrap();
        assert_eq!(
            (first.first_line, &first.log[..]),
            (1, &["one", "", "three"].map(String::from)[..])
        );
        job.log("four");
        job.progress(0.6, "more");
        job.note(&first, Reported::Full);
        assert_eq!(job.unconfirmed(lease).unwrap().log.len(), 4);
        job.note(&first, Reported::Confirmed);
        let rest = job.unconfirmed(lease).unwrap();
        assert_eq!((rest.first_line, &rest.log[..]), (4, &["four".to_owned()][..]));
        assert_eq!(rest.progress.as_ref().map(|(number, _)| *number), Some(2));
        job.note(&rest, Reported::Confirmed);
        assert!(job.unconfirmed(lease).is_none());
    }

    #[test]
    fn a_handler_that_writes_too_fast_loses_the_oldest_lines_and_keeps_their_numbers() {
        let (job, lease) = job();
        (0..MAX_WAITING_LINES + 7).for_each(|line| job.log(line.to_string()));
        let report = job.unconfirmed(lease).unwrap();
        assert_eq!((report.first_line, report.log.len()), (8, MAX_WAITING_LINES));
        (0..100).for_each(|_| job.log("x".repeat(1000)));
        let later = job.unconfirmed(lease).unwrap();
        assert!(later.log.iter().map(String::len).sum::<usize>() <= MAX_WAITING_BYTES);
        // What is confirmed late was dropped meanwhile.
        job.note(&report, Reported::Confirmed);
        assert_eq!(job.unconfirmed(lease).unwrap().first_line, later.first_line);
    }

    #[test]
    fn reports_of_a_lost_lease_are_forgotten() {
        let (job, lease) = job();
        job.log("one");
        let report = job.unconfirmed(lease).unwrap();
        job.note(&report, Reported::Stale);
        assert!(job.unconfirmed(lease).is_none());
    }
}
