//! A job: one submission of a task. Plain values, testable without a runtime; no Redis, no HTTP.

mod error;
mod id;
mod metadata;
mod options;
mod payload;
mod priority;
mod status;
mod trace;

pub use error::{ErrorCode, InvalidErrorCode, JobError, MAX_MESSAGE_BYTES};
pub use id::{InvalidJobId, JobId, PARTITIONS_MAX, Partition};
pub use metadata::{InvalidMetadata, Metadata};
pub use options::{JobOptions, MAX_ATTEMPTS_LIMIT, MAX_DURATION};
pub use payload::{ContentType, INLINE_RESULT_MAX_BYTES, InvalidContentType, Payload};
pub use priority::Priority;
pub use status::Status;
pub use trace::TraceContext;
