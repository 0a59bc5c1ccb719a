//! Metrics for Prometheus: every name, and the recorder.
//!
//! Each process counts what it did itself, so that sums over processes are correct. Labels are tasks, queues, statuses
//! and routes, never ids; their values come from clients, so the number of series is limited.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use metrics::{Label, SharedString, Unit};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use parking_lot::Mutex;

/// Jobs accepted by this API, by task and queue.
pub const JOBS_SUBMITTED: &str = "crunch_jobs_submitted_total";
/// Jobs that this process ended, by task, queue and status.
pub const JOBS_FINISHED: &str = "crunch_jobs_finished_total";
/// Attempts that ended in this worker, by task, queue and outcome.
pub const ATTEMPTS: &str = "crunch_attempts_total";
/// Time from the moment a job could run until this worker claimed it.
pub const JOB_WAIT: &str = "crunch_job_wait_seconds";
/// Duration of attempts of this worker.
pub const JOB_RUN: &str = "crunch_job_run_seconds";
/// Outcomes of this worker that were rejected because another attempt held the job.
pub const STALE_SETTLEMENTS: &str = "crunch_stale_settlements_total";
/// Answers and reports of children of servers about attempts that did not run any more.
pub const IGNORED_ANSWERS: &str = "crunch_worker_ignored_answers_total";
/// Leases that this API reclaimed from silent workers.
pub const LEASES_LOST: &str = "crunch_leases_lost_total";
/// Jobs that this process canceled because they did not start in time.
pub const JOBS_EXPIRED: &str = "crunch_jobs_expired_total";
/// Submissions to this API whose lock another job held, by task, queue and what became of them.
pub const SUBMISSIONS_CONFLICTING: &str = "crunch_submissions_conflicting_total";
/// Ticks of schedules that this API handled, by what became of them.
pub const SCHEDULE_TICKS: &str = "crunch_schedule_ticks_total";
/// Slots of this worker.
pub const SLOTS: &str = "crunch_worker_slots";
/// Slots of this worker that run a job.
pub const SLOTS_BUSY: &str = "crunch_worker_slots_busy";
/// Attempts of this process to connect to Redis, by outcome.
pub const REDIS_CONNECTS: &str = "crunch_redis_connects_total";
/// Duration of requests, by method, route and status.
pub const HTTP_REQUESTS: &str = "crunch_http_request_duration_seconds";
/// Clients that wait for a job at this API.
pub const HTTP_WAITING: &str = "crunch_http_waiting";
/// Requests that were rejected because a total of this API was at its limit, by that total.
pub const HTTP_REFUSED: &str = "crunch_http_refused_total";
/// Attempts of this API to deliver webhooks, by outcome.
pub const WEBHOOK_DELIVERIES: &str = "crunch_webhook_deliveries_total";
/// Whether this API can deliver webhooks: its loops that claim and settle deliveries make progress.
pub const WEBHOOKS_UP: &str = "crunch_webhooks_up";
/// Spans of this process that were not exported by OTLP.
pub const SPANS_DROPPED: &str = "crunch_spans_dropped_total";
/// The version of this process.
pub const BUILD: &str = "crunch_build_info";

/// Type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Every name with its kind, unit and description.
const ALL: &[(&str, Kind, Unit, &str)] = &[
    (JOBS_SUBMITTED, Kind::Counter, Unit::Count, "Jobs accepted by this API"),
    (JOBS_FINISHED, Kind::Counter, Unit::Count, "Jobs that this process ended"),
    (ATTEMPTS, Kind::Counter, Unit::Count, "Attempts that ended in this worker"),
    (JOB_WAIT, Kind::Histogram, Unit::Seconds, "Time from the moment a job could run to its claim"),
    (JOB_RUN, Kind::Histogram, Unit::Seconds, "Duration of attempts"),
    (
        STALE_SETTLEMENTS,
        Kind::Counter,
        Unit::Count,
        "Outcomes rejected because another attempt held the job",
    ),
    (
        IGNORED_ANSWERS,
        Kind::Counter,
        Unit::Count,
        "Answers and reports of children of servers about attempts that did not run any more",
    ),
    (
        LEASES_LOST,
        Kind::Counter,
        Unit::Count,
        "Leases reclaimed from silent workers by this process",
    ),
    (
        JOBS_EXPIRED,
        Kind::Counter,
        Unit::Count,
        "Jobs that this process canceled because they did not start in time",
    ),
    (
        SUBMISSIONS_CONFLICTING,
        Kind::Counter,
        Unit::Count,
        "Submissions to this API whose lock another job held",
    ),
    (SCHEDULE_TICKS, Kind::Counter, Unit::Count, "Ticks of schedules that this API handled"),
    (SLOTS, Kind::Gauge, Unit::Count, "Slots of this worker"),
    (SLOTS_BUSY, Kind::Gauge, Unit::Count, "Slots of this worker that run a job"),
    (REDIS_CONNECTS, Kind::Counter, Unit::Count, "Attempts of this process to connect to Redis"),
    (
        HTTP_REQUESTS,
        Kind::Histogram,
        Unit::Seconds,
        "Duration of requests, from request head to response head",
    ),
    (HTTP_WAITING, Kind::Gauge, Unit::Count, "Clients that wait for a job at this API"),
    (
        HTTP_REFUSED,
        Kind::Counter,
        Unit::Count,
        "Requests rejected because a total of this API was at its limit",
    ),
    (WEBHOOK_DELIVERIES, Kind::Counter, Unit::Count, "Attempts of this API to deliver webhooks"),
    (WEBHOOKS_UP, Kind::Gauge, Unit::Count, "Whether this API can deliver webhooks"),
    (SPANS_DROPPED, Kind::Counter, Unit::Count, "Spans of this process that were not exported"),
    (BUILD, Kind::Gauge, Unit::Count, "The version of this process; always 1"),
];

/// Bounds of all histograms: from a fast request to a long job, about three per decade.
const BUCKETS: [f64; 19] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    300.0, 600.0, 1800.0, 3600.0,
];
/// How many pairs of task and queue have their own series; later ones share `other`.
const MAX_PAIRS: usize = 1000;

/// The recorder of this process.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Starts recording. `None` if this process already has another recorder, which then has the metrics.
    #[must_use]
    pub fn start(version: &'static str) -> Option<Self> {
        let recorder = builder().ok()?.build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).ok()?;
        for &(name, kind, unit, help) in ALL {
            match kind {
                Kind::Counter => metrics::describe_counter!(name, unit, help),
                Kind::Gauge => metrics::describe_gauge!(name, unit, help),
                Kind::Histogram => metrics::describe_histogram!(name, unit, help),
            }
        }
        metrics::gauge!(BUILD, "version" => version).set(1.0);
        // Prometheus sees no increase in a counter that begins with its first event.
        for outcome in ["connected", "failed"] {
            metrics::counter!(REDIS_CONNECTS, "outcome" => outcome).increment(0);
        }
        metrics::counter!(SPANS_DROPPED).increment(0);
        metrics::counter!(LEASES_LOST).increment(0);
        metrics::counter!(JOBS_EXPIRED).increment(0);
        Some(Self(handle))
    }

    /// All metrics in the Prometheus text format 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Aggregates the samples since the last call. Call it every few seconds, whether or not metrics are collected:
    /// samples accumulate otherwise.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &BUCKETS)
}

/// Labels of a task, a queue and `more`. Names come from clients, so at most a thousand pairs have their own series.
#[must_use]
pub fn labels(task: &str, queue: &str, more: &[(&'static str, &'static str)]) -> Vec<Label> {
    static KNOWN: LazyLock<Mutex<Pairs>> = LazyLock::new(Mutex::default);
    let mut labels = Vec::with_capacity(2 + more.len());
    // Each change is complete: a panic elsewhere leaves no partial change.
    let pair = KNOWN.lock().labels_of(task, queue);
    labels.extend(pair);
    labels.extend(more.iter().map(|&(name, value)| Label::new(name, value)));
    labels
}

/// The labels of pairs of task and queue, created once per pair, as every job needs them.
#[derive(Default)]
struct Pairs {
    known: HashMap<String, HashMap<String, [Label; 2]>>,
    count: usize,
}

impl Pairs {
    fn labels_of(&mut self, task: &str, queue: &str) -> [Label; 2] {
        if let Some(known) = self.known.get(task).and_then(|queues| queues.get(queue)) {
            return known.clone();
        }
        if self.count == MAX_PAIRS {
            return pair("other", "other");
        }
        self.count += 1;
        let labels = pair(task, queue);
        self.known.entry(task.to_owned()).or_default().insert(queue.to_owned(), labels.clone());
        labels
    }
}

fn pair(task: &str, queue: &str) -> [Label; 2] {
    let shared = |text: &str| SharedString::from_shared(Arc::from(text));
    [Label::new("task", shared(task)), Label::new("queue", shared(queue))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_contain_unit_and_kind() {
        for (name, kind, unit, help) in ALL {
            assert!(name.starts_with("crunch_") && !help.ends_with('.'), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert_eq!(name.ends_with("_seconds"), *unit == Unit::Seconds, "{name}");
        }
    }

    #[test]
    fn so_many_names_have_series_of_their_own() {
        let queue =
            |number: usize| labels("t", &format!("q{number}"), &[("a", "b")])[1].value().to_owned();
        assert_eq!(
            (0..2 * MAX_PAIRS).filter(|&number| queue(number) != "other").count(),
            MAX_PAIRS
        );
        assert_eq!((queue(1).as_str(), queue(2 * MAX_PAIRS).as_str()), ("q1", "other"));
    }
}
