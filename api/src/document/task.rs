//! What workers declared about a task.

use crunch_common::broker::WorkerSummary;
use crunch_common::schema::Schema;
use crunch_common::task::TaskDescriptor;
use crunch_common::time::whole_ms;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaType, Type};

use super::unique::UniqueDocument;
use super::words::PriorityWord;
use crate::json;

/// What workers declared about a task.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Task)]
pub(crate) struct TaskDocument {
    name: String,
    queue: String,
    description: String,
    /// Content types of payloads it accepts.
    accepts: Vec<String>,
    /// Content type of its results.
    content_type: String,
    timeout_ms: u64,
    max_attempts: u32,
    /// The delay after a failed attempt.
    backoff: BackoffDocument,
    #[schema(value_type = PriorityWord)]
    priority: String,
    /// Null: 24 hours, failed jobs 30 days.
    retention_ms: Option<u64>,
    /// Within which time a job must start, unless it says otherwise; null: no limit.
    start_within_ms: Option<u64>,
    /// Bytes.
    max_payload: u64,
    /// Bytes; null if a worker of an earlier version declared it.
    max_result: Option<u64>,
    /// JSON Schema of the payload, if declared.
    #[schema(schema_with = any_schema)]
    payload_schema: Option<Box<RawValue>>,
    /// JSON Schema of the result, if declared.
    #[schema(schema_with = any_schema)]
    result_schema: Option<Box<RawValue>>,
    /// Labels in the metadata of its jobs by which `GET /jobs` finds them without looking at others.
    indexes: Vec<String>,
    /// JSON Pointer to the group of a job in its payload, for jobs that name none.
    group: Option<String>,
    /// What its jobs are unique by, unless they say otherwise.
    unique: Option<UniqueDocument>,
    /// How many live workers have it.
    workers: usize,
}

/// Bounds of the delay after a failed attempt: after the n-th it is random between 0 and `base_ms` · 2ⁿ, and never
/// longer than `max_ms`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Backoff)]
pub(crate) struct BackoffDocument {
    base_ms: u64,
    max_ms: u64,
}

impl TaskDocument {
    pub(crate) fn new(task: &TaskDescriptor, workers: &[WorkerSummary]) -> Self {
        let has_it = |worker: &&WorkerSummary| worker.info.tasks.contains(&task.name);
        Self {
            name: task.name.to_string(),
            queue: task.queue.to_string(),
            description: task.description.clone(),
            accepts: task.accepts.iter().map(ToString::to_string).collect(),
            content_type: task.content_type.to_string(),
            timeout_ms: whole_ms(task.timeout),
            max_attempts: task.max_attempts,
            backoff: BackoffDocument {
                base_ms: whole_ms(task.backoff.base),
                max_ms: whole_ms(task.backoff.max),
            },
            priority: task.priority.to_string(),
            retention_ms: task.retention_ms,
            start_within_ms: task.start_within_ms,
            max_payload: task.max_payload,
            max_result: task.max_result,
            payload_schema: task.payload_schema.as_ref().and_then(readable),
            result_schema: task.result_schema.as_ref().and_then(readable),
            indexes: task.indexes.iter().map(str::to_owned).collect(),
            group: task.group.as_ref().map(ToString::to_string),
            unique: task.unique.clone().map(UniqueDocument::from),
            workers: workers.iter().filter(has_it).count(),
        }
    }
}

/// Returns a schema as declared, if every JSON parser can read it: one that this version cannot use may contain
/// anything.
fn readable(schema: &Schema) -> Option<Box<RawValue>> {
    json::readable(schema.as_str().into()).ok()
}

/// A JSON Schema, or null.
fn any_schema() -> Object {
    let types = [Type::Object, Type::Boolean, Type::Null];
    ObjectBuilder::new().schema_type(SchemaType::from_iter(types)).build()
}
