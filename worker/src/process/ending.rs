//! What the end of a command means for its job. The table that `docs/commands.md` promises.

use std::process::ExitStatus;

use crunch_common::job::{ContentType, ErrorCode, JobError, Payload};
use rustix::process::Signal;
use tokio_util::sync::CancellationToken;

use super::events::ToldError;
use super::fault::not_started;
use super::launched::Ending;
use super::lines::Tail;
use super::protocol::{End, How};
use crate::TaskError;
use crate::quote::beginning;
use crate::results::SETTING;

/// `EX_DATAERR` of `sysexits.h`: the input is wrong, and will be wrong again.
const EX_DATAERR: i32 = 65;

/// What a command said before it ended.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Its standard output.
    pub(super) output: Vec<u8>,
    /// Fires when there is more of that than is kept.
    pub(super) overflow: CancellationToken,
    /// The end of its standard error.
    pub(super) tail: Tail,
    /// What it said of the end that was to come.
    pub(super) error: Option<ToldError>,
}

/// The result, or why there is none.
pub(super) fn verdict(
    ending: Ending,
    said: Said,
    content_type: &ContentType,
) -> Result<Payload, TaskError> {
    let end = match ending {
        Ending::NotStarted { why, code } => return Err(not_started(why, code)),
        Ending::NoLauncher(status) => return Err(no_launcher(status)),
        Ending::LauncherDied(status) => return Err(launcher_died(status)),
        Ending::Ended(end) => end,
    };
    match end {
        // Programs that end well when they are told to stop say nothing of the work they left undone.
        End { stopped: true, .. } => Err(TaskError::retryable("the command was stopped")),
        End { how: How::Exited(0), .. } => result(said.output, content_type),
        End { how, .. } => Err(failure(how, said)),
    }
}

/// More output than is kept.
pub(super) fn too_large(limit: usize, output: &[u8]) -> TaskError {
    let message = format!(
        "the command wrote more than {limit} bytes; more are not kept ({SETTING}); its output begins {}",
        beginning(output)
    );
    failed(JobError::permanent(ErrorCode::result_too_large(), message))
}

fn result(output: Vec<u8>, content_type: &ContentType) -> Result<Payload, TaskError> {
    let bytes = if content_type.is_json() { one_value(&output)?.into() } else { output };
    Ok(Payload { bytes: bytes.into(), content_type: content_type.clone() })
}

/// One JSON value, without the line break that every language's `print` puts behind it. Nothing at all is `null`.
fn one_value(output: &[u8]) -> Result<&[u8], TaskError> {
    let value = output.trim_ascii();
    if value.is_empty() {
        return Ok(b"null");
    }
    // Unlike a value that is skipped, a raw one is held to be UTF-8.
    let checked: Result<&serde_json::value::RawValue, _> = serde_json::from_slice(value);
    checked.map(|_| value).map_err(|error| {
        let message = format!(
            "standard output is not one JSON value: {error}; it begins {}; write only the result there, and \
             everything else (print, progress, warnings) to standard error",
            beginning(output)
        );
        failed(JobError::permanent(ErrorCode::result_invalid(), message))
    })
}

fn failure(how: How, said: Said) -> TaskError {
    let (code, end, retryable) = match how {
        How::Exited(code) => {
            let end = format!("the command exited with code {code}");
            (ErrorCode::command_failed(), end, code != EX_DATAERR)
        }
        How::Killed(signal) => {
            let end = format!("the command was killed by {}", name(signal));
            (ErrorCode::command_killed(), end, true)
        }
    };
    let told = said.error.unwrap_or_default();
    let message = told.message.filter(|message| !message.is_empty());
    if told.machine {
        // Without the last lines: the reason goes to the worker's log, and they may hold a payload.
        return TaskError::machine(message.unwrap_or(end));
    }
    let message = message.unwrap_or_else(|| with_last_lines(&end, &said.tail));
    let retryable = told.retryable.unwrap_or(retryable);
    failed(JobError { retryable, ..JobError::retryable(told.code.unwrap_or(code), message) })
}

fn with_last_lines(end: &str, tail: &Tail) -> String {
    if tail.is_empty() {
        return format!("{end} and wrote nothing to standard error");
    }
    format!("{end}; the end of its standard error:\n{}", tail.text())
}

/// Nothing of the job can keep a launcher from starting.
fn no_launcher(status: Option<ExitStatus>) -> TaskError {
    let how = in_words(status);
    TaskError::machine(format!(
        "the launcher of the command ended ({how}) before it could start it"
    ))
}

fn launcher_died(status: Option<ExitStatus>) -> TaskError {
    let how = in_words(status);
    let message = format!("the launcher of the command ended ({how}), and the command with it");
    failed(JobError::retryable(ErrorCode::command_killed(), message))
}

fn in_words(status: Option<ExitStatus>) -> String {
    status.map_or_else(|| "in an unknown way".to_owned(), |status| status.to_string())
}

fn failed(error: JobError) -> TaskError {
    TaskError::of(error)
}

/// `signal 9 (KILL)`
fn name(signal: i32) -> String {
    match Signal::from_named_raw(signal).map(|named| format!("{named:?}")) {
        Some(named) => {
            let named = named.trim_matches('"').trim_start_matches("Signal::");
            format!("signal {signal} ({named})")
        }
        None => format!("signal {signal}"),
    }
}
