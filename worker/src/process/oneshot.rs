//! One process a job: the payload on its standard input, the result on its standard output, its log on standard error,
//! events on a separate descriptor.

use std::ffi::OsString;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use crunch_common::job::{ContentType, ErrorCode, Payload, TraceContext};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio_util::sync::CancellationToken;

use super::ending::{CommandOutput, outcome, too_large};
use super::events::{self, Event, ReportedError};
use super::fault::not_started;
use super::launched::{Ending, Launched, Program};
use super::launcher::FIRST_FD;
use super::lines::each_line;
use super::protocol::Request;
use super::{Command, variable};
use crate::handler::{Handler, HandlerFuture};
use crate::{JobContext, TaskError, results};

/// The descriptor on which a command sends events: the first free one, so that a shell may write `>&3`.
const EVENTS_FD: i32 = FIRST_FD;
/// How much of a line of standard error is read; the job's log keeps as much.
pub(crate) const MAX_LOG_LINE_BYTES: usize = 1024;
/// Linux refuses to start a program with a longer variable, including its name and the final zero byte.
const MAX_VARIABLE_BYTES: usize = 128 * 1024;
/// How long to read on after the end. What is left in the pipes of an ended process tree is read in no time; only a
/// pipe that was passed to an unrelated process stays open longer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs a command for each job.
#[derive(Debug, Clone)]
pub(crate) struct Oneshot {
    pub(crate) command: Command,
    /// The content type of its output.
    pub(crate) content_type: ContentType,
    /// The largest output, in bytes.
    pub(crate) max_result: usize,
}

/// The worker's ends of a command's pipes.
struct Pipes {
    stdin: Sender,
    stdout: Receiver,
    stderr: Receiver,
    events: Receiver,
}

impl Handler for Oneshot {
    fn run(&self, job: JobContext, payload: Payload) -> HandlerFuture {
        let attempt = self.clone();
        Box::pin(async move { attempt.run(&job, payload.bytes).await })
    }
}

impl Oneshot {
    async fn run(&self, job: &JobContext, payload: Bytes) -> Result<Payload, TaskError> {
        let program =
            Program { command: &self.command, variables: job_variables(job)?, directory: None };
        let launched = Launched::start(program, [0], [1, 2, EVENTS_FD]).await;
        let (mut launched, [stdin], [stdout, stderr, events]) =
            launched.map_err(|error| no_launcher(&error))?;
        let pipes = Pipes { stdin, stdout, stderr, events };
        let mut output = CommandOutput::default();
        let overflow = output.overflow.clone();
        let ending = {
            // All four pipes at once: a command may write megabytes before it has read its payload to the end.
            let mut transfer = pin!(self.transfer(pipes, payload, job, &mut output));
            let mut end = pin!(wait_for_end(&mut launched, job.cancellation(), &overflow));
            tokio::select! {
                ending = &mut end => {
                    let _ = tokio::time::timeout(CLOSE_TIMEOUT, &mut transfer).await;
                    ending
                }
                // A command may close all its pipes and keep running.
                () = &mut transfer => end.await,
            }
        };
        if output.overflow.is_cancelled() {
            return Err(too_large(self.max_result, &output.stdout));
        }
        let (bytes, content_type) = (output.stdout.len(), self.content_type.clone());
        let read = results::read(bytes, move || outcome(ending, output, &content_type)).await;
        read.unwrap_or_else(|_| Err(TaskError::retryable("the worker was stopped")))
    }

    /// Writes the payload and reads all output, until the command's ends of all pipes are closed.
    async fn transfer(
        &self,
        pipes: Pipes,
        payload: Bytes,
        job: &JobContext,
        output: &mut CommandOutput,
    ) {
        let CommandOutput { stdout, overflow, tail, error } = output;
        let log = |line: &str| {
            job.log(line);
            tail.push(line);
        };
        tokio::join!(
            write_payload(pipes.stdin, &payload),
            self.read_stdout(pipes.stdout, stdout, overflow),
            each_line(pipes.stderr, MAX_LOG_LINE_BYTES, log),
            each_line(pipes.events, events::MAX_LINE_BYTES, |line| handle_event(line, job, error)),
        );
    }

    /// Reads standard output up to its limit; cancels `overflow` if there is more.
    async fn read_stdout(
        &self,
        pipe: Receiver,
        stdout: &mut Vec<u8>,
        overflow: &CancellationToken,
    ) {
        let limit = u64::try_from(self.max_result).unwrap_or(u64::MAX).saturating_add(1);
        // A read error counts as the end.
        let _ = pipe.take(limit).read_to_end(stdout).await;
        if stdout.len() > self.max_result {
            overflow.cancel();
        }
    }
}

/// Writes the payload, then closes the pipe. A write error is ignored: a command need not read its payload.
async fn write_payload(mut pipe: Sender, payload: &[u8]) {
    let _ = pipe.write_all(payload).await;
}

fn handle_event(line: &str, job: &JobContext, error: &mut Option<ReportedError>) {
    match Event::parse(line) {
        Ok(Event::Progress { fraction, message }) => job.progress(fraction, message),
        Ok(Event::Error(reported)) => *error = Some(reported),
        Err(why) => job.log(format!("not an event ({why}): {line}")),
    }
}

/// Waits for the end; stops the command on a cancellation, and kills it on an overflow.
async fn wait_for_end(
    launched: &mut Launched,
    cancellation: &CancellationToken,
    overflow: &CancellationToken,
) -> Ending {
    let request = tokio::select! {
        ending = launched.ended() => return ending,
        () = cancellation.cancelled() => Request::Stop,
        () = overflow.cancelled() => Request::Kill,
    };
    launched.send(request).await;
    // An overflow need not kill a command that is already being stopped: it blocks on its pipe and gets KILL soon.
    launched.ended().await
}

/// The environment variables that describe the job to the command.
///
/// # Errors
/// If the labels are too long for a variable.
fn job_variables(job: &JobContext) -> Result<Vec<(OsString, OsString)>, TaskError> {
    let metadata = serde_json::to_string(job.metadata()).expect("labels are plain text");
    if variable::METADATA.len() + metadata.len() + "=\0".len() > MAX_VARIABLE_BYTES {
        return Err(labels_too_long(metadata.len()));
    }
    let facts = [
        (variable::JOB_ID, job.id().to_string()),
        (variable::TASK, job.task().to_string()),
        (variable::ATTEMPT, job.attempt().to_string()),
        (variable::EPOCH, job.epoch().to_string()),
        (variable::DEADLINE_MS, job.deadline().unix_ms().to_string()),
        (variable::CONTENT_TYPE, job.content_type().to_string()),
        (variable::METADATA, metadata),
        (variable::EVENTS_FD, EVENTS_FD.to_string()),
    ];
    let trace = job.trace().map(|trace| (variable::TRACEPARENT, trace.traceparent().to_owned()));
    let state = job.trace().and_then(TraceContext::tracestate);
    let state = state.map(|state| (variable::TRACESTATE, state.to_owned()));
    let variables = facts.into_iter().chain(trace).chain(state);
    Ok(variables.map(|(name, value)| (name.into(), value.into())).collect())
}

/// Submissions limit labels, but an earlier version accepted longer ones. No attempt on any worker could start the
/// command.
fn labels_too_long(bytes: usize) -> TaskError {
    let message = format!(
        "the labels of this job have {bytes} bytes as JSON; a command can receive about {MAX_VARIABLE_BYTES}: submit it again with shorter labels"
    );
    TaskError::permanent(message).with_code(ErrorCode::command_failed())
}

fn no_launcher(error: &std::io::Error) -> TaskError {
    let why = format!("cannot start a process on this worker: {error}");
    not_started(why, error.raw_os_error())
}
