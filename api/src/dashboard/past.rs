//! The last hour, minute by minute, for charts: read at most every ten seconds, however many pages show it.

use std::sync::Arc;
use std::time::Duration;

use crunch_common::broker::{
    AttemptSeries, Broker, Depth, Durations, Ended, Error, History, HistoryQuery, QueueSeries, Unit,
};
use crunch_common::queue::QueueName;
use crunch_common::task::TaskName;
use crunch_common::time::Timestamp;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::chart::{self, Histogram, Series, TimeChart, Tone, sparkline};
use super::text;
use super::viewer::Viewer;

const MINUTES: usize = 60;
const HOURS: u64 = 24;
/// A minute that is not over grows while heartbeats arrive, every few seconds.
const FRESH: Duration = Duration::from_secs(10);

/// The last hour as it was read last.
#[derive(Debug, Default)]
pub(super) struct LastHour(Mutex<Option<(Instant, Arc<Hour>)>>);

impl LastHour {
    /// # Errors
    /// If Redis is unavailable.
    pub(super) async fn get(&self, broker: &Broker) -> Result<Arc<Hour>, Error> {
        let mut last = self.0.lock().await;
        if let Some((at, hour)) = &*last
            && at.elapsed() < FRESH
        {
            return Ok(hour.clone());
        }
        let hour = Arc::new(Hour::read(broker).await?);
        *last = Some((Instant::now(), hour.clone()));
        Ok(hour)
    }
}

/// Sixty minutes, the current one included.
#[derive(Debug)]
pub(super) struct Hour {
    start: Timestamp,
    history: History,
}

/// Which attempts a chart is about; of those that the viewer may see.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Of<'a> {
    pub(super) queue: Option<&'a QueueName>,
    pub(super) task: Option<&'a TaskName>,
}

impl Hour {
    async fn read(broker: &Broker) -> Result<Self, Error> {
        let unit = Unit::Minute;
        let first = unit.number(Timestamp::now()).saturating_sub(MINUTES as u64 - 1);
        let query =
            HistoryQuery { unit, first, points: MINUTES, among: None, queue: None, task: None };
        let history = broker.history(&query).await?;
        Ok(Self { start: unit.start(first), history })
    }

    /// Draws how many attempts ended in each minute, and how; nothing if there were none.
    pub(super) fn attempts(&self, viewer: &Viewer, of: Of<'_>) -> askama::Result<Option<String>> {
        let all: Vec<_> = self.attempts_of(viewer, of).collect();
        let counts = |name: &str, tone, count: fn(&Ended) -> u64| {
            let minute = |at: usize| all.iter().map(|series| count(&series.points[at])).sum();
            let minutes = (0..MINUTES).map(|at| Some(whole(minute(at))));
            Series { name: name.to_owned(), tone, values: minutes.collect() }
        };
        let series = vec![
            counts("succeeded", Tone::Good, |ended| ended.succeeded),
            counts("retried", Tone::Warn, |ended| ended.retried),
            counts("failed", Tone::Bad, |ended| ended.failed),
            counts("canceled", Tone::Idle, |ended| ended.canceled),
        ];
        if all.iter().flat_map(|series| &series.points).all(|ended| ended.attempts() == 0) {
            return Ok(None);
        }
        self.chart("attempts", "Attempts that ended, by minute", series).stacked().map(Some)
    }

    /// Draws how deep a queue was in each minute; nothing if nobody looked.
    pub(super) fn depth(&self, queue: &QueueName) -> askama::Result<Option<String>> {
        let Some(found) = self.depths_of(queue) else { return Ok(None) };
        let counts = |name: &str, tone, count: fn(&Depth) -> u64| {
            let minutes = found.points.iter().map(|depth| depth.as_ref().map(count).map(whole));
            Series { name: name.to_owned(), tone, values: minutes.collect() }
        };
        let series = vec![
            counts("queued", Tone::Idle, |depth| depth.queued),
            counts("running", Tone::Busy, |depth| depth.running),
        ];
        self.chart("depth", "Jobs in the queue, by minute", series).lines().map(Some)
    }

    /// Draws for how long the oldest job that could run had waited; nothing if none ever did.
    pub(super) fn oldest(&self, queue: &QueueName) -> askama::Result<Option<String>> {
        let Some(found) = self.depths_of(queue) else { return Ok(None) };
        let age = |depth: &Depth| depth.oldest_age.unwrap_or_default().as_secs_f64();
        let ages: Vec<_> = found.points.iter().map(|depth| depth.as_ref().map(age)).collect();
        if ages.iter().flatten().all(|age| *age == 0.0) {
            return Ok(None);
        }
        let series = vec![Series { name: "oldest".to_owned(), tone: Tone::Warn, values: ages }];
        let chart = self.chart("oldest", "How long the oldest job has waited, by minute", series);
        TimeChart { unit: chart::Unit::Seconds, ..chart }.lines().map(Some)
    }

    /// Draws how many jobs were queued, as a small line.
    pub(super) fn queued(&self, queue: &QueueName) -> askama::Result<String> {
        let points = self.depths_of(queue).map(|found| found.points.as_slice()).unwrap_or_default();
        let minutes = points.iter().map(|depth| depth.map(|depth| whole(depth.queued)));
        let minutes: Vec<_> = minutes.collect();
        sparkline("Queued in the last hour", chart::Unit::Count, Tone::Busy, &minutes)
    }

    /// Returns how long attempts took; `None` without attempts.
    pub(super) fn durations(&self, viewer: &Viewer, of: Of<'_>) -> Option<Took> {
        let mut durations = Durations::default();
        self.attempts_of(viewer, of).for_each(|series| durations.merge(&series.durations));
        let quantile = |share| durations.quantile(share).map(text::span);
        Some(Took { p50: quantile(0.5)?, p90: quantile(0.9)?, p99: quantile(0.99)?, durations })
    }

    fn attempts_of<'a>(
        &'a self,
        viewer: &'a Viewer,
        of: Of<'a>,
    ) -> impl Iterator<Item = &'a AttemptSeries> {
        self.history.attempts.iter().filter(move |series| match &series.of {
            Some((queue, task)) => {
                viewer.caller.may_use(queue)
                    && of.queue.is_none_or(|it| it == queue)
                    && of.task.is_none_or(|it| it == task)
            }
            // Those beyond the first hundred series.
            None => viewer.caller.queues().is_none() && of.queue.is_none() && of.task.is_none(),
        })
    }

    fn depths_of(&self, queue: &QueueName) -> Option<&QueueSeries> {
        self.history.queues.iter().find(|series| series.queue.as_ref() == Some(queue))
    }

    fn chart(&self, id: &'static str, title: &str, series: Vec<Series>) -> TimeChart {
        TimeChart {
            id,
            title: title.to_owned(),
            unit: chart::Unit::Count,
            start: self.start,
            step: Unit::Minute.length(),
            series,
        }
    }
}

/// The attempts of a task that ended in an hour, and how long they took.
pub(super) struct HourOfTask {
    pub(super) start: Timestamp,
    pub(super) attempts: u64,
    pub(super) p50: String,
    pub(super) p99: String,
}

/// Returns the hours of the last day in which attempts of a task ended, the newest first.
///
/// # Errors
/// If Redis is unavailable.
pub(super) async fn last_day(
    broker: &Broker,
    viewer: &Viewer,
    task: &TaskName,
) -> Result<Vec<HourOfTask>, Error> {
    let unit = Unit::Hour;
    let first = unit.number(Timestamp::now()).saturating_sub(HOURS - 1);
    let (among, task) = (viewer.caller.queues().cloned(), Some(task.clone()));
    let query = HistoryQuery { unit, first, points: HOURS as usize, among, queue: None, task };
    let hours = (first..).zip(broker.durations(&query).await?);
    let hour = |(number, durations): (u64, Durations)| {
        Some(HourOfTask {
            start: unit.start(number),
            attempts: durations.counts().map(|(_, count)| count).sum(),
            p50: durations.quantile(0.5).map(text::span)?,
            p99: durations.quantile(0.99).map(text::span)?,
        })
    };
    let mut hours: Vec<_> = hours.filter_map(hour).collect();
    hours.reverse();
    Ok(hours)
}

/// How long attempts took.
pub(super) struct Took {
    pub(super) p50: String,
    pub(super) p90: String,
    pub(super) p99: String,
    durations: Durations,
}

impl Took {
    /// Draws how many took how long.
    pub(super) fn chart(&self) -> askama::Result<String> {
        let used: Vec<_> = self.durations.counts().collect();
        let first = used.iter().position(|(_, count)| *count > 0).unwrap_or(0);
        let last = used.iter().rposition(|(_, count)| *count > 0).unwrap_or(0);
        let range = |(most, count): &(Duration, u64)| (format!("to {}", text::span(*most)), *count);
        Histogram {
            id: "durations",
            title: "How long attempts took".to_owned(),
            counted: "attempts".to_owned(),
            tone: Tone::Busy,
            ranges: used[first..=last].iter().map(range).collect(),
        }
        .bars()
    }
}

/// A count as a chart draws it.
fn whole(count: u64) -> f64 {
    count as f64
}
