//! One process a job: the payload on its standard input, the result on its standard output, its log on standard error,
//! events on a descriptor of their own.

use std::ffi::OsString;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use crunch_common::job::{ContentType, ErrorCode, Payload, TraceContext};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio_util::sync::CancellationToken;

use super::ending::{Said, too_large, verdict};
use super::events::{self, Event, ToldError};
use super::fault::not_started;
use super::launched::{Ending, Launched};
use super::launcher::EVENTS_FD;
use super::lines::each_line;
use super::pipes::Pipes;
use super::protocol::Order;
use super::{Command, variable};
use crate::handler::{Handler, HandlerFuture};
use crate::{JobContext, TaskError, results};

/// The longest line of standard error that is looked at; the job's log keeps as much.
const MAX_LOG_LINE_BYTES: usize = 1024;
/// Linux starts no program with a longer variable, its name and the zero behind it included.
const MAX_VARIABLE_BYTES: usize = 128 * 1024;
/// What still lies in the pipes when everything that wrote to them is gone is read in no time. Only a pipe that was handed
/// to a stranger stays open; nobody waits for it longer than this.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs a command for each job.
#[derive(Debug, Clone)]
pub(crate) struct Oneshot {
    /// What to run.
    pub(crate) command: Command,
    /// What it writes.
    pub(crate) content_type: ContentType,
    /// How much of that is kept, in bytes.
    pub(crate) max_result: usize,
}

impl Handler for Oneshot {
    fn run(&self, job: JobContext, payload: Payload) -> HandlerFuture {
        let attempt = self.clone();
        Box::pin(async move { attempt.run(&job, payload.bytes).await })
    }
}

impl Oneshot {
    async fn run(&self, job: &JobContext, payload: Bytes) -> Result<Payload, TaskError> {
        let launched = Launched::start(&self.command, about(job)?).await;
        let (mut launched, pipes) = launched.map_err(|error| no_launcher(&error))?;
        let mut said = Said::default();
        let overflow = said.overflow.clone();
        let ending = {
            // All four pipes at once: a command may write megabytes before it has read its payload to the end.
            let mut talking = pin!(self.talk(pipes, payload, job, &mut said));
            let mut attending = pin!(attend(&mut launched, job.cancellation(), &overflow));
            tokio::select! {
                ending = &mut attending => {
                    let _ = tokio::time::timeout(LAST_WORDS, &mut talking).await;
                    ending
                }
                // A command may close everything and live on.
                () = &mut talking => attending.await,
            }
        };
        if said.overflow.is_cancelled() {
            return Err(too_large(self.max_result, &said.output));
        }
        let (bytes, content_type) = (said.output.len(), self.content_type.clone());
        let read = results::read(bytes, move || verdict(ending, said, &content_type)).await;
        read.unwrap_or_else(|_| Err(TaskError::retryable("the worker was stopped")))
    }

    /// Until every pipe is closed at its other end.
    async fn talk(
        &self,
        pipes: Pipes<Sender, Receiver>,
        payload: Bytes,
        job: &JobContext,
        said: &mut Said,
    ) {
        let Said { output, overflow, tail, error } = said;
        let log = |line: &str| {
            job.log(line);
            tail.push(line);
        };
        tokio::join!(
            feed(pipes.stdin, &payload),
            self.collect(pipes.stdout, output, overflow),
            each_line(pipes.stderr, MAX_LOG_LINE_BYTES, log),
            each_line(pipes.events, events::MAX_LINE_BYTES, |line| heed(line, job, error)),
        );
    }

    /// Reads the output up to its limit; one byte more, and `overflow` fires.
    async fn collect(&self, pipe: Receiver, output: &mut Vec<u8>, overflow: &CancellationToken) {
        let limit = u64::try_from(self.max_result).unwrap_or(u64::MAX).saturating_add(1);
        // A pipe that breaks has ended.
        let _ = pipe.take(limit).read_to_end(output).await;
        if output.len() > self.max_result {
            overflow.cancel();
        }
    }
}

/// Writes the payload, and closes the pipe behind it. A command need not read it: some know the answer.
async fn feed(mut pipe: Sender, payload: &[u8]) {
    let _ = pipe.write_all(payload).await;
}

fn heed(line: &str, job: &JobContext, error: &mut Option<ToldError>) {
    match Event::parse(line) {
        Ok(Event::Progress { fraction, message }) => job.progress(fraction, message),
        Ok(Event::Error(told)) => *error = Some(told),
        Err(why) => job.log(format!("not an event ({why}): {line}")),
    }
}

/// Waits for the end; hands on the wish that it come sooner.
async fn attend(
    launched: &mut Launched,
    cancellation: &CancellationToken,
    overflow: &CancellationToken,
) -> Ending {
    let order = tokio::select! {
        ending = launched.ended() => return ending,
        () = cancellation.cancelled() => Order::Stop,
        () = overflow.cancelled() => Order::Kill,
    };
    launched.order(order).await;
    // Too much output is no reason to hurry a command that is being stopped: it blocks on its pipe, and gets KILL soon.
    launched.ended().await
}

/// What the command is told of its job, by its environment.
///
/// # Errors
/// If its labels are too long for a variable.
fn about(job: &JobContext) -> Result<Vec<(OsString, OsString)>, TaskError> {
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
    let told = facts.into_iter().chain(trace).chain(state);
    Ok(told.map(|(name, value)| (name.into(), value.into())).collect())
}

/// Submissions bound labels; an earlier version took longer ones. No attempt on any worker could start the command.
fn labels_too_long(bytes: usize) -> TaskError {
    let message = format!(
        "the labels of this job have {bytes} bytes as JSON, and a command can get about {MAX_VARIABLE_BYTES}: submit it again with shorter labels"
    );
    TaskError::permanent(message).with_code(ErrorCode::command_failed())
}

fn no_launcher(error: &std::io::Error) -> TaskError {
    let why = format!("cannot start a process on this worker: {error}");
    not_started(why, error.raw_os_error())
}
