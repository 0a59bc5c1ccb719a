//! The log of a job.

use crunch_common::broker::LogLine;
use crunch_common::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// A page of a log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LogPage {
    pub(crate) items: Vec<LogDocument>,
    /// Pass it as `cursor` for what follows; null once the job has ended and everything was read.
    pub(crate) next_cursor: Option<String>,
}

/// A line of a log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LogLine)]
pub(crate) struct LogDocument {
    /// Counted from 1 over the job's lifetime; lines that are no longer kept leave a gap.
    number: u64,
    /// The attempt that wrote it.
    attempt: u32,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    line: String,
}

impl From<LogLine> for LogDocument {
    fn from(line: LogLine) -> Self {
        let LogLine { number, at, attempt, line } = line;
        Self { number, attempt, at, line }
    }
}
