//! A task of a server: sends its jobs to children, waits for their answers, and asks them to stop.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crunch_common::broker::LeaseKey;
use crunch_common::job::{ContentType, ErrorCode, JobError, Payload, TraceContext};
use crunch_common::task::TaskDescriptor;
use tokio::sync::oneshot;

use super::child::{Answer, Child, Failure, Reason, Success};
use super::frame::Body;
use super::message::{Done, JobMessage, ReportedFailure, ToChild, Trace};
use super::pool::{Assignment, ServerPool};
use crate::handler::{Handler, HandlerFuture};
use crate::process::Request;
use crate::quote::beginning;
use crate::registry::Registry;
use crate::results::SETTING;
use crate::stop::StopReason;
use crate::{JobContext, Task, TaskError};

/// Payloads above this are passed by file, if the child takes files: a copy through a pipe of 64 KiB costs more.
const BY_FILE_ABOVE: usize = 1024 * 1024;
/// How long a job may take to end after it was asked to, in a child that runs several. The worker waits a second
/// longer.
const CANCEL_GRACE: Duration = Duration::from_secs(5);
/// The same in a child that runs one, which is stopped then.
const SINGLE_CANCEL_GRACE: Duration = Duration::from_secs(3);
/// From TERM to KILL.
const TERM_GRACE: Duration = Duration::from_secs(2);

/// Runs the jobs of one task of a server.
#[derive(Debug)]
struct ServerTask {
    pool: Arc<ServerPool>,
    /// The content type of its results.
    content_type: ContentType,
    /// The largest result, in bytes.
    max_result: usize,
}

/// Returns the tasks of a server with the handlers that run them in its children.
pub(crate) fn registry(
    pool: &Arc<ServerPool>,
    tasks: &[TaskDescriptor],
    max_result: usize,
) -> Registry {
    let mut registry = Registry::default();
    for task in tasks {
        let own = task.max_result.and_then(|bytes| usize::try_from(bytes).ok());
        let handler = ServerTask {
            pool: pool.clone(),
            content_type: task.content_type.clone(),
            max_result: own.unwrap_or(max_result),
        };
        // Their names are unique.
        let _added = registry.add(Task::from_handler(task.clone(), Arc::new(handler)));
    }
    registry.bound_results(max_result as u64);
    registry
}

impl Handler for ServerTask {
    fn run(&self, job: JobContext, payload: Payload) -> HandlerFuture {
        let (pool, content_type) = (self.pool.clone(), self.content_type.clone());
        let max_result = self.max_result;
        Box::pin(async move {
            let assignment = pool.assign().await?;
            let child = assignment.child().clone();
            let answer = run(assignment, &job, payload.bytes, max_result).await?;
            result(&child, answer, &content_type, max_result).await
        })
    }
}

/// Runs a job in the child of an assignment.
pub(super) async fn run(
    assignment: Assignment,
    job: &JobContext,
    payload: Bytes,
    max_result: usize,
) -> Result<Answer, TaskError> {
    let child = assignment.child();
    let key = LeaseKey { id: job.id(), epoch: job.epoch() };
    let file = payload_file(child, key, &payload).await?;
    let mut answered = child.begin(key, job.clone(), max_result);
    let unanswered = Unanswered { assignment: &assignment, key };
    send(child, job, payload, file.as_deref());
    let answer = tokio::select! {
        biased;
        answer = &mut answered => answer,
        () = job.cancellation().cancelled() => stop(child, job, key, answered).await,
    };
    if let Some(file) = file {
        // The child may have deleted it.
        let _ = tokio::fs::remove_file(file).await;
    }
    let answer = answer.map_err(|_| TaskError::retryable("the job was stopped"))?;
    unanswered.answered();
    Ok(answer)
}

/// Gives up an attempt whose future is dropped, or that did not end in time.
struct Unanswered<'a> {
    assignment: &'a Assignment,
    key: LeaseKey,
}

impl Unanswered<'_> {
    fn answered(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.assignment.leak(self.key);
    }
}

fn send(child: &Child, job: &JobContext, payload: Bytes, file: Option<&Path>) {
    let trace = job.trace().map(|trace| Trace {
        traceparent: trace.traceparent(),
        tracestate: TraceContext::tracestate(trace),
    });
    let message = ToChild::Job(JobMessage {
        id: job.id(),
        epoch: job.epoch().number(),
        task: job.task().as_str(),
        attempt: job.attempt(),
        max_attempts: job.max_attempts(),
        deadline_ms: job.deadline().unix_ms(),
        body: file.is_none().then_some(payload.len()),
        file: file.and_then(Path::to_str),
        content_type: job.content_type().as_str(),
        trace,
        metadata: job.metadata(),
    });
    child.outbox.send(message.line(), file.is_none().then_some(payload));
}

/// Writes a large payload to a file, if the child takes files.
async fn payload_file(
    child: &Child,
    key: LeaseKey,
    payload: &Bytes,
) -> Result<Option<std::path::PathBuf>, TaskError> {
    let Some(directory) = child.payload_directory().filter(|_| payload.len() > BY_FILE_ABOVE)
    else {
        return Ok(None);
    };
    let path = directory.join(format!("{}.{}.payload", key.id, key.epoch));
    let (file, payload) = (path.clone(), payload.clone());
    // Not `tokio::fs::write`, which copies what it writes.
    let written = tokio::task::spawn_blocking(move || std::fs::write(file, payload)).await;
    let written = written.unwrap_or_else(|error| Err(error.into()));
    written.map_err(|error| {
        TaskError::machine(format!("cannot write a payload to {}: {error}", path.display()))
    })?;
    Ok(Some(path))
}

/// Asks a job to stop; ends its child if it runs nothing else. Waits no longer than an attempt may take to stop.
async fn stop(
    child: &Arc<Child>,
    job: &JobContext,
    key: LeaseKey,
    mut answered: oneshot::Receiver<Answer>,
) -> Result<Answer, oneshot::error::RecvError> {
    let is_single = child.is_single();
    let grace = if is_single { SINGLE_CANCEL_GRACE } else { CANCEL_GRACE };
    let reason = job.stop_reason().unwrap_or(StopReason::Canceled).word();
    let (epoch, grace_ms) = (key.epoch.number(), crunch_common::time::whole_ms(grace));
    child.send(&ToChild::Cancel { id: key.id, epoch, reason, grace_ms });
    if let Ok(answer) = tokio::time::timeout(grace, &mut answered).await {
        return answer;
    }
    if is_single {
        let why = "it did not end its job when it was asked to".to_owned();
        child.end(Request::Stop, Some(Reason::Died(why)));
        if let Ok(answer) = tokio::time::timeout(TERM_GRACE, &mut answered).await {
            return answer;
        }
        child.end(Request::Kill, None);
        return answered.await;
    }
    // Dropping the sender is what an attempt that was given up sees.
    answered.close();
    answered.await
}

/// Returns the result of an attempt, by what its child answered.
async fn result(
    child: &Child,
    answer: Answer,
    content_type: &ContentType,
    max_result: usize,
) -> Result<Payload, TaskError> {
    let Success { done, body } = match answer {
        Ok(success) => success,
        Err(Failure::Ended(error)) => return Err(error),
        Err(Failure::Reported(reported)) => return Err(failure(*reported)),
    };
    let Done { content_type: own, file } = done;
    let content_type = match own {
        None => content_type.clone(),
        Some(own) => {
            own.parse().map_err(|error| invalid(&format!("its content_type {own:?}: {error}")))?
        }
    };
    let bytes = match (file, body) {
        (Some(file), _) => read_file(child, &file, max_result).await?,
        (None, Body::Bytes(bytes)) => bytes,
        (None, Body::TooLong(first)) => return Err(too_large(max_result, &first)),
        (None, Body::None) => Bytes::new(),
    };
    let is_nothing = bytes.is_empty() && content_type.is_json();
    let bytes = if is_nothing { Bytes::from_static(b"null") } else { bytes };
    Ok(Payload { bytes, content_type })
}

fn failure(reported: ReportedFailure) -> TaskError {
    let ReportedFailure { code, message, retryable, after_ms, snooze_ms, machine } = reported;
    let message = message.unwrap_or_default();
    if machine {
        return TaskError::machine(message);
    }
    if let Some(delay) = snooze_ms {
        return TaskError::snooze(Duration::from_millis(delay));
    }
    let code = code.unwrap_or_else(ErrorCode::task_failed);
    let retryable = retryable.unwrap_or(true);
    let error = TaskError::of(JobError { retryable, ..JobError::retryable(code, message) });
    match after_ms {
        Some(after) => error.retry_after(Duration::from_millis(after)),
        None => error,
    }
}

/// Reads a result from a file in the child's directory, and deletes it.
async fn read_file(child: &Child, path: &str, max_result: usize) -> Result<Bytes, TaskError> {
    let Some(file) = child.result_file(path) else {
        return Err(invalid(&format!(
            "its file {path:?} is not in the directory that CRUNCH_DIR names"
        )));
    };
    let read = tokio::task::spawn_blocking(move || {
        let read = read_regular_file(&file, max_result);
        let _ = std::fs::remove_file(&file);
        read
    });
    let read = read.await.map_err(|_| TaskError::retryable("the worker was stopped"))?;
    let bytes =
        read.map_err(|error| invalid(&format!("its file {path:?} cannot be read: {error}")))?;
    match bytes.len() > max_result {
        true => Err(too_large(max_result, &bytes)),
        false => Ok(bytes.into()),
    }
}

/// Reads at most one byte more than the limit. A link is not followed, and what is no file is not read: a pipe would
/// block.
fn read_regular_file(path: &Path, max_result: usize) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;

    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = std::fs::File::options().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let limit = max_result as u64 + 1;
    let room = usize::try_from(metadata.len().min(limit)).unwrap_or_default();
    let mut bytes = Vec::with_capacity(room);
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn invalid(what: &str) -> TaskError {
    let message = format!("the child answered with an invalid result: {what}");
    TaskError::of(JobError::permanent(ErrorCode::result_invalid(), message))
}

fn too_large(limit: usize, first: &[u8]) -> TaskError {
    let message = format!(
        "the result has more than {limit} bytes, the limit for results ({SETTING}); it begins {}",
        beginning(first)
    );
    TaskError::of(JobError::permanent(ErrorCode::result_too_large(), message))
}
