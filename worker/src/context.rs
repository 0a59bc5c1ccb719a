//! What a handler may know of its job, and tell about it.

use std::sync::{Arc, Mutex, PoisonError};

use crunch_common::broker::{ClaimedJob, Epoch, LeaseKey, LogLines, Progress, Report};
use crunch_common::job::{ContentType, JobId, Metadata, TraceContext};
use crunch_common::task::TaskName;
use crunch_common::time::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::slots::Slot;

/// The longest progress message and log line kept, in bytes.
const MAX_LINE_BYTES: usize = 1024;
/// Log lines waiting for the next report; a handler that writes faster loses the oldest. Redis keeps as many.
const MAX_WAITING_LINES: usize = 256;

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
    deadline: Timestamp,
}

/// What the handler said since the last report.
#[derive(Debug, Default)]
struct Said {
    /// Whether the handler ever said anything: then a report of it may still be on its way.
    spoke: bool,
    progress: Option<Progress>,
    log: LogLines,
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
            deadline,
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
        self.job.deadline
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
        said.spoke = true;
        said.progress = Some(Progress { fraction, message });
    }

    /// Adds a line to the job's log; several lines are added one by one. The newest 256 lines are kept, a line up to
    /// 1 KiB.
    pub fn log(&self, text: impl AsRef<str>) {
        let mut said = self.lock();
        said.spoke = true;
        for line in text.as_ref().lines() {
            if said.log.len() == MAX_WAITING_LINES {
                said.log.remove(0);
            }
            said.log.push(one_line(line));
        }
    }

    /// Takes what was said since the last call, if anything was.
    pub(crate) fn take_report(&self, lease: LeaseKey) -> Option<Report> {
        let mut said = self.lock();
        let (progress, log) = (said.progress.take(), std::mem::take(&mut said.log));
        (progress.is_some() || !log.is_empty()).then_some(Report { lease, progress, log })
    }

    /// Whether the handler ever said anything.
    pub(crate) fn spoke(&self) -> bool {
        self.lock().spoke
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
