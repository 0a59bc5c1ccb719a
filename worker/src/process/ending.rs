//! The result of a job by how its command ended: the table in `docs/commands.md`.

use std::process::ExitStatus;
use std::time::Duration;

use crunch_common::job::{ContentType, ErrorCode, JobError, Payload};
use rustix::process::Signal;
use tokio_util::sync::CancellationToken;

use super::events::ReportedError;
use super::fault::not_started;
use super::launched::Ending;
use super::lines::Tail;
use super::protocol::{End, How};
use crate::TaskError;
use crate::quote::beginning;
use crate::results::SETTING;

/// `EX_DATAERR` of `sysexits.h`: the input is wrong, and will be wrong again.
const EX_DATAERR: i32 = 65;

/// What a command wrote before it ended.
#[derive(Debug, Default)]
pub(super) struct CommandOutput {
    /// Its standard output.
    pub(super) stdout: Vec<u8>,
    /// Canceled when standard output exceeds its limit.
    pub(super) overflow: CancellationToken,
    /// The end of its standard error.
    pub(super) tail: Tail,
    /// The last error event it wrote.
    pub(super) error: Option<ReportedError>,
}

/// Returns the result, or why there is none.
pub(super) fn outcome(
    ending: Ending,
    output: CommandOutput,
    content_type: &ContentType,
) -> Result<Payload, TaskError> {
    let end = match ending {
        Ending::NotStarted { why, code } => return Err(not_started(why, code)),
        Ending::NoLauncher(status) => return Err(no_launcher(status)),
        Ending::LauncherDied(status) => return Err(launcher_died(status)),
        Ending::Ended(end) => end,
    };
    match end {
        // A program that exits with 0 after TERM does not report the work it left undone.
        End { stopped: true, .. } => Err(TaskError::retryable("the command was stopped")),
        End { how: How::Exited(0), .. } => result(output.stdout, content_type),
        End { how, .. } => Err(failure(how, output)),
    }
}

/// The error for output above the limit.
pub(super) fn too_large(limit: usize, output: &[u8]) -> TaskError {
    let message = format!(
        "the command wrote more than {limit} bytes, the limit for results ({SETTING}); its output begins {}",
        beginning(output)
    );
    failed(JobError::permanent(ErrorCode::result_too_large(), message))
}

fn result(output: Vec<u8>, content_type: &ContentType) -> Result<Payload, TaskError> {
    let bytes = if content_type.is_json() { one_value(&output)?.into() } else { output };
    Ok(Payload { bytes: bytes.into(), content_type: content_type.clone() })
}

/// One JSON value, without the line break that every language's `print` appends. Empty output is `null`.
fn one_value(output: &[u8]) -> Result<&[u8], TaskError> {
    let value = output.trim_ascii();
    if value.is_empty() {
        return Ok(b"null");
    }
    // A raw value must be UTF-8, unlike an ignored one.
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

fn failure(how: How, output: CommandOutput) -> TaskError {
    let (code, end, retryable) = match how {
        How::Exited(code) => {
            let end = format!("the command exited with code {code}");
            (ErrorCode::command_failed(), end, code != EX_DATAERR)
        }
        How::Killed(signal) => {
            let end = format!("the command was killed by {}", name_of(signal));
            (ErrorCode::command_killed(), end, true)
        }
    };
    let reported = output.error.unwrap_or_default();
    let message = reported.message.filter(|message| !message.is_empty());
    if reported.machine {
        // Without the last lines: the reason is written to the worker's log, and they may contain a payload.
        return TaskError::machine(message.unwrap_or(end));
    }
    if let Some(delay) = reported.snooze_ms {
        return TaskError::snooze(Duration::from_millis(delay));
    }
    let message = message.unwrap_or_else(|| with_last_lines(&end, &output.tail));
    let retryable = reported.retryable.unwrap_or(retryable);
    failed(JobError { retryable, ..JobError::retryable(reported.code.unwrap_or(code), message) })
}

/// Describes an end, with the last lines of standard error.
pub(crate) fn with_last_lines(end: &str, tail: &Tail) -> String {
    if tail.is_empty() {
        return format!("{end} and wrote nothing to standard error");
    }
    format!("{end}; the end of its standard error:\n{}", tail.text())
}

/// A fault of the machine: nothing in a job can keep a launcher from starting.
fn no_launcher(status: Option<ExitStatus>) -> TaskError {
    let how = describe_status(status);
    TaskError::machine(format!(
        "the launcher of the command ended ({how}) before it started the command"
    ))
}

fn launcher_died(status: Option<ExitStatus>) -> TaskError {
    let how = describe_status(status);
    let message = format!("the launcher of the command ended ({how}), and the command was killed");
    failed(JobError::retryable(ErrorCode::command_killed(), message))
}

pub(crate) fn describe_status(status: Option<ExitStatus>) -> String {
    status.map_or_else(|| "with unknown status".to_owned(), |status| status.to_string())
}

fn failed(error: JobError) -> TaskError {
    TaskError::of(error)
}

/// `signal 9 (KILL)`
pub(crate) fn name_of(signal: i32) -> String {
    match Signal::from_named_raw(signal).map(|named| format!("{named:?}")) {
        Some(named) => {
            let named = named.trim_matches('"').trim_start_matches("Signal::");
            format!("signal {signal} ({named})")
        }
        None => format!("signal {signal}"),
    }
}
