//! The closed lists of words in documents, for the OpenAPI document: what is listed comes from the types that have the
//! words, as far as there are such types.

use std::borrow::Cow;

use crunch_common::broker::{BulkAction, Durability};
use crunch_common::job::{Priority, Status};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::json::UNREADABLE;
use crate::webhook::event;

/// Declares a type that stands for one of some words; its comment is their description.
macro_rules! words {
    ($(#[doc = $line:literal])+ $type:ident as $name:literal: $words:expr) => {
        $(#[doc = $line])+
        pub(crate) enum $type {}

        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                schema_of(&[$($line),+], $words)
            }
        }

        impl ToSchema for $type {
            fn name() -> Cow<'static, str> {
                $name.into()
            }
        }
    };
}

/// How jobs with a label are found: by an index, or by a scan.
pub(crate) const SEARCH_WORDS: [&str; 2] = ["index", "scan"];

fn schema_of(comment: &[&str], words: impl IntoIterator<Item = impl ToString>) -> RefOr<Schema> {
    let lines: Vec<_> = comment.iter().map(|line| line.trim()).collect();
    let words = words.into_iter().map(|word| word.to_string());
    let object = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words));
    object.description(Some(lines.join("\n"))).into()
}

words! {
    /// The state of a job.
    StatusWord as "Status": Status::ALL
}

words! {
    /// How jobs with a label are found. `index`: those whose task declared the label as indexed when they were submitted,
    /// the newest first. `scan`: all jobs are looked at, some of them for each page.
    SearchWord as "SearchBy": SEARCH_WORDS
}

words! {
    /// What to do with many jobs.
    ActionWord as "Action": BulkAction::ALL
}

words! {
    /// Jobs of a higher priority are claimed first within a queue.
    PriorityWord as "Priority": Priority::ALL.into_iter().rev()
}

words! {
    /// How an attempt ended.
    OutcomeWord as "Outcome": [
        "running", "succeeded", "failed", "canceled", "released", "lost", "unheard", "healed",
    ]
}

words! {
    /// Why a result is not in the document. `too_large`: more than 64 KiB; `not_json`: bytes of another type; `not_utf8`,
    /// `too_deep` (more than 64 levels), `lone_surrogate` and `number_out_of_range`: not every JSON parser could read the
    /// document; `list`: lists contain no results; `message_size`: the message would have 20 000 bytes or more.
    OmittedWord as "ResultOmitted":
        ["too_large", "not_json"].into_iter().chain(UNREADABLE).chain(["list", "message_size"])
}

words! {
    /// How durable a submission is before it is answered.
    DurabilityWord as "Durability": Durability::ALL
}

words! {
    /// The ends of a job that a webhook reports.
    WebhookEventWord as "WebhookEvent":
        Status::ALL.into_iter().filter(|status| status.is_terminal()).map(event)
}

words! {
    /// The kinds of events of a job.
    EventWord as "EventName": ["status", "progress", "log", "done"]
}
