//! What a handler can read and report about its job.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crunch_common::broker::{ClaimedJob, Epoch, LeaseKey, Progress, Report, Reported};
use crunch_common::job::{ContentType, GroupName, JobId, Metadata, TraceContext};
use crunch_common::task::TaskName;
use crunch_common::time::Timestamp;
use crunch_consumer::Slot;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::stop::{Stop, StopReason};

/// The longest progress message and log line kept, in bytes.
const MAX_LINE_BYTES: usize = 1024;
/// Limits of the log lines that wait for confirmation: their number and their bytes. If a handler writes faster than
/// they are confirmed, the oldest are dropped, and the log shows how many. Redis keeps one line more, which states that
/// number, and 16 bytes for each line.
const MAX_WAITING_LINES: usize = 255;
const MAX_WAITING_BYTES: usize = 60 * 1024;

/// A running job as its handler sees it. Clones refer to the same job.
///
/// ```
/// use std::time::Duration;
///
/// use crunch_worker::{JobContext, TaskError};
///
/// async fn render(job: JobContext, pages: Vec<String>) -> Result<usize, TaskError> {
///     for (done, page) in pages.iter().enumerate() {
///         job.progress(done as f64 / pages.len() as f64, page.as_str());
///         let work = tokio::time::sleep(Duration::from_millis(1));
///         if job.cancellation().run_until_cancelled(work).await.is_none() {
///             return Err(TaskError::retryable("stopped"));
///         }
///         job.log(format!("{page} is done"));
///     }
///     Ok(pages.len())
/// }
/// ```
#[derive(Debug, Clone)]
pub struct JobContext {
    job: Arc<JobDetails>,
    cancellation: CancellationToken,
    unconfirmed: Arc<Mutex<Unconfirmed>>,
    observer: Option<Arc<dyn Observer>>,
    /// Why it must stop, once it must.
    stop: Option<Stop>,
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
    group: Option<GroupName>,
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
            group: job.options.group.clone(),
            attempt: job.attempt,
            max_attempts: job.options.max_attempts,
            metadata: job.options.metadata.clone(),
            content_type: job.options.content_type.clone(),
            trace: job.options.trace.as_ref().map(TraceContext::child),
            deadline: AtomicU64::new(deadline.unix_ms()),
        };
        let (job, unconfirmed) = (Arc::new(details), Arc::default());
        Self { job, cancellation, unconfirmed, observer: None, stop: None, slot: None }
    }

    /// Passes on everything that the handler reports.
    pub(crate) fn observed_by(self, observer: Arc<dyn Observer>) -> Self {
        Self { observer: Some(observer), ..self }
    }

    /// Keeps why it must stop.
    pub(crate) fn stopped_by(self, stop: Stop) -> Self {
        Self { stop: Some(stop), ..self }
    }

    /// Returns why it must stop, once it must.
    pub(crate) fn stop_reason(&self) -> Option<StopReason> {
        self.stop.as_ref().and_then(Stop::reason)
    }

    /// Keeps a slot occupied for as long as this context or a clone of it lives.
    pub(crate) fn occupying(self, slot: Slot) -> Self {
        Self { slot: Some(Arc::new(slot)), ..self }
    }

    /// Returns the slot that it occupies.
    pub(crate) fn slot(&self) -> Option<Arc<Slot>> {
        self.slot.clone()
    }

    pub(crate) fn lease_key(&self) -> LeaseKey {
        LeaseKey { id: self.job.id, epoch: self.job.epoch }
    }

    /// Returns the job's id. With [`JobContext::epoch`] it is an idempotency key for other systems.
    ///
    /// ```
    /// use crunch_worker::{JobContext, TaskError};
    ///
    /// async fn charge(job: JobContext, cents: u32) -> Result<String, TaskError> {
    ///     // The same in every attempt, so the bank recognizes a request that it already had.
    ///     let idempotency_key = job.id().to_string();
    ///     Ok(format!("POST /charges?key={idempotency_key} {cents}"))
    /// }
    /// ```
    #[must_use]
    pub fn id(&self) -> JobId {
        self.job.id
    }

    /// Returns the name of the task, for handlers that several tasks share.
    ///
    /// ```
    /// use crunch_worker::{JobContext, TaskError};
    ///
    /// async fn scale(job: JobContext, value: f64) -> Result<f64, TaskError> {
    ///     Ok(if job.task().as_str() == "double" { 2.0 * value } else { value })
    /// }
    /// ```
    #[must_use]
    pub fn task(&self) -> &TaskName {
        &self.job.task
    }

    /// Returns the group of the job, such as a customer, if it has one.
    ///
    /// ```
    /// use crunch_worker::{JobContext, TaskError};
    ///
    /// async fn import(job: JobContext, rows: Vec<String>) -> Result<usize, TaskError> {
    ///     let customer = job.group().ok_or_else(|| TaskError::permanent("there is no customer"))?;
    ///     job.log(format!("{} rows of {customer}", rows.len()));
    ///     Ok(rows.len())
    /// }
    /// ```
    #[must_use]
    pub fn group(&self) -> Option<&GroupName> {
        self.job.group.as_ref()
    }

    /// Returns the number of this charged attempt, from 1.
    ///
    /// ```
    /// use crunch_worker::{JobContext, TaskError};
    ///
    /// async fn fetch(job: JobContext, mirrors: Vec<String>) -> Result<String, TaskError> {
    ///     // Each attempt asks another one.
    ///     let mirror = mirrors.get((job.attempt() as usize - 1) % mirrors.len().max(1));
    ///     mirror.cloned().ok_or_else(|| TaskError::permanent("there is no mirror"))
    /// }
    /// ```
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.job.attempt
    }

    /// Returns the maximum number of attempts.
    ///
    /// ```
    /// use crunch_worker::{JobContext, TaskError};
    ///
    /// async fn answer(job: JobContext, (): ()) -> Result<&'static str, TaskError> {
    ///     if job.attempt() < job.max_attempts() {
    ///         return Err(TaskError::retryable("the service does not respond"));
    ///     }
    ///     Ok("a default, because this is the last attempt")
    /// }
    /// ```
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.job.max_attempts
    }

    /// Returns the fencing token: it grows with every run of the job. A system that stores the highest one it received
    /// can reject a late writer.
    ///
    /// ```
    /// use crunch_worker::{JobContext, TaskError};
    ///
    /// # async fn execute(_: &str, _: (String, u64)) -> Result<u64, std::io::Error> { Ok(1) }
    /// async fn store(job: JobContext, value: String) -> Result<(), TaskError> {
    ///     // An attempt that lost its lease, but still runs, has a lower epoch and changes nothing.
    ///     let update = "UPDATE t SET value = $1, epoch = $2 WHERE epoch < $2";
    ///     execute(update, (value, job.epoch().number())).await?;
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.job.epoch
    }

    /// Returns when this attempt will be stopped.
    ///
    /// ```
    /// use crunch_worker::{JobContext, TaskError, Timestamp};
    ///
    /// async fn search(job: JobContext, (): ()) -> Result<bool, TaskError> {
    ///     let left = Timestamp::now().until(job.deadline());
    ///     let is_thorough = left.as_secs() > 60;
    ///     Ok(is_thorough)
    /// }
    /// ```
    #[must_use]
    pub fn deadline(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.job.deadline.load(Ordering::Relaxed))
    }

    /// Changes the time at which this attempt will be stopped, before the handler starts.
    pub(crate) fn set_deadline(&self, deadline: Timestamp) {
        self.job.deadline.store(deadline.unix_ms(), Ordering::Relaxed);
    }

    /// Returns the client's labels.
    ///
    /// ```
    /// use crunch_worker::{JobContext, TaskError};
    ///
    /// async fn greet(job: JobContext, (): ()) -> Result<String, TaskError> {
    ///     let language = job.metadata().get("language").unwrap_or("en");
    ///     Ok(if language == "sv" { "hej" } else { "hello" }.to_owned())
    /// }
    /// ```
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.job.metadata
    }

    /// Returns the trace of the submission, with this attempt's span as parent (W3C Trace Context), to be passed to the
    /// systems that the handler calls.
    ///
    /// ```
    /// use crunch_worker::{JobContext, TaskError};
    ///
    /// async fn call(job: JobContext, (): ()) -> Result<Vec<(&'static str, String)>, TaskError> {
    ///     let mut headers = vec![("accept", "application/json".to_owned())];
    ///     if let Some(trace) = job.trace() {
    ///         headers.push(("traceparent", trace.traceparent().to_owned()));
    ///         headers.extend(trace.tracestate().map(|state| ("tracestate", state.to_owned())));
    ///     }
    ///     Ok(headers)
    /// }
    /// ```
    #[must_use]
    pub fn trace(&self) -> Option<&TraceContext> {
        self.job.trace.as_ref()
    }

    /// Returns the content type of the payload.
    ///
    /// ```
    /// use crunch_worker::{JobContext, Payload, TaskError};
    ///
    /// async fn parse(job: JobContext, payload: Payload) -> Result<Payload, TaskError> {
    ///     let separator = match job.content_type().as_str() {
    ///         "text/csv" => b',',
    ///         _ => b'\t',
    ///     };
    ///     let columns = payload.bytes.split(|byte| *byte == separator).count();
    ///     Ok(Payload::json(columns.to_string()))
    /// }
    /// ```
    #[must_use]
    pub fn content_type(&self) -> &ContentType {
        &self.job.content_type
    }

    /// Returns a token that fires when the job must stop: it was canceled, its time ran out, or the worker shuts down.
    ///
    /// ```
    /// use crunch_worker::{JobContext, TaskError};
    ///
    /// fn sum(job: JobContext, below: u64) -> Result<u64, TaskError> {
    ///     let mut sum = 0_u64;
    ///     for number in 0..below {
    ///         // A loop without an await has to ask; not in every round, because rounds are short.
    ///         if number % 1_000_000 == 0 && job.cancellation().is_cancelled() {
    ///             return Err(TaskError::retryable("stopped"));
    ///         }
    ///         sum = sum.wrapping_add(number);
    ///     }
    ///     Ok(sum)
    /// }
    /// ```
    #[must_use]
    pub fn cancellation(&self) -> &CancellationToken {
        &self.cancellation
    }

    /// Reports how much of the job is done, 0 to 1; values outside are clamped. Cheap: the latest value is sent at most
    /// every 100 ms.
    ///
    /// ```
    /// use crunch_worker::testing::Attempt;
    /// use crunch_worker::{JobContext, Task, TaskError};
    ///
    /// fn import(job: JobContext, rows: Vec<String>) -> Result<(), TaskError> {
    ///     for done in 1..=rows.len() {
    ///         job.progress(done as f64 / rows.len() as f64, format!("{done} of {} rows", rows.len()));
    ///     }
    ///     Ok(())
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let report = Attempt::of(Task::blocking("import", import)).payload(["a", "b"]).run().await;
    /// assert_eq!(report.progress[0].fraction, 0.5);
    /// assert_eq!(report.progress[1].message, "2 of 2 rows");
    /// # }
    /// ```
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
    ///
    /// ```
    /// use crunch_worker::testing::Attempt;
    /// use crunch_worker::{JobContext, Task, TaskError};
    ///
    /// async fn import(job: JobContext, rows: Vec<String>) -> Result<usize, TaskError> {
    ///     for row in rows.iter().filter(|row| row.is_empty()) {
    ///         job.log(format!("skipping {row:?}"));
    ///     }
    ///     Ok(rows.len())
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let report = Attempt::of(Task::new("import", import)).payload(["a", ""]).run().await;
    /// assert_eq!(report.log, ["skipping \"\""]);
    /// # }
    /// ```
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
mod tests;
