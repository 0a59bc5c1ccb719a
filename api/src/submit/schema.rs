//! What a submission may say, for the OpenAPI document. Nothing is read into these: `Options` and `Envelope` read, and a
//! test holds the names together.

use std::collections::BTreeMap;

use utoipa::{IntoParams, ToSchema};

use crate::document::words::{DurabilityWord, PriorityWord, WebhookEventWord};

/// Everything that may be said beside a payload; what is left out is up to the task.
#[derive(ToSchema, IntoParams)]
#[into_params(parameter_in = Query)]
#[schema(as = Options)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct OptionsSchema {
    /// Where it waits. Default: the task's queue.
    #[schema(max_length = 64, pattern = "^[a-z0-9][a-z0-9_.-]*$")]
    #[param(max_length = 64, pattern = "^[a-z0-9][a-z0-9_.-]*$")]
    queue: Option<String>,
    /// Higher first within a queue. Default: the task's.
    #[schema(value_type = Option<PriorityWord>)]
    #[param(value_type = Option<PriorityWord>)]
    priority: Option<String>,
    /// Milliseconds to wait before it may start.
    #[schema(maximum = 31_622_400_000u64)]
    #[param(maximum = 31_622_400_000u64)]
    delay_ms: Option<u64>,
    /// When it may start (RFC 3339). Not beside `delay_ms`.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[param(value_type = Option<String>, format = DateTime)]
    run_at: Option<String>,
    /// How long one attempt may take, in milliseconds.
    #[schema(minimum = 1, maximum = 31_622_400_000u64)]
    #[param(minimum = 1, maximum = 31_622_400_000u64)]
    timeout_ms: Option<u64>,
    /// How long after its submission it is still wanted, in milliseconds.
    #[schema(minimum = 1, maximum = 31_622_400_000u64)]
    #[param(minimum = 1, maximum = 31_622_400_000u64)]
    deadline_ms: Option<u64>,
    /// How many attempts may be charged, the first included.
    #[schema(minimum = 1, maximum = 100)]
    #[param(minimum = 1, maximum = 100)]
    max_attempts: Option<u32>,
    /// How long it is kept once it has ended, in milliseconds.
    #[schema(maximum = 31_622_400_000u64)]
    #[param(maximum = 31_622_400_000u64)]
    retention_ms: Option<u64>,
    /// What it must be safe from before it is answered. Adds to what the deployment asks for.
    #[schema(value_type = Option<DurabilityWord>)]
    #[param(value_type = Option<DurabilityWord>)]
    durability: Option<String>,
    /// The same key again answers with the same job for 24 hours.
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
    /// Any JSON; kept byte by byte. Default null.
    payload: Option<serde_json::Value>,
    #[schema(inline)]
    #[serde(flatten)]
    options: OptionsSchema,
    /// At most 32 labels with values of at most 1 KiB; numbers and booleans are kept as their text. In a query:
    /// `metadata.<key>=<value>`.
    metadata: Option<BTreeMap<String, Label>>,
    webhook: Option<WebhookSchema>,
}

/// Text; a number or a boolean is kept as its text.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its description is used")]
enum Label {
    Text(String),
    Number(f64),
    Flag(bool),
}

/// Whom to tell of the job's end. In a query: `webhook.url=…&webhook.events=…,…`.
#[derive(ToSchema)]
#[schema(as = Webhook)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct WebhookSchema {
    /// Absolute, http or https; gets a POST, signed as Standard Webhooks says.
    #[schema(max_length = 2048, format = "uri")]
    url: String,
    /// Each once. Default: all of them.
    #[schema(value_type = Option<Vec<WebhookEventWord>>, min_items = 1, max_items = 3)]
    events: Option<Vec<String>>,
}

/// Many submissions.
#[derive(ToSchema)]
#[schema(as = Batch)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct BatchSchema {
    /// Each for itself.
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
        // These have names of their own in a query.
        let not_described = ["metadata", "webhook"];
        let read = NAMES.into_iter().filter(|name| !not_described.contains(name));
        assert_eq!(described, read.collect());
    }
}
