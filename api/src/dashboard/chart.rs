//! Charts as inline SVG: lines, stacked areas, sparklines and histograms.
//!
//! A chart has no style and no script of its own: classes name the colours, and `assets/chart.css` has them for light
//! and dark pages. Shapes stretch with the page, texts keep their size: both are placed in per cent. Large charts have
//! a table of their values, for those who cannot see them.

mod axis;
mod histogram;
mod over_time;
mod shape;
mod sparkline;

pub(crate) use axis::Unit;
pub(crate) use histogram::Histogram;
pub(crate) use over_time::TimeChart;
pub(crate) use sparkline::sparkline;

/// The most points of a series: as many as a pointer can distinguish on a screen. Of more, the latest are drawn.
const MAX_POINTS: usize = 240;
/// Larger values are drawn as this one, so that sums stay finite.
const MAX_VALUE: f64 = 1e18;
/// The part of the picture's height that the values take, in per cent: below are the times, above the highest label.
const TOP: f64 = 8.0;
const BOTTOM: f64 = 88.0;
/// What a colour means, as everywhere on the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Busy,
    Good,
    Bad,
    Warn,
    Idle,
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Warn => "warn",
            Self::Idle => "idle",
        }
    }
}

/// Values at equal distances in time; `None` where nothing was measured.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) tone: Tone,
    pub(crate) values: Vec<Option<f64>>,
}

/// A series as far as it is drawn.
struct Drawn<'a> {
    name: &'a str,
    class: &'static str,
    values: Vec<Option<f64>>,
}

impl<'a> Drawn<'a> {
    fn new(series: &'a Series, first: usize, count: usize) -> Self {
        let value = |at| series.values.get(at).copied().flatten().filter(|it: &f64| it.is_finite());
        let values = (first..count).map(|at| value(at).map(|it| it.clamp(0.0, MAX_VALUE)));
        Self { name: &series.name, class: series.tone.class(), values: values.collect() }
    }
}

fn percent(value: f64) -> String {
    format!("{}%", (value * 1000.0).round() / 1000.0)
}

/// The height of a value in the picture.
fn height(value: f64, max: f64) -> String {
    percent(BOTTOM - (BOTTOM - TOP) * value / max)
}

#[cfg(test)]
mod tests;
