//! The messages of the channel: `docs/commands.md` specifies them.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use crunch_common::broker::{Epoch, LeaseKey};
use crunch_common::job::{ErrorCode, JobId, Metadata};
use serde::{Deserialize, Serialize};

use crate::quote::beginning;
use crate::stop::StopReason;

/// The version of the channel.
pub(crate) const VERSION: u64 = 1;
/// How many jobs a child may run at once, at most: as many as a worker has slots at most.
pub(crate) const MAX_CONCURRENCY: u32 = 1024;

/// What is not a message, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}; it begins {begins}")]
pub(crate) struct Invalid {
    why: String,
    begins: String,
}

impl Invalid {
    pub(crate) fn new(why: impl Into<String>, text: &[u8]) -> Self {
        Self { why: why.into(), begins: beginning(text) }
    }
}

/// What a child says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FromChild {
    Hello(Hello),
    Bye {
        reason: String,
    },
    Done {
        attempt: LeaseKey,
        answer: Done,
    },
    Failed {
        attempt: LeaseKey,
        error: Box<ReportedFailure>,
    },
    Progress {
        attempt: LeaseKey,
        fraction: f64,
        message: String,
    },
    Log {
        attempt: LeaseKey,
        text: String,
    },
    Credit {
        concurrency: u32,
    },
    Ping,
    Pong,
    /// An answer or a report about something that no worker can have sent, such as a job without an id.
    Unrelated,
    /// A type of a later version.
    Unknown,
}

/// The first message of a child; its tasks are in the body.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Hello {
    pub(crate) channel: u64,
    #[serde(default = "one")]
    pub(crate) concurrency: u32,
    #[serde(default)]
    pub(crate) sdk: Option<String>,
    #[serde(default)]
    pub(crate) features: Vec<String>,
}

fn one() -> u32 {
    1
}

/// A result, apart from its body.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(crate) struct Done {
    #[serde(default)]
    pub(crate) content_type: Option<String>,
    /// The path of a file that has the result.
    #[serde(default)]
    pub(crate) file: Option<String>,
}

/// Why a job failed, as its child reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct ReportedFailure {
    pub(crate) code: Option<ErrorCode>,
    pub(crate) message: Option<String>,
    pub(crate) retryable: Option<bool>,
    pub(crate) after_ms: Option<u64>,
    /// For how long the job is put off; then nothing failed.
    pub(crate) snooze_ms: Option<u64>,
    #[serde(default)]
    pub(crate) machine: bool,
}

/// The job and the attempt that an answer or a report is about.
#[derive(Deserialize)]
struct AttemptLine {
    id: JobId,
    epoch: u64,
}

/// What every line has.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    body: Option<u64>,
}

#[derive(Deserialize)]
struct FailedLine {
    error: ReportedFailure,
}

#[derive(Deserialize)]
struct ProgressLine {
    progress: f64,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct TextLine {
    text: String,
}

#[derive(Deserialize)]
struct ByeLine {
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
struct CreditLine {
    concurrency: u32,
}

impl FromChild {
    /// Returns its type.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Bye { .. } => "bye",
            Self::Done { .. } => "done",
            Self::Failed { .. } => "failed",
            Self::Progress { .. } => "progress",
            Self::Log { .. } => "log",
            Self::Credit { .. } => "credit",
            Self::Ping => "ping",
            Self::Pong => "pong",
            Self::Unrelated => "an answer",
            Self::Unknown => "an unknown type",
        }
    }

    /// Parses a line; returns the length of its body too.
    ///
    /// # Errors
    /// If it is no message.
    pub(crate) fn parse(line: &[u8]) -> Result<(Self, Option<u64>), Invalid> {
        let invalid = |why: String| Invalid::new(why, line);
        if line.trim_ascii().is_empty() {
            return Err(invalid("an empty line is not a message".to_owned()));
        }
        let text =
            std::str::from_utf8(line).map_err(|_| invalid("a message is not UTF-8".to_owned()))?;
        // Serde would accept a list as the members of a struct, in their order.
        if !text.trim_start().starts_with('{') {
            return Err(invalid("a message is not a JSON object".to_owned()));
        }
        let head: Head<'_> = serde_json::from_str(text)
            .map_err(|error| invalid(format!("a message is not understood: {error}")))?;
        let kind = head.kind.as_ref();
        let message = Self::of_kind(kind, text)
            .map_err(|error| invalid(format!("a {kind:?} message is not understood: {error}")))?;
        Ok((message, head.body))
    }

    fn of_kind(kind: &str, text: &str) -> Result<Self, serde_json::Error> {
        Ok(match kind {
            "hello" => Self::Hello(serde_json::from_str(text)?),
            "bye" => Self::Bye { reason: serde_json::from_str::<ByeLine>(text)?.reason },
            "ping" => Self::Ping,
            "pong" => Self::Pong,
            "credit" => {
                Self::Credit { concurrency: serde_json::from_str::<CreditLine>(text)?.concurrency }
            }
            "done" | "failed" | "progress" | "log" => {
                let Ok(AttemptLine { id, epoch }) = serde_json::from_str(text) else {
                    return Ok(Self::Unrelated);
                };
                Self::about(kind, LeaseKey { id, epoch: Epoch::new(epoch) }, text)?
            }
            _ => Self::Unknown,
        })
    }

    fn about(kind: &str, attempt: LeaseKey, text: &str) -> Result<Self, serde_json::Error> {
        Ok(match kind {
            "done" => Self::Done { attempt, answer: serde_json::from_str(text)? },
            "failed" => {
                let error = Box::new(serde_json::from_str::<FailedLine>(text)?.error);
                Self::Failed { attempt, error }
            }
            "progress" => {
                let ProgressLine { progress: fraction, message } = serde_json::from_str(text)?;
                Self::Progress { attempt, fraction, message }
            }
            _ => Self::Log { attempt, text: serde_json::from_str::<TextLine>(text)?.text },
        })
    }
}

/// What a worker says. Members are in the order in which they are written: `type` first, what clients fill last.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ToChild<'a> {
    Hello { channel: u64, worker: &'a str, max_result: u64 },
    Job(JobMessage<'a>),
    Cancel { id: JobId, epoch: u64, reason: &'static str, grace_ms: u64 },
    Drain,
    Ping,
    Pong,
}

/// A job for a child.
#[derive(Debug, Serialize)]
pub(crate) struct JobMessage<'a> {
    pub(crate) id: JobId,
    pub(crate) epoch: u64,
    pub(crate) task: &'a str,
    pub(crate) attempt: u32,
    pub(crate) max_attempts: u32,
    pub(crate) deadline_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<&'a str>,
    pub(crate) content_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trace: Option<Trace<'a>>,
    pub(crate) metadata: &'a Metadata,
}

/// The trace of a job.
#[derive(Debug, Serialize)]
pub(crate) struct Trace<'a> {
    pub(crate) traceparent: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tracestate: Option<&'a str>,
}

impl ToChild<'_> {
    /// Returns the line, without a body.
    pub(crate) fn line(&self) -> Bytes {
        let mut line = BytesMut::with_capacity(256).writer();
        serde_json::to_writer(&mut line, self).expect("a message is plain data");
        let mut line = line.into_inner();
        line.put_u8(b'\n');
        line.freeze()
    }
}

impl StopReason {
    /// Its word in the channel.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Canceled => "canceled",
            Self::TimedOut => "timeout",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Shutdown => "shutdown",
            Self::LeaseLost => "lease_lost",
        }
    }
}
