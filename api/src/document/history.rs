//! A part of the history.

use std::time::Duration;

use crunch_common::broker::{AttemptSeries, Depth, Ended, History, HistoryQuery, QueueSeries};
use crunch_common::time::{Timestamp, whole_ms};
use serde::Serialize;
use utoipa::ToSchema;

/// How attempts ended and how deep queues were, by minute or by hour. The lists of a series have a number for each of them.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = History)]
pub(crate) struct HistoryDocument {
    /// `minute` or `hour`.
    step: &'static str,
    /// When the first one begins.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// When the last one ends.
    #[schema(value_type = String, format = DateTime)]
    to: Timestamp,
    attempts: Vec<AttemptSeriesDocument>,
    queues: Vec<QueueSeriesDocument>,
}

/// How the attempts of one task in one queue ended. An hour has a hundred of them by name, and all others together.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AttemptSeries)]
pub(crate) struct AttemptSeriesDocument {
    /// Null for all others together.
    queue: Option<String>,
    /// Null for all others together.
    task: Option<String>,
    succeeded: Vec<u64>,
    /// Failures that ended the job.
    failed: Vec<u64>,
    /// Failures after which the job is tried again.
    retried: Vec<u64>,
    canceled: Vec<u64>,
    /// The sum of their durations.
    run_ms: Vec<u64>,
    /// Half of all attempts took no longer; within a factor of two, as are the others. Null without attempts.
    p50_ms: Option<u64>,
    /// Nine of ten took no longer.
    p90_ms: Option<u64>,
    /// Ninety-nine of a hundred took no longer.
    p99_ms: Option<u64>,
}

/// How deep a queue was: in each minute once, of each hour the highest numbers. Null if nothing looked. A hundred queues have
/// a name, and all others are together.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = QueueSeries)]
pub(crate) struct QueueSeriesDocument {
    /// Null for all others together.
    queue: Option<String>,
    queued: Vec<Option<u64>>,
    /// Scheduled, or to be tried again.
    delayed: Vec<Option<u64>>,
    running: Vec<Option<u64>>,
    failed: Vec<Option<u64>>,
    /// Age of the oldest job that could run; null also if there was none.
    oldest_age_ms: Vec<Option<u64>>,
}

impl HistoryDocument {
    pub(crate) fn new(query: &HistoryQuery, history: History) -> Self {
        let end = query.first.saturating_add(query.points as u64);
        Self {
            step: query.unit.as_str(),
            from: query.unit.start(query.first),
            to: query.unit.start(end),
            attempts: history.attempts.into_iter().map(AttemptSeriesDocument::from).collect(),
            queues: history.queues.into_iter().map(QueueSeriesDocument::from).collect(),
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.attempts.is_empty() && self.queues.is_empty()
    }
}

impl From<AttemptSeries> for AttemptSeriesDocument {
    fn from(series: AttemptSeries) -> Self {
        let AttemptSeries { of, points, durations } = series;
        let (queue, task) = of.unzip();
        let each = |count: fn(&Ended) -> u64| points.iter().map(count).collect();
        let quantile = |share| durations.quantile(share).map(whole_ms_up);
        Self {
            queue: queue.map(String::from),
            task: task.map(|task| task.to_string()),
            succeeded: each(|ended| ended.succeeded),
            failed: each(|ended| ended.failed),
            retried: each(|ended| ended.retried),
            canceled: each(|ended| ended.canceled),
            run_ms: each(|ended| ended.run_ms),
            p50_ms: quantile(0.5),
            p90_ms: quantile(0.9),
            p99_ms: quantile(0.99),
        }
    }
}

/// Attempts below a millisecond took one.
fn whole_ms_up(duration: Duration) -> u64 {
    whole_ms(duration).max(1)
}

impl From<QueueSeries> for QueueSeriesDocument {
    fn from(series: QueueSeries) -> Self {
        let each = |count: fn(&Depth) -> Option<u64>| {
            series.points.iter().map(|depth| depth.as_ref().and_then(count)).collect()
        };
        Self {
            queued: each(|depth| Some(depth.queued)),
            delayed: each(|depth| Some(depth.delayed)),
            running: each(|depth| Some(depth.running)),
            failed: each(|depth| Some(depth.failed)),
            oldest_age_ms: each(|depth| depth.oldest_age.map(whole_ms)),
            queue: series.queue.map(String::from),
        }
    }
}
