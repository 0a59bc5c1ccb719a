//! Charts over time: lines and stacked areas.

use std::time::Duration;

use askama::Template;
use crunch_common::time::{Timestamp, whole_ms};

use super::axis::{Ticks, Unit, clock, ticks, time_ticks};
use super::shape::{Shape, shapes, stack};
use super::{BOTTOM, Drawn, MAX_POINTS, Series, TOP, percent};

/// A chart over time.
#[derive(Debug, Clone)]
pub(crate) struct TimeChart {
    /// Identifies the chart on its page.
    pub(crate) id: &'static str,
    pub(crate) title: String,
    pub(crate) unit: Unit,
    /// The beginning of the first interval.
    pub(crate) start: Timestamp,
    /// The length of an interval.
    pub(crate) step: Duration,
    pub(crate) series: Vec<Series>,
}

impl TimeChart {
    /// One line for each series.
    pub(crate) fn lines(&self) -> askama::Result<String> {
        self.render(false)
    }

    /// The series on top of each other, the first at the bottom.
    pub(crate) fn stacked(&self) -> askama::Result<String> {
        self.render(true)
    }

    fn render(&self, stacked: bool) -> askama::Result<String> {
        let count = self.series.iter().map(|it| it.values.len()).max().unwrap_or(0);
        let first = count.saturating_sub(MAX_POINTS);
        let series: Vec<Drawn<'_>> =
            self.series.iter().map(|it| Drawn::new(it, first, count)).collect();
        let mut heights: Vec<_> = series.iter().map(|it| it.values.clone()).collect();
        if stacked {
            stack(&mut heights);
        }
        let highest = heights.iter().flatten().flatten().fold(0.0, |a: f64, b| a.max(*b));
        let scale = ticks(highest, self.unit);
        let start = later(self.start, self.step, first);
        let end = later(start, self.step, count - first);
        let shapes = shapes(&heights, stacked, scale.max);
        let times = (0..count - first).map(|at| later(start, self.step, at)).collect();
        let time_ticks = time_ticks(start, end);
        TimeView { chart: self, series, shapes, scale, start, end, times, time_ticks }.render()
    }
}

#[derive(Template)]
#[template(path = "dashboard/chart/time.html")]
struct TimeView<'a> {
    chart: &'a TimeChart,
    series: Vec<Drawn<'a>>,
    /// Of each series.
    shapes: Vec<Shape>,
    scale: Ticks,
    start: Timestamp,
    end: Timestamp,
    /// The beginnings of the intervals.
    times: Vec<Timestamp>,
    /// Labels of the time axis, with their places.
    time_ticks: Vec<(String, String)>,
}

impl TimeView<'_> {
    fn has_values(&self) -> bool {
        self.series.iter().any(|it| it.values.iter().any(Option::is_some))
    }

    /// The chart in one sentence.
    fn summary(&self) -> String {
        let mut parts = Vec::new();
        for series in &self.series {
            let known: Vec<f64> = series.values.iter().copied().flatten().collect();
            let (Some(last), false) = (known.last(), known.is_empty()) else { continue };
            let least = known.iter().copied().fold(f64::INFINITY, f64::min);
            let most = known.iter().copied().fold(0.0, f64::max);
            let [least, most, last] = [least, most, *last].map(|it| self.chart.unit.label(it));
            parts.push(format!("{}: {least} to {most}, last {last}", series.name));
        }
        if parts.is_empty() { "No data.".to_owned() } else { format!("{}.", parts.join("; ")) }
    }

    fn clock(at: &Timestamp) -> String {
        clock(*at)
    }

    /// What an interval has, for a pointer on it.
    fn at(&self, at: &usize) -> String {
        let values = self.series.iter().map(|it| format!("{}: {}", it.name, self.value(it, at)));
        let time = self.times.get(*at).map(|it| clock(*it)).unwrap_or_default();
        format!("{time} UTC\n{}", values.collect::<Vec<_>>().join("\n"))
    }

    fn value(&self, series: &Drawn<'_>, at: &usize) -> String {
        let value = series.values.get(*at).copied().flatten();
        value.map_or_else(|| "\u{2013}".to_owned(), |it| self.chart.unit.label(it))
    }

    /// The width of an interval, in per cent.
    fn width(&self) -> String {
        percent(100.0 / self.times.len().max(1) as f64)
    }

    fn left(&self, at: &usize) -> String {
        percent(100.0 * *at as f64 / self.times.len().max(1) as f64)
    }
}

fn later(start: Timestamp, step: Duration, count: usize) -> Timestamp {
    let ms = whole_ms(step).saturating_mul(count as u64);
    Timestamp::from_unix_ms(start.unix_ms().saturating_add(ms))
}
