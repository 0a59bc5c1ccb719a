//! The names of options: members of `POST /jobs`, query parameters of the other submissions.

use crate::prefer::WAIT;

/// All names that [`super::Options::set`] accepts.
pub(super) const NAMES: [&str; 15] = [
    "queue",
    "priority",
    "group",
    "unique",
    "delay_ms",
    "run_at",
    "timeout_ms",
    "deadline_ms",
    "start_within_ms",
    "max_attempts",
    "retention_ms",
    "durability",
    "idempotency_key",
    "metadata",
    "webhook",
];

/// The members of `unique`, as they are called in a query.
pub(super) const UNIQUE: [&str; 6] = [
    "unique.key",
    "unique.fields",
    "unique.until",
    "unique.for_ms",
    "unique.on_conflict",
    "unique.max_wait_ms",
];

/// Returns all members of an envelope.
pub(super) fn members() -> impl Iterator<Item = &'static str> {
    ["task", "payload"].into_iter().chain(NAMES)
}

/// Returns all query parameters of a submission.
pub(super) fn parameters() -> impl Iterator<Item = &'static str> {
    let is_scalar = |name: &&str| !["metadata", "webhook", "unique"].contains(name);
    let parts = ["metadata.<key>", "webhook.url", "webhook.events"];
    NAMES.into_iter().filter(is_scalar).chain(parts).chain(UNIQUE).chain([WAIT])
}
