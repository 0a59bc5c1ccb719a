//! The names of options: members of `POST /jobs`, query parameters of the other submissions.

use crate::prefer::WAIT;

/// Every name that [`super::Options::set`] knows.
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

/// Every member of an envelope.
pub(super) fn members() -> impl Iterator<Item = &'static str> {
    ["task", "payload"].into_iter().chain(NAMES)
}

/// Every query parameter of a submission.
pub(super) fn parameters() -> impl Iterator<Item = &'static str> {
    let scalar = NAMES.into_iter().filter(|name| !["metadata", "webhook"].contains(name));
    scalar.chain(["metadata.<key>", "webhook.url", "webhook.events", WAIT])
}
