//! Measured metrics: their names, what each is compared with, and the median of several runs.

use std::time::Duration;

use crate::control::Control;

/// Durations of one kind, sorted.
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    /// # Panics
    /// If there are no samples.
    pub(crate) fn new(mut samples: Vec<Duration>) -> Self {
        assert!(!samples.is_empty(), "nothing was measured");
        samples.sort_unstable();
        Self(samples)
    }

    /// The smallest duration that at least this fraction of the samples does not exceed (nearest rank).
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0[rank.clamp(1, self.0.len()) - 1]
    }

    /// The same in milliseconds.
    pub(crate) fn ms(&self, share: f64) -> f64 {
        self.quantile(share).as_secs_f64() * 1e3
    }
}

/// Unit of a metric. It determines what the metric is compared with, and whether more is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A rate per second; compared with the control's pipelined `LPUSH`. More is better.
    PerSecond,
    /// A rate per second, one after the other; compared with the control's round trips. More is better.
    Sequential,
    /// Milliseconds; compared with one round trip of the control.
    Milliseconds,
    /// Seconds of CPU for 100 000 jobs; compared with the CPU of the control's Redis for as many `LPUSH`.
    CpuSeconds,
    /// A count in this unit: the same on every machine, so the value is its own ratio.
    Counted(&'static str),
    /// Already a ratio, to a control of the benchmark itself. More is better.
    Times,
}

impl Unit {
    /// The unit as text.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::PerSecond | Self::Sequential => "/s",
            Self::Milliseconds => "ms",
            Self::CpuSeconds => "s/100k",
            Self::Counted(unit) => unit,
            Self::Times => "×",
        }
    }

    /// Whether a larger value is a better one.
    pub(crate) const fn more_is_better(self) -> bool {
        matches!(self, Self::PerSecond | Self::Sequential | Self::Times)
    }

    fn ratio(self, value: f64, control: &Control) -> f64 {
        match self {
            Self::PerSecond => value / control.pushes,
            Self::Sequential => value / control.round_trips,
            Self::Milliseconds => value / 1e3 * control.round_trips,
            Self::CpuSeconds => value / control.push_cpu,
            Self::Counted(_) | Self::Times => value,
        }
    }
}

/// One metric, with its values in all runs.
#[derive(Debug)]
pub(crate) struct Metric {
    pub(crate) name: String,
    pub(crate) unit: Unit,
    values: Vec<f64>,
    ratios: Vec<f64>,
}

impl Metric {
    /// The median over the runs.
    pub(crate) fn value(&self) -> f64 {
        median(&self.values)
    }

    /// The median of the ratios to the controls of the same runs.
    pub(crate) fn ratio(&self) -> f64 {
        median(&self.ratios)
    }
}

/// Metrics in the order in which they were first recorded.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Vec<Metric>);

impl Metrics {
    /// Records the value of one run.
    pub(crate) fn record(&mut self, name: &str, value: f64, unit: Unit, control: &Control) {
        let ratio = unit.ratio(value, control);
        match self.0.iter_mut().find(|metric| metric.name == name) {
            Some(metric) => {
                metric.values.push(value);
                metric.ratios.push(ratio);
            }
            None => self.0.push(Metric {
                name: name.to_owned(),
                unit,
                values: vec![value],
                ratios: vec![ratio],
            }),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Metric> {
        self.0.iter()
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_nearest_rank() {
        let samples = Samples::new((1..=100).rev().map(Duration::from_millis).collect());
        let ranks = [0.0, 0.5, 0.99, 0.999, 1.0].map(|share| samples.ms(share).round() as u32);
        assert_eq!(ranks, [1, 50, 99, 100, 100]);
    }

    #[test]
    fn a_metric_is_the_median_of_its_runs() {
        let control = Control { pushes: 10.0, round_trips: 5.0, push_cpu: 2.0 };
        let mut metrics = Metrics::default();
        [30.0, 10.0, 20.0].into_iter().for_each(|value| {
            metrics.record("drain", value, Unit::PerSecond, &control);
            metrics.record("CPU", value, Unit::CpuSeconds, &control);
        });
        let medians: Vec<_> = metrics.iter().map(|it| (it.value(), it.ratio())).collect();
        assert_eq!(medians, [(20.0, 2.0), (20.0, 10.0)]);
        assert!((median(&[1.0, 2.0]) - 1.5).abs() < f64::EPSILON);
    }
}
