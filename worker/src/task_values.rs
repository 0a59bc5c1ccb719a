//! What a declaration outside of Rust, in `tasks.toml` or by the child of a server, contains about a task: every value
//! may be missing, and has then the default of [`TaskDescriptor`].

use std::time::Duration;

use crunch_common::Pointer;
use crunch_common::backoff::Backoff;
use crunch_common::job::{ContentType, Priority, Unique};
use crunch_common::queue::QueueName;
use crunch_common::schema::Schema;
use crunch_common::task::{Indexes, TaskDescriptor, TaskName};
use crunch_common::time::whole_ms;

/// The values of one declaration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TaskValues {
    pub(crate) queue: Option<QueueName>,
    pub(crate) description: Option<String>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) backoff: Option<Backoff>,
    pub(crate) priority: Option<Priority>,
    pub(crate) retention: Option<Duration>,
    pub(crate) accepts: Option<Vec<ContentType>>,
    pub(crate) content_type: Option<ContentType>,
    pub(crate) max_payload: Option<u64>,
    pub(crate) max_result: Option<u64>,
    pub(crate) payload_schema: Option<Schema>,
    pub(crate) result_schema: Option<Schema>,
    pub(crate) indexes: Option<Indexes>,
    pub(crate) group: Option<Pointer>,
    pub(crate) start_within: Option<Duration>,
    pub(crate) unique: Option<Unique>,
}

impl TaskValues {
    /// Returns the task with these values and the defaults of the others.
    pub(crate) fn describe(self, name: TaskName) -> TaskDescriptor {
        let default = TaskDescriptor::new(name);
        TaskDescriptor {
            queue: self.queue.unwrap_or(default.queue),
            description: self.description.unwrap_or(default.description),
            timeout: self.timeout.unwrap_or(default.timeout),
            max_attempts: self.max_attempts.unwrap_or(default.max_attempts),
            backoff: self.backoff.unwrap_or(default.backoff),
            priority: self.priority.unwrap_or(default.priority),
            retention_ms: self.retention.map(whole_ms).or(default.retention_ms),
            accepts: self.accepts.unwrap_or(default.accepts),
            content_type: self.content_type.unwrap_or(default.content_type),
            max_payload: self.max_payload.unwrap_or(default.max_payload),
            max_result: self.max_result.or(default.max_result),
            payload_schema: self.payload_schema.or(default.payload_schema),
            result_schema: self.result_schema.or(default.result_schema),
            indexes: self.indexes.unwrap_or(default.indexes),
            group: self.group.or(default.group),
            start_within_ms: self.start_within.map(whole_ms).or(default.start_within_ms),
            unique: self.unique.or(default.unique),
            name: default.name,
        }
    }

    /// Returns these values, and those of another declaration where this one has none.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            queue: self.queue.or(other.queue),
            description: self.description.or(other.description),
            timeout: self.timeout.or(other.timeout),
            max_attempts: self.max_attempts.or(other.max_attempts),
            backoff: self.backoff.or(other.backoff),
            priority: self.priority.or(other.priority),
            retention: self.retention.or(other.retention),
            accepts: self.accepts.or(other.accepts),
            content_type: self.content_type.or(other.content_type),
            max_payload: self.max_payload.or(other.max_payload),
            max_result: self.max_result.or(other.max_result),
            payload_schema: self.payload_schema.or(other.payload_schema),
            result_schema: self.result_schema.or(other.result_schema),
            indexes: self.indexes.or(other.indexes),
            group: self.group.or(other.group),
            start_within: self.start_within.or(other.start_within),
            unique: self.unique.or(other.unique),
        }
    }
}
