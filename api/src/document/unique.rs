//! What a job is unique by.

use crunch_common::job::{Unique, UniqueMembers};
use serde::Serialize;
use utoipa::ToSchema;

use super::words::{OnConflictWord, UntilWord};

/// What a job is unique by: with neither `key` nor `fields` by its whole payload.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Unique)]
pub(crate) struct UniqueDocument {
    /// Text that the client chose.
    key: Option<String>,
    /// JSON Pointers into the payload.
    fields: Option<Vec<String>>,
    /// Until when it holds its lock; null if that is a time.
    #[schema(value_type = Option<UntilWord>)]
    until: Option<&'static str>,
    /// For how long it holds its lock, in milliseconds from its submission.
    for_ms: Option<u64>,
    /// What happens to another job meanwhile that has the same lock.
    #[schema(value_type = OnConflictWord)]
    on_conflict: &'static str,
    /// How long it may wait after its submission, however often it is replaced.
    max_wait_ms: Option<u64>,
}

impl From<Unique> for UniqueDocument {
    fn from(unique: Unique) -> Self {
        let members = UniqueMembers::from(unique);
        let fields = |fields: Vec<_>| fields.iter().map(ToString::to_string).collect();
        Self {
            key: members.key.map(|key| key.to_string()),
            fields: members.fields.map(fields),
            until: members.until.map(crunch_common::job::UntilWord::as_str),
            for_ms: members.for_ms,
            on_conflict: members.on_conflict.unwrap_or_default().as_str(),
            max_wait_ms: members.max_wait_ms,
        }
    }
}
