//! Why an attempt or a job failed, in a form that a client can act on.

mod kind;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest message stored with a job, in bytes. Enough for the last lines of a stack trace, not for a log.
pub const MAX_MESSAGE_BYTES: usize = 4096;

/// A stable error code: `[a-z0-9][a-z0-9_.-]{0,63}`. The functions below return Crunch's codes; a handler may use its
/// own.
///
/// ```
/// use crunch_common::job::ErrorCode;
///
/// let code: ErrorCode = "no_license".parse().unwrap();
/// assert_eq!(code.as_str(), "no_license");
/// assert!("No license!".parse::<ErrorCode>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ErrorCode(Arc<str>);

/// A code that does not match `[a-z0-9][a-z0-9_.-]{0,63}`.
pub type InvalidErrorCode = crate::InvalidName;

macro_rules! codes {
    ($($(#[$doc:meta])* $function:ident = $code:literal,)*) => {
        impl ErrorCode {
            $($(#[$doc])* #[must_use] pub fn $function() -> Self { Self($code.into()) })*
        }
    };
}

codes! {
    /// The handler returned an error without a code.
    task_failed = "task_failed",
    /// The handler panicked.
    handler_panicked = "handler_panicked",
    /// The command exited with a code other than 0.
    command_failed = "command_failed",
    /// The command was terminated by a signal that Crunch did not send.
    command_killed = "command_killed",
    /// The child of a server that ran it exited, was killed, or closed its pipe.
    child_died = "child_died",
    /// The child of a server that ran it was killed because it used too much memory.
    out_of_memory = "out_of_memory",
    /// The child of a server that ran it sent something that is not a message.
    protocol = "protocol",
    /// The attempt took longer than its timeout.
    timeout = "timeout",
    /// The job's deadline passed before it was claimed, or during an attempt.
    deadline_exceeded = "deadline_exceeded",
    /// It did not start within its time.
    expired = "expired",
    /// Too often, its handler put it off.
    snoozed_too_often = "snoozed_too_often",
    /// Too often, its workers died or stopped sending heartbeats while they ran it.
    worker_lost = "worker_lost",
    /// Too often, live workers did not receive it.
    not_delivered = "not_delivered",
    /// It was canceled.
    canceled = "canceled",
    /// The task does not accept the payload.
    payload_invalid = "payload_invalid",
    /// The handler's result does not match what the task declares.
    result_invalid = "result_invalid",
    /// The handler's result is larger than the limit.
    result_too_large = "result_too_large",
}

impl ErrorCode {
    /// The code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ErrorCode {
    type Err = InvalidErrorCode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        crate::name::check(text)?;
        Ok(Self(text.into()))
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A failure as it is stored with the job and shown to the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// Machine-readable code.
    pub code: ErrorCode,
    /// Human-readable message. At most [`MAX_MESSAGE_BYTES`].
    pub message: String,
    /// Whether another attempt might succeed.
    pub retryable: bool,
}

impl JobError {
    /// A failure that another attempt might avoid. Of a longer message only the *end* is kept, which has the relevant
    /// part of stack traces and stderr.
    #[must_use]
    pub fn retryable(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: last_bytes(message.into()), retryable: true }
    }

    /// A failure that no other attempt can avoid.
    #[must_use]
    pub fn permanent(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { retryable: false, ..Self::retryable(code, message) }
    }
}

fn last_bytes(message: String) -> String {
    let Some(excess) = message.len().checked_sub(MAX_MESSAGE_BYTES).filter(|&excess| excess > 0)
    else {
        return message;
    };
    let start = (excess..message.len()).find(|&at| message.is_char_boundary(at));
    message[start.unwrap_or(message.len())..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_keeps_its_end() {
        let error = JobError::retryable(
            ErrorCode::timeout(),
            format!("ä{}end", "x".repeat(MAX_MESSAGE_BYTES - 4)),
        );
        assert_eq!(error.message.len(), MAX_MESSAGE_BYTES - 1);
        assert!(error.message.ends_with("end"));
    }
}
