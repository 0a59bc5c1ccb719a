//! A task: a named kind of work that workers can run, and what they declare about it.

mod indexes;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backoff::Backoff;
use crate::job::{ContentType, JobOptions, Priority, Unique};
use crate::name::WEBHOOKS;
use crate::pointer::Pointer;
use crate::queue::QueueName;
use crate::schema::Schema;
use crate::time::as_ms;

pub use indexes::{Indexes, InvalidIndexes};

crate::name::checked_name! {
    /// Name of a task: 1–64 characters of `[a-z0-9_.-]`, starting with a letter or digit.
    TaskName
}

impl TaskName {
    /// The task that delivers webhooks.
    #[must_use]
    pub fn webhooks() -> Self {
        WEBHOOKS.parse().expect("the name fits the grammar")
    }

    /// Whether it is reserved for Crunch: no worker may declare it, and no client may submit jobs for it.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.as_str() == WEBHOOKS
    }

    /// The queue of jobs of this task unless another is declared: the queue with the task's name.
    #[must_use]
    pub fn default_queue(&self) -> QueueName {
        self.as_str().parse().expect("task and queue names share one grammar")
    }
}

/// What a worker declares about a task. Published to Redis, read by the API; no code is shared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskDescriptor {
    /// Name of the task.
    pub name: TaskName,
    /// The queue of its jobs. Default: the queue with the task's name.
    pub queue: QueueName,
    /// Description in one sentence. Default empty.
    #[serde(default)]
    pub description: String,
    /// Accepted content types of payloads. Default: JSON only.
    pub accepts: Vec<ContentType>,
    /// Content type of its results. Default JSON.
    pub content_type: ContentType,
    /// Timeout of one attempt, in milliseconds on the wire. Default 10 min.
    #[serde(rename = "timeout_ms", with = "as_ms")]
    pub timeout: Duration,
    /// Maximum number of charged attempts. Default 3.
    pub max_attempts: u32,
    /// Delay after a failed attempt.
    pub backoff: Backoff,
    /// Priority of its jobs. Default normal.
    pub priority: Priority,
    /// How long a finished job is kept, in milliseconds on the wire; `None`: [`crate::broker::Retention`] applies.
    #[serde(rename = "retention_ms")]
    pub retention_ms: Option<u64>,
    /// Maximum size of a payload, in bytes. Default 256 KiB.
    pub max_payload: u64,
    /// Maximum size of a result, in bytes; `None` in declarations of older workers, which do not declare it. Default:
    /// the worker's configured limit.
    #[serde(default)]
    pub max_result: Option<u64>,
    /// Schema of JSON payloads; APIs reject payloads that do not match. Default: every payload is accepted.
    #[serde(default)]
    pub payload_schema: Option<Schema>,
    /// Schema of JSON results; the worker fails jobs whose result does not match. Default: every result is accepted.
    #[serde(default)]
    pub result_schema: Option<Schema>,
    /// Labels of its jobs by which they can be found. Default: none.
    #[serde(default, skip_serializing_if = "Indexes::is_empty")]
    pub indexes: Indexes,
    /// Where the group of a job is in its JSON payload, for jobs that name none. Default: they have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Pointer>,
    /// Within which time a job must start, in milliseconds on the wire; otherwise it is canceled. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_within_ms: Option<u64>,
    /// What its jobs are unique by, unless they say otherwise. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<Unique>,
}

impl TaskDescriptor {
    /// The default of [`TaskDescriptor::max_payload`]: enough for rich JSON, small enough to limit the memory of Redis.
    pub const DEFAULT_MAX_PAYLOAD: u64 = 256 * 1024;
    /// The largest [`TaskDescriptor::max_payload`], in bytes: one job must fit into one function call.
    pub const MAX_PAYLOAD_LIMIT: u64 = 64 * 1024 * 1024;
    /// The largest [`TaskDescriptor::max_result`], in bytes, for the same reason.
    pub const MAX_RESULT_LIMIT: u64 = 64 * 1024 * 1024;

    /// A task with this name and the default of every other field.
    #[must_use]
    pub fn new(name: TaskName) -> Self {
        Self {
            queue: name.default_queue(),
            name,
            description: String::new(),
            accepts: vec![ContentType::json()],
            content_type: ContentType::json(),
            timeout: JobOptions::DEFAULT_TIMEOUT,
            max_attempts: JobOptions::DEFAULT_MAX_ATTEMPTS,
            backoff: Backoff::FOR_ATTEMPTS,
            priority: Priority::Normal,
            retention_ms: None,
            max_payload: Self::DEFAULT_MAX_PAYLOAD,
            max_result: None,
            payload_schema: None,
            result_schema: None,
            indexes: Indexes::default(),
            group: None,
            start_within_ms: None,
            unique: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declaration_of_an_older_worker_has_no_schemas_and_is_read() {
        let task = TaskDescriptor::new("t".parse().unwrap());
        let mut wire = serde_json::to_value(&task).unwrap();
        let members = wire.as_object_mut().unwrap();
        members.retain(|name, _| !name.ends_with("_schema"));
        assert_eq!(serde_json::from_str::<TaskDescriptor>(&wire.to_string()).unwrap(), task);
    }

    /// This version may not support the schemas of a later one: the rest of the declaration is not lost.
    #[test]
    fn a_schema_that_cannot_be_used_does_not_hide_its_task() {
        let task = TaskDescriptor::new("t".parse().unwrap());
        let mut wire = serde_json::to_value(&task).unwrap();
        wire["payload_schema"] = serde_json::json!({ "type": "text" });
        let read: TaskDescriptor = serde_json::from_str(&wire.to_string()).unwrap();
        assert!(read.payload_schema.unwrap().compile().is_err());
    }
}
