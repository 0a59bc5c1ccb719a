//! What simulated jobs and workers say of themselves.

use std::time::Duration;

use crunch_common::backoff::Backoff;
use crunch_common::broker::{WorkerInfo, WorkerState};
use crunch_common::job::{ContentType, JobOptions, Metadata};
use crunch_common::time::Timestamp;

pub(crate) fn options() -> JobOptions {
    JobOptions {
        max_attempts: 3,
        timeout: Duration::from_secs(600),
        deadline: None,
        start_within: None,
        unique: None,
        backoff: Backoff::FOR_ATTEMPTS,
        content_type: ContentType::json(),
        payload_size: 2,
        metadata: Metadata::default(),
        group: None,
        trace: None,
    }
}

pub(crate) fn info() -> WorkerInfo {
    WorkerInfo {
        host: "simulated".to_owned(),
        pid: 1,
        version: "0".to_owned(),
        tasks: Vec::new(),
        queues: Vec::new(),
        slots: 4,
        started_at: Timestamp::from_unix_ms(0),
        suspended: Vec::new(),
        servers: Vec::new(),
        state: WorkerState::Running,
    }
}
