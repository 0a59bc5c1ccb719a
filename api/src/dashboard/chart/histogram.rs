//! Histograms: one bar for each range of values.

use askama::Template;

use super::axis::{Ticks, ticks};
use super::{BOTTOM, MAX_VALUE, TOP, Tone, Unit, height, percent};

/// Labels below the bars that fit on a phone.
const MAX_LABELS: usize = 6;

/// How often values of each range were measured.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    pub(crate) id: &'static str,
    pub(crate) title: String,
    /// What is counted, such as jobs.
    pub(crate) counted: String,
    pub(crate) tone: Tone,
    /// The name of each range, such as `to 100 ms`, and its count.
    pub(crate) ranges: Vec<(String, u64)>,
}

impl Histogram {
    /// One bar for each range.
    pub(crate) fn bars(&self) -> askama::Result<String> {
        let highest = self.ranges.iter().map(|(_, count)| *count).max().unwrap_or(0);
        let scale = ticks((highest as f64).min(MAX_VALUE), Unit::Count);
        let slot = 100.0 / self.ranges.len().max(1) as f64;
        let every = self.ranges.len().div_ceil(MAX_LABELS).max(1);
        let bars = self.ranges.iter().enumerate().map(|(at, (range, count))| Bar {
            range,
            label: Unit::Count.label(*count as f64),
            count: *count,
            left: percent(slot * (at as f64 + 0.1)),
            middle: percent(slot * (at as f64 + 0.5)),
            width: percent(slot * 0.8),
            top: height(*count as f64, scale.max),
            height: percent((BOTTOM - TOP) * *count as f64 / scale.max),
            is_labeled: at % every == 0,
        });
        HistogramView { chart: self, class: self.tone.class(), bars: bars.collect(), scale }
            .render()
    }
}

struct Bar<'a> {
    range: &'a str,
    label: String,
    count: u64,
    left: String,
    middle: String,
    width: String,
    top: String,
    height: String,
    is_labeled: bool,
}

#[derive(Template)]
#[template(path = "dashboard/chart/histogram.html")]
struct HistogramView<'a> {
    chart: &'a Histogram,
    class: &'static str,
    bars: Vec<Bar<'a>>,
    scale: Ticks,
}

impl HistogramView<'_> {
    fn summary(&self) -> String {
        let total = self.bars.iter().fold(0_u64, |sum, it| sum.saturating_add(it.count));
        let Some(most) = self.bars.iter().max_by_key(|it| it.count).filter(|it| it.count > 0)
        else {
            return "No data.".to_owned();
        };
        let (total, counted) = (Unit::Count.label(total as f64), &self.chart.counted);
        format!("{total} {counted}, most of them {}.", most.range)
    }
}
