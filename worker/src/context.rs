//! What a handler can read and report about its job.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crunch_common::broker::{ClaimedJob, Epoch, LeaseKey, Progress, Report, Reported};
use crunch_common::job::{ContentType, JobId, Metadata, TraceContext};
use crunch_common::task::TaskName;
use crunch_common::time::Timestamp;
use crunch_consumer::Slot;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The longest progress message and log line kept, in bytes.
const MAX_LINE_BYTES: usize = 1024;
/// Limits of the log lines that wait for confirmation: their number and their bytes. If a handler writes faster than
/// they are confirmed, the oldest are dropped, and the log shows how many. Redis keeps one line more, which states that
/// number, and 16 bytes for each line.
const MAX_WAITING_LINES: usize = 255;
const MAX_WAITING_BYTES: usize = 60 * 1024;

/// A running job as its handler sees it. Clones refer to the same job.
#[derive(Debug, Clone)]
pub struct JobContext {
    job: Arc<JobDetails>,
    cancellation: CancellationToken,
    unconfirmed: Arc<Mutex<Unconfirmed>>,
    observer: Option<Arc<dyn Observer>>,
    /// The slot is free again when the last clone is dropped: code that hangs keeps it occupied.
    slot: Option<Arc<Slot>>,
}

/// Receives what a handler reports, at once and in its order, where no Redis receives it.
pub(crate) trait Observer: fmt::Debug + Send + Sync {
    fn progress(&self, progress: &Progress);
    fn log(&self, line: &str);
}

#[derive(Debug)]
struct JobDetails {
    id: JobId,
    epoch: Epoch,
    task: TaskName,
    attempt: u32,
    max_attempts: u32,
    metadata: Metadata,
    content_type: ContentType,
    trace: Option<TraceContext>,
    /// In Unix milliseconds; changed when the input is complete.
    deadline: AtomicU64,
}

/// What the handler reported and Redis has not confirmed.
#[derive(Debug, Default)]
struct Unconfirmed {
    /// How often progress was reported in this attempt.
    progress_count: u64,
    progress: Option<Progress>,
    /// How many lines precede `log`: confirmed or dropped.
    lines_before: u64,
    log: VecDeque<String>,
    log_bytes: usize,
}

impl Unconfirmed {
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
    /// Creates the context of a claimed job that must end by `deadline`.
    #[must_use]
    pub(crate) fn new(
        job: &ClaimedJob,
        deadline: Timestamp,
        cancellation: CancellationToken,
    ) -> Self {
        let details = JobDetails {
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
        let (job, unconfirmed) = (Arc::new(details), Arc::default());
        Self { job, cancellation, unconfirmed, observer: None, slot: None }
    }

    /// Passes on everything that the handler reports.
    pub(crate) fn observed_by(self, observer: Arc<dyn Observer>) -> Self {
        Self { observer: Some(observer), ..self }
    }

    /// Keeps a slot occupied for as long as this context or a clone of it lives.
    pub(crate) fn occupying(self, slot: Slot) -> Self {
        Self { slot: Some(Arc::new(slot)), ..self }
    }

    /// Returns the slot that it occupies.
    pub(crate) fn slot(&self) -> Option<Arc<Slot>> {
        self.slot.clone()
    }

    /// Returns the job's id. With [`JobContext::epoch`] it is an idempotency key for other systems.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.job.id
    }

    /// Returns the name of the task.
    #[must_use]
    pub fn task(&self) -> &TaskName {
        &self.job.task
    }

    /// Returns the number of this charged attempt, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.job.attempt
    }

    /// Returns the maximum number of attempts.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.job.max_attempts
    }

    /// Returns the fencing token: it grows with every run of the job. A system that stores the highest one it received
    /// can reject a late writer.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.job.epoch
    }

    /// Returns when this attempt will be stopped.
    #[must_use]
    pub fn deadline(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.job.deadline.load(Ordering::Relaxed))
    }

    /// Changes the time at which this attempt will be stopped, before the handler starts.
    pub(crate) fn set_deadline(&self, deadline: Timestamp) {
        self.job.deadline.store(deadline.unix_ms(), Ordering::Relaxed);
    }

    /// Returns the client's labels.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.job.metadata
    }

    /// Returns the trace of the submission, with this attempt's span as parent (W3C Trace Context), to be passed to the
    /// systems that the handler calls.
    #[must_use]
    pub fn trace(&self) -> Option<&TraceContext> {
        self.job.trace.as_ref()
    }

    /// Returns the content type of the payload.
    #[must_use]
    pub fn content_type(&self) -> &ContentType {
        &self.job.content_type
    }

    /// Returns a token that fires when the job must stop: it was canceled, its time ran out, or the worker shuts down.
    #[must_use]
    pub fn cancellation(&self) -> &CancellationToken {
        &self.cancellation
    }

    /// Reports how much of the job is done, 0 to 1; values outside are clamped. Cheap: the latest value is sent at most
    /// every 100 ms.
    pub fn progress(&self, fraction: f64, message: impl Into<String>) {
        let fraction = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
        let message = one_line(&message.into());
        let mut unconfirmed = self.unconfirmed.lock();
        unconfirmed.progress_count += 1;
        let progress = Progress { fraction, message };
        if let Some(observer) = &self.observer {
            observer.progress(&progress);
        }
        unconfirmed.progress = Some(progress);
    }

    /// Adds a line to the job's log; several lines are added one by one. The newest 256 lines are kept, a line up to
    /// 1 KiB. Lines arrive even if Redis is unreachable meanwhile, as long as the job runs; if too many wait, the log
    /// shows how many are missing.
    pub fn log(&self, text: impl AsRef<str>) {
        let mut unconfirmed = self.unconfirmed.lock();
        for line in text.as_ref().lines().map(one_line) {
            if let Some(observer) = &self.observer {
                observer.log(&line);
            }
            unconfirmed.push_line(line);
        }
    }

    /// Returns what was reported and is not confirmed, if anything.
    pub(crate) fn unconfirmed(&self, lease: LeaseKey) -> Option<Report> {
        let unconfirmed = self.unconfirmed.lock();
        let progress =
            unconfirmed.progress.clone().map(|progress| (unconfirmed.progress_count, progress));
        let log: Vec<_> = unconfirmed.log.iter().cloned().collect();
        let first_line = unconfirmed.lines_before + 1;
        (progress.is_some() || !log.is_empty()).then_some(Report {
            lease,
            progress,
            first_line,
            log,
        })
    }

    /// Applies the outcome of a report. Reports of a lost lease are useless and discarded.
    pub(crate) fn note(&self, report: &Report, outcome: Reported) {
        match outcome {
            Reported::Confirmed => self.unconfirmed.lock().confirm(report),
            Reported::Stale => self.discard(),
            Reported::Full => {}
        }
    }

    /// Discards what is not confirmed.
    pub(crate) fn discard(&self) {
        let mut unconfirmed = self.unconfirmed.lock();
        unconfirmed.progress = None;
        unconfirmed.log.clear();
        unconfirmed.log_bytes = 0;
    }
}

/// Truncates to the limit at a character boundary, and replaces control characters: line breaks would split the entry.
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
        let details = JobDetails {
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
        let unconfirmed = Arc::default();
        let job = Arc::new(details);
        (JobContext { job, cancellation, unconfirmed, observer: None, slot: None }, lease)
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
        // Lines that are confirmed late were dropped meanwhile.
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
