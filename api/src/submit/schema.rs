//! The schema of submissions, for the OpenAPI document. Nothing is parsed into these types: `Options` and `Envelope`
//! parse, and a test compares the names.

use std::collections::BTreeMap;

use utoipa::{IntoParams, ToSchema};

use crate::document::words::{
    DurabilityWord, OnConflictWord, PriorityWord, UntilWord, WebhookEventWord,
};

/// The options of a submission; the task decides those left out.
#[derive(ToSchema, IntoParams)]
#[into_params(parameter_in = Query)]
#[schema(as = Options)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct OptionsSchema {
    /// The queue it waits in. Default: the task's queue.
    #[schema(max_length = 64, pattern = "^[a-z0-9][a-z0-9_.-]*$")]
    #[param(max_length = 64, pattern = "^[a-z0-9][a-z0-9_.-]*$")]
    queue: Option<String>,
    /// Jobs of a higher priority run first within a queue. Default: the task's priority.
    #[schema(value_type = Option<PriorityWord>)]
    #[param(value_type = Option<PriorityWord>)]
    priority: Option<String>,
    /// The group in whose turns it is claimed, such as a customer: the groups of a queue take turns, so that one with many
    /// jobs delays no other. Default: the task's, or none.
    #[schema(min_length = 1, max_length = 128, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    #[param(min_length = 1, max_length = 128, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    group: Option<String>,
    /// Milliseconds to wait before it may start.
    #[schema(maximum = 31_622_400_000u64)]
    #[param(maximum = 31_622_400_000u64)]
    delay_ms: Option<u64>,
    /// When it may start (RFC 3339). Not together with `delay_ms`.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[param(value_type = Option<String>, format = DateTime)]
    run_at: Option<String>,
    /// Time limit of one attempt, in milliseconds.
    #[schema(minimum = 1, maximum = 31_622_400_000u64)]
    #[param(minimum = 1, maximum = 31_622_400_000u64)]
    timeout_ms: Option<u64>,
    /// How long after its submission the job is useful, in milliseconds; then it fails.
    #[schema(minimum = 1, maximum = 31_622_400_000u64)]
    #[param(minimum = 1, maximum = 31_622_400_000u64)]
    deadline_ms: Option<u64>,
    /// Within which time it must start, in milliseconds, from its submission or from the end of its delay; otherwise it is
    /// canceled. Default: the task's, or no limit.
    #[schema(minimum = 1, maximum = 31_622_400_000u64)]
    #[param(minimum = 1, maximum = 31_622_400_000u64)]
    start_within_ms: Option<u64>,
    /// How many attempts may be charged, the first included.
    #[schema(minimum = 1, maximum = 100)]
    #[param(minimum = 1, maximum = 100)]
    max_attempts: Option<u32>,
    /// How long it is kept once it has ended, in milliseconds.
    #[schema(maximum = 31_622_400_000u64)]
    #[param(maximum = 31_622_400_000u64)]
    retention_ms: Option<u64>,
    /// How durable the job must be before it is answered. Adds to what the deployment requires.
    #[schema(value_type = Option<DurabilityWord>)]
    #[param(value_type = Option<DurabilityWord>)]
    durability: Option<String>,
    /// A repeated request with the same key is answered with the same job for 24 hours.
    #[schema(min_length = 1, max_length = 255, pattern = "^[!-~]+$")]
    #[param(min_length = 1, max_length = 255, pattern = "^[!-~]+$")]
    idempotency_key: Option<String>,
}

/// A submission that names its task.
#[derive(ToSchema)]
#[schema(as = Submission)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct EnvelopeSchema {
    #[schema(max_length = 64, pattern = "^[a-z0-9][a-z0-9_.-]*$")]
    task: String,
    /// Any JSON; stored byte by byte. Default null.
    payload: Option<serde_json::Value>,
    #[schema(inline)]
    #[serde(flatten)]
    options: OptionsSchema,
    /// At most 32 labels with values of at most 1 KiB; numbers and booleans are stored as their text. In a query:
    /// `metadata.<key>=<value>`.
    metadata: Option<BTreeMap<String, Label>>,
    webhook: Option<WebhookSchema>,
    unique: Option<UniqueSchema>,
}

/// Text; a number or a boolean is stored as its text.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its description is used")]
enum Label {
    Text(String),
    Number(f64),
    Flag(bool),
}

/// The receiver of a message when the job ends. In a query: `webhook.url=…&webhook.events=…,…`.
#[derive(ToSchema)]
#[schema(as = Webhook)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct WebhookSchema {
    /// Absolute, http or https; receives a POST, signed as Standard Webhooks specifies.
    #[schema(max_length = 2048, format = "uri")]
    url: String,
    /// The events to send, each at most once. Default: all of them.
    #[schema(value_type = Option<Vec<WebhookEventWord>>, min_items = 1, max_items = 3)]
    events: Option<Vec<String>>,
}

/// What the job is unique by: while it holds its lock, another job of the same task, queue and group that is unique by the same
/// is not simply added. With neither `key` nor `fields` by its whole payload. In a query: `unique.key=…`, and so on.
#[derive(ToSchema)]
#[schema(as = UniqueRequest)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct UniqueSchema {
    /// Text that the client chooses.
    #[schema(min_length = 1, max_length = 255, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    key: Option<String>,
    /// JSON Pointers into the payload: jobs are the same if all of these values are. Values are compared in their canonical
    /// form (RFC 8785); what is missing is null.
    #[schema(min_items = 1, max_items = 16)]
    fields: Option<Vec<String>>,
    /// Until when the lock is held. Default `end`; with `replace` always `start`.
    #[schema(value_type = Option<UntilWord>)]
    until: Option<String>,
    /// For how long the lock is held instead, in milliseconds from the submission.
    #[schema(minimum = 1, maximum = 31_622_400_000u64)]
    for_ms: Option<u64>,
    /// What happens to a job whose lock another one holds. Default `existing`.
    #[schema(value_type = Option<OnConflictWord>)]
    on_conflict: Option<String>,
    /// With `replace`, and needed with a delay: how long the job may wait after its submission, however often it is replaced.
    #[schema(minimum = 1, maximum = 31_622_400_000u64)]
    max_wait_ms: Option<u64>,
}

/// Many submissions.
#[derive(ToSchema)]
#[schema(as = Batch)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct BatchSchema {
    /// Independent of each other.
    #[schema(min_items = 1, max_items = 1000)]
    jobs: Vec<EnvelopeSchema>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::submit::names::NAMES;

    #[test]
    fn the_described_options_are_those_that_are_read() {
        let described = OptionsSchema::into_params(|| None);
        let described: BTreeSet<_> = described.iter().map(|it| it.name.as_str()).collect();
        // These have other names in a query.
        let not_described = ["metadata", "webhook", "unique"];
        let read = NAMES.into_iter().filter(|name| !not_described.contains(name));
        assert_eq!(described, read.collect());
    }
}
