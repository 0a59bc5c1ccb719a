//! A job: one submission of a task. Plain values, testable without a runtime; no Redis, no HTTP.

mod error;
mod group;
mod id;
mod limits;
mod metadata;
mod options;
mod payload;
mod priority;
mod status;
mod trace;
mod unique;

pub use error::{ErrorCode, InvalidErrorCode, JobError, MAX_MESSAGE_BYTES};
pub use group::{GroupName, InvalidGroupName};
pub use id::{InvalidJobId, JobId, PARTITIONS_MAX, Partition};
pub use limits::{MAX_ATTEMPTS_LIMIT, MAX_DURATION};
pub use metadata::{InvalidMetadata, Metadata};
pub use options::JobOptions;
pub use payload::{ContentType, INLINE_RESULT_MAX_BYTES, InvalidContentType, Payload};
pub use priority::Priority;
pub use status::Status;
pub use trace::TraceContext;
pub use unique::{
    InvalidUnique, OnConflict, Unique, UniqueBy, UniqueKey, UniqueMembers, Until, UntilWord,
};
