//! The enums of the documents, for the OpenAPI document. Nothing is parsed into these types; tests compare them with
//! the real ones.

use utoipa::ToSchema;

/// The state of a job.
#[derive(ToSchema)]
#[schema(as = Status)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) enum StatusWord {
    Scheduled,
    Queued,
    Running,
    Retrying,
    Succeeded,
    Failed,
    Canceled,
}

/// Jobs of a higher priority are claimed first within a queue.
#[derive(ToSchema)]
#[schema(as = Priority)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) enum PriorityWord {
    Low,
    Normal,
    High,
    Urgent,
}

/// How an attempt ended.
#[derive(ToSchema)]
#[schema(as = Outcome)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) enum OutcomeWord {
    Running,
    Succeeded,
    Failed,
    Canceled,
    Released,
    Lost,
    Unheard,
    Healed,
}

/// Why a result is not in the document. `too_large`: more than 64 KiB; `not_json`: bytes of another type; `not_utf8`,
/// `too_deep` (more than 64 levels), `lone_surrogate` and `number_out_of_range`: not every JSON parser could read the
/// document; `list`: lists contain no results; `message_size`: the message would have 20 000 bytes or more.
#[derive(ToSchema)]
#[schema(as = ResultOmitted)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) enum OmittedWord {
    TooLarge,
    NotJson,
    NotUtf8,
    TooDeep,
    LoneSurrogate,
    NumberOutOfRange,
    List,
    MessageSize,
}

/// How durable a submission is before it is answered.
#[derive(ToSchema)]
#[schema(as = Durability)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) enum DurabilityWord {
    Memory,
    Fsync,
    Replica,
    #[serde(rename = "fsync,replica")]
    FsyncReplica,
}

/// The ends of a job that a webhook reports.
#[derive(ToSchema)]
#[schema(as = WebhookEvent)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) enum WebhookEventWord {
    #[serde(rename = "job.succeeded")]
    Succeeded,
    #[serde(rename = "job.failed")]
    Failed,
    #[serde(rename = "job.canceled")]
    Canceled,
}

/// The kinds of events of a job.
#[derive(ToSchema)]
#[schema(as = EventName)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) enum EventWord {
    Status,
    Progress,
    Log,
    Done,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crunch_common::broker::Durability;
    use crunch_common::job::{Priority, Status};
    use utoipa::PartialSchema;

    use super::*;

    fn listed<T: PartialSchema>() -> BTreeSet<String> {
        let schema = serde_json::to_value(T::schema()).unwrap();
        let words = schema["enum"].as_array().unwrap().iter();
        words.map(|word| word.as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn every_word_is_listed_and_no_other() {
        let statuses = Status::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(listed::<StatusWord>(), statuses);
        let priorities = Priority::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(listed::<PriorityWord>(), priorities);
        for word in listed::<DurabilityWord>() {
            assert_eq!(word.parse::<Durability>().unwrap().to_string(), word);
        }
    }
}
