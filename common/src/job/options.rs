//! What a submission may ask for beyond its payload, and what the task says where it does not ask.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ContentType, Metadata, TraceContext};
use crate::backoff::Backoff;
use crate::time::as_ms;

/// `max_attempts` never exceeds this: a job that failed a hundred times will not get better.
pub const MAX_ATTEMPTS_LIMIT: u32 = 100;
/// No delay, timeout, deadline or retention exceeds a year: beyond it a unit was mistaken.
pub const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 3600);

/// How a job is to be run, resolved from the submission and its task's defaults. Kept with the job as one opaque JSON
/// field, which the functions in Redis hand on and never read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOptions {
    /// How many attempts may be charged before the job fails for good. 1 to [`MAX_ATTEMPTS_LIMIT`].
    #[serde(default = "max_attempts", skip_serializing_if = "is_max_attempts")]
    pub max_attempts: u32,
    /// How long one attempt may take.
    #[serde(
        rename = "timeout_ms",
        with = "as_ms",
        default = "timeout",
        skip_serializing_if = "is_timeout"
    )]
    pub timeout: Duration,
    /// How long after its submission the job is still wanted; later it fails with `deadline_exceeded`.
    #[serde(
        rename = "deadline_ms",
        with = "optional_ms",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub deadline: Option<Duration>,
    /// How long to wait after a failed attempt.
    #[serde(default, skip_serializing_if = "is_default")]
    pub backoff: Backoff,
    /// What the payload's bytes are.
    #[serde(default, skip_serializing_if = "is_default")]
    pub content_type: ContentType,
    /// Size of the payload in bytes.
    pub payload_size: u64,
    /// The client's labels.
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
    /// The trace it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceContext>,
}

impl JobOptions {
    /// How long an attempt may take unless a task says otherwise: ten minutes.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);
    /// How many attempts a job has unless its task says otherwise.
    pub const DEFAULT_MAX_ATTEMPTS: u32 = 3;
}

// What most jobs ask for is not written down a million times. Jobs in Redis rely on what is absent: other defaults need
// another layout.

const fn max_attempts() -> u32 {
    JobOptions::DEFAULT_MAX_ATTEMPTS
}

const fn timeout() -> Duration {
    JobOptions::DEFAULT_TIMEOUT
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference to the field")]
const fn is_max_attempts(value: &u32) -> bool {
    *value == JobOptions::DEFAULT_MAX_ATTEMPTS
}

fn is_timeout(value: &Duration) -> bool {
    *value == JobOptions::DEFAULT_TIMEOUT
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

mod optional_ms {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "serde's `with` passes a reference to the field")]
    pub(super) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(duration) => super::as_ms::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_millis))
    }
}
