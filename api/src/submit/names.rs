//! The names of options: members of `POST /jobs`, query parameters of the other submissions.

use crate::prefer::WAIT;

/// All names that [`super::Options::set`] accepts.
pub(super) const NAMES: [&str; 12] = [
    "queue",
    "priority",
    "delay_ms",
    "run_at",
    "timeout_ms",
    "deadline_ms",
    "max_attempts",
    "retention_ms",
    "durability",
    "idempotency_key",
    "metadata",
    "webhook",
];

/// Returns all members of an envelope.
pub(super) fn members() -> impl Iterator<Item = &'static str> {
    ["task", "payload"].into_iter().chain(NAMES)
}

/// Returns all query parameters of a submission.
pub(super) fn parameters() -> impl Iterator<Item = &'static str> {
    let scalar = NAMES.into_iter().filter(|name| !["metadata", "webhook"].contains(name));
    scalar.chain(["metadata.<key>", "webhook.url", "webhook.events", WAIT])
}
