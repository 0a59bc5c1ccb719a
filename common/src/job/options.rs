//! Options of a submission besides its payload, with the task's values as defaults.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ContentType, GroupName, Metadata, TraceContext, Unique};
use crate::backoff::Backoff;
use crate::time::as_ms;

/// How to run a job, resolved from the submission and its task's defaults. Stored with the job as one opaque JSON
/// field, which the functions in Redis pass on and never read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOptions {
    /// How many attempts may be charged before the job fails for good. 1 to [`MAX_ATTEMPTS_LIMIT`](super::MAX_ATTEMPTS_LIMIT).
    #[serde(default = "max_attempts", skip_serializing_if = "is_max_attempts")]
    pub max_attempts: u32,
    /// Timeout of one attempt.
    #[serde(
        rename = "timeout_ms",
        with = "as_ms",
        default = "timeout",
        skip_serializing_if = "is_timeout"
    )]
    pub timeout: Duration,
    /// Deadline of the job, counted from its submission; later it fails with `deadline_exceeded`.
    #[serde(
        rename = "deadline_ms",
        with = "optional_ms",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub deadline: Option<Duration>,
    /// Within which time it must start, counted from its submission or, if it has a delay, from the end of that; otherwise
    /// it is canceled with `expired`.
    #[serde(
        rename = "start_within_ms",
        with = "optional_ms",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub start_within: Option<Duration>,
    /// How long to wait after a failed attempt.
    #[serde(default, skip_serializing_if = "is_default")]
    pub backoff: Backoff,
    /// Content type of the payload.
    #[serde(default, skip_serializing_if = "is_default")]
    pub content_type: ContentType,
    /// Size of the payload in bytes.
    pub payload_size: u64,
    /// The client's labels.
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
    /// The group in whose turns it is claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
    /// What it is unique by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<Unique>,
    /// The trace it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceContext>,
}

impl JobOptions {
    /// The default timeout of an attempt: ten minutes.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);
    /// The default number of attempts of a job.
    pub const DEFAULT_MAX_ATTEMPTS: u32 = 3;
}

// Defaults are omitted, to save memory for millions of jobs. Jobs in Redis depend on the defaults of omitted members:
// a change of a default needs a new layout.

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
