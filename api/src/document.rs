//! The JSON documents of answers. All members are always present, `null` when unknown.

mod attempt;
mod error_group;
mod failures;
mod group;
mod history;
mod job;
mod log;
mod node;
mod queue;
pub(crate) mod schedule;
mod summary;
mod task;
mod unique;
pub(crate) mod words;
mod worker;

use actix_web::HttpResponse;
use actix_web::http::header;
use serde::Serialize;
use utoipa::ToSchema;

pub(crate) use self::attempt::AttemptDocument;
pub(crate) use self::error_group::ErrorGroupDocument;
pub(crate) use self::failures::{FailureCount, FailureCounts, KindDocument, most_failed};
pub(crate) use self::group::{
    GroupPageDocument, LimitDocument, RemovedLimitDocument, RuleDocument, SharedLimitDocument,
};
pub(crate) use self::history::HistoryDocument;
pub(crate) use self::job::{JobDocument, JobPage, SearchDocument};
pub(crate) use self::log::{LogDocument, LogPage};
pub(crate) use self::node::NodeDocument;
pub(crate) use self::queue::{PurgeReport, QueueCounts, QueueDocument};
pub(crate) use self::schedule::{ScheduleDocument, SchedulePage};
pub(crate) use self::summary::{Summary, SummaryDocument, ValueDocument};
pub(crate) use self::task::TaskDocument;
pub(crate) use self::worker::{WorkerDocument, WorkerKind};

/// A list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Items<T> {
    pub(crate) items: Vec<T>,
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    /// Pass it as `cursor` for the next page; null at the end.
    pub(crate) next_cursor: Option<String>,
}

/// How many jobs an operation changed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Count {
    pub(crate) count: u64,
}

/// 204: what was to be removed is not there any more.
pub(crate) fn removed() -> HttpResponse {
    HttpResponse::NoContent().insert_header((header::CACHE_CONTROL, "no-store")).finish()
}

/// 200 with a document that must not be stored.
pub(crate) fn ok(document: &impl Serialize) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(document)
}
