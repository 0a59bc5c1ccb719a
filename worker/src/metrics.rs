//! The metrics of a worker.

use std::time::Duration;

use crunch_common::broker::{ClaimedJob, Settlement};
use crunch_common::telemetry::metrics::{
    ATTEMPTS, IGNORED_ANSWERS, JOB_RUN, JOB_WAIT, JOBS_FINISHED, SLOTS, SLOTS_BUSY,
    STALE_SETTLEMENTS, labels,
};
use crunch_consumer::SlotGauges;

/// Creates the counters whose labels are known: Prometheus sees no increase in a counter that begins with its first event.
pub(crate) fn start_at_zero() {
    metrics::counter!(STALE_SETTLEMENTS).increment(0);
    metrics::counter!(IGNORED_ANSWERS).increment(0);
}

/// Records a claimed job that is about to run.
pub(crate) fn claimed(job: &ClaimedJob) {
    let waited = job.due_at.until(job.claimed_at);
    metrics::histogram!(JOB_WAIT, of(job, &[])).record(waited.as_secs_f64());
}

/// Records the end of an attempt; without a settlement its lease was lost.
pub(crate) fn ended(job: &ClaimedJob, settlement: Option<&Settlement>, took: Duration) {
    let outcome = settlement.map_or("lost", Settlement::word);
    metrics::counter!(ATTEMPTS, of(job, &[("outcome", outcome)])).increment(1);
    metrics::histogram!(JOB_RUN, of(job, &[("outcome", outcome)])).record(took.as_secs_f64());
    if ["succeeded", "failed", "canceled"].contains(&outcome) {
        metrics::counter!(JOBS_FINISHED, of(job, &[("status", outcome)])).increment(1);
    }
}

fn of(job: &ClaimedJob, more: &[(&'static str, &'static str)]) -> Vec<metrics::Label> {
    labels(job.task.as_str(), job.queue.as_str(), more)
}

/// Counts an outcome that was rejected: another attempt holds the job.
pub(crate) fn stale() {
    metrics::counter!(STALE_SETTLEMENTS).increment(1);
}

/// Returns the gauges of the slots.
pub(crate) fn slots() -> SlotGauges {
    SlotGauges { all: metrics::gauge!(SLOTS), busy: metrics::gauge!(SLOTS_BUSY) }
}
