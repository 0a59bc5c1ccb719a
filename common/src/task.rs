//! A task: a named kind of work that workers know how to do, and what they declare about it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backoff::Backoff;
use crate::job::{ContentType, JobOptions, Priority};
use crate::name::WEBHOOKS;
use crate::queue::QueueName;
use crate::schema::Schema;
use crate::time::as_ms;

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

    /// Whether it is Crunch's own: no worker may declare it, and no client submit to it.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.as_str() == WEBHOOKS
    }

    /// The queue in which jobs of this task wait unless told otherwise: the one of its own name.
    #[must_use]
    pub fn default_queue(&self) -> QueueName {
        self.as_str().parse().expect("task and queue names share one grammar")
    }
}

/// What a worker declares about a task. Published to Redis, read by the API; no code is shared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskDescriptor {
    /// Its name.
    pub name: TaskName,
    /// Where its jobs wait. Default: the queue of the task's own name.
    pub queue: QueueName,
    /// What it does, in a sentence. Default empty.
    #[serde(default)]
    pub description: String,
    /// Content types of payloads it takes. Default: JSON only.
    pub accepts: Vec<ContentType>,
    /// Content type of its results. Default JSON.
    pub content_type: ContentType,
    /// How long one attempt may take, in milliseconds on the wire. Default 10 min.
    #[serde(rename = "timeout_ms", with = "as_ms")]
    pub timeout: Duration,
    /// How many attempts may be charged. Default 3.
    pub max_attempts: u32,
    /// The wait after a failed attempt.
    pub backoff: Backoff,
    /// Priority of its jobs. Default normal.
    pub priority: Priority,
    /// How long a finished job is kept, in milliseconds on the wire; `None` leaves it to [`crate::broker::Retention`].
    #[serde(rename = "retention_ms")]
    pub retention_ms: Option<u64>,
    /// The largest payload it takes, in bytes. Default 256 KiB.
    pub max_payload: u64,
    /// The largest result it may have, in bytes; `None` in declarations of workers that did not declare it yet. Default: what
    /// the worker is set to.
    #[serde(default)]
    pub max_result: Option<u64>,
    /// What a JSON payload must look like; APIs refuse others. Default: anything goes.
    #[serde(default)]
    pub payload_schema: Option<Schema>,
    /// What a JSON result looks like; the worker fails jobs with others. Default: nothing is promised.
    #[serde(default)]
    pub result_schema: Option<Schema>,
}

impl TaskDescriptor {
    /// The default of [`TaskDescriptor::max_payload`]: room for rich JSON, small enough to keep Redis lean.
    pub const DEFAULT_MAX_PAYLOAD: u64 = 256 * 1024;
    /// No task may take more than this, in bytes: one job must still fit through one function call.
    pub const MAX_PAYLOAD_LIMIT: u64 = 64 * 1024 * 1024;
    /// No task may have larger results than this, in bytes: the same, for the way back.
    pub const MAX_RESULT_LIMIT: u64 = 64 * 1024 * 1024;

    /// A task of that name with every default.
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

    /// A later version's schemas may be beyond this one: what else it says of the task is not lost.
    #[test]
    fn a_schema_that_cannot_be_used_does_not_hide_its_task() {
        let task = TaskDescriptor::new("t".parse().unwrap());
        let mut wire = serde_json::to_value(&task).unwrap();
        wire["payload_schema"] = serde_json::json!({ "type": "text" });
        let read: TaskDescriptor = serde_json::from_str(&wire.to_string()).unwrap();
        assert!(read.payload_schema.unwrap().compile().is_err());
    }
}
