//! The closed lists of words in documents, for the OpenAPI document: what is listed comes from the types that have the
//! words, as far as there are such types.

use std::borrow::Cow;

use crunch_common::broker::{BulkAction, Durability, ScheduleOrigin};
use crunch_common::job::{OnConflict, Priority, Status, UntilWord as UntilEvent};
use crunch_common::schedule::{MissedPolicy, Overlap};
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

/// What operators do, as the log of their actions names it.
pub(crate) const OPERATOR_ACTIONS: [&str; 21] = [
    "cancel",
    "retry",
    "delete",
    "redrive",
    "purge",
    "pause",
    "resume",
    "quiet",
    "stop",
    "set-group-rule",
    "remove-group-rule",
    "set-queue-limit",
    "remove-queue-limit",
    "set-limit",
    "remove-limit",
    "put-schedule",
    "delete-schedule",
    "pause-schedule",
    "resume-schedule",
    "run-schedule",
    "backfill-schedule",
];

/// How jobs with a label are found: by an index, or by a scan.
pub(crate) const SEARCH_WORDS: [&str; 2] = ["index", "scan"];
/// Whether the jobs of a group take turns.
pub(super) const GROUP_STATES: [&str; 4] = ["runnable", "delayed", "blocked", "idle"];
/// Whether a limit lets a job start.
pub(super) const LIMIT_STATES: [&str; 3] = ["open", "delayed", "blocked"];

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
    /// What an operator did.
    OperatorActionWord as "OperatorActionName": OPERATOR_ACTIONS
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
    /// Whether the jobs of a group take turns. `runnable`: they do. `delayed`: its rate allows the next start later.
    /// `blocked`: as many of its jobs run as may. `idle`: none of its jobs wait.
    GroupStateWord as "GroupState": GROUP_STATES
}

words! {
    /// Whether a limit lets a job start now. `open`: it does. `delayed`: its rate allows the next start later. `blocked`: as
    /// many jobs run as may.
    LimitStateWord as "LimitState": LIMIT_STATES
}

words! {
    /// Which missed ticks of a schedule are made up for. `skip`: none. `once`: one job for all of them. `all`: each of them,
    /// within limits.
    MissedWord as "Missed": MissedPolicy::ALL
}

words! {
    /// What becomes of a tick while the job of an earlier one has not ended. `skip`: nothing. `buffer_one`: its job follows when
    /// that one has ended, and further ticks are skipped. `cancel_previous`: that one is canceled. `allow`: both run.
    OverlapWord as "Overlap": Overlap::ALL
}

words! {
    /// Whether a schedule has ticks: it is paused, or has no tick any more.
    ScheduleStatusWord as "ScheduleStatus": ["active", "paused", "ended"]
}

words! {
    /// Where a schedule comes from. `api`: a request. `file`: the `tasks.toml` of a worker.
    ScheduleOriginWord as "ScheduleOrigin": ScheduleOrigin::ALL
}

words! {
    /// How an attempt ended.
    OutcomeWord as "Outcome": [
        "running", "succeeded", "failed", "canceled", "released", "snoozed", "lost", "unheard", "healed",
    ]
}

words! {
    /// Why a result is not in the document. `too_large`: more than 64 KiB; `not_json`: bytes of another type; `not_utf8`,
    /// `too_deep` (more than 64 levels), `lone_surrogate` and `number_out_of_range`: not every JSON parser could read the
    /// document; `list`: lists contain no results; `scope`: the key may not read jobs; `message_size`: the message would have 20 000 bytes or more.
    OmittedWord as "ResultOmitted":
        ["too_large", "not_json"].into_iter().chain(UNREADABLE).chain(["list", "scope", "message_size"])
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

words! {
    /// When a lock is free. `start`: once a worker claims the job for the first time. `end`: once it has ended.
    UntilWord as "Until": UntilEvent::ALL
}

words! {
    /// What happens to a job whose lock another one holds. `existing`: it is answered with that one. `reject`: it is refused.
    /// `replace`: that one, which waits, gets its payload and options. `keep_latest`: the same; and if that one runs, the new
    /// job waits until it has ended, with the payload and options of the latest.
    OnConflictWord as "OnConflict": OnConflict::ALL
}
