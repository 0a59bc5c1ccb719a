//! Axes: round numbers, and times at full minutes, hours and days.

use crunch_common::time::Timestamp;

/// What the values of a chart are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Count,
    Seconds,
}

/// Labels of an axis of values.
pub(super) struct Ticks {
    /// The highest, which is the top of the chart.
    pub(super) max: f64,
    pub(super) marks: Vec<Mark>,
}

pub(super) struct Mark {
    /// Its height in the picture.
    pub(super) y: String,
    pub(super) label: String,
}

/// Intervals of an axis of values, at most.
const INTERVALS: f64 = 4.0;
/// Labels of an axis of times, at most: more touch each other on a phone.
const MAX_TIMES: u64 = 5;
/// Half the width of such a label on a phone, in per cent.
const EDGE: f64 = 5.0;

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3600.0;
const DAY: f64 = 86_400.0;

impl Unit {
    /// The distance of labels: a round number, not less than `least`.
    fn step(self, least: f64) -> f64 {
        let minutes = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0];
        let hours = [1.0, 2.0, 3.0, 6.0, 12.0, 24.0];
        match self {
            Self::Count => decimal(least.max(1.0)),
            Self::Seconds if least <= 20.0 => decimal(least),
            Self::Seconds => {
                let times =
                    minutes.map(|it| it * MINUTE).into_iter().chain(hours.map(|it| it * HOUR));
                let round = times.into_iter().find(|it| *it >= least);
                round.unwrap_or_else(|| decimal(least / DAY) * DAY)
            }
        }
    }

    /// A value in few characters.
    pub(super) fn label(self, value: f64) -> String {
        let (factor, name) = match self {
            Self::Count => scale(
                value,
                &[(1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")],
            ),
            Self::Seconds if value == 0.0 => (1.0, "s"),
            Self::Seconds => scale(
                value,
                &[(DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs")],
            ),
        };
        // Counts beyond four digits are written in thousands, not in ten thousands.
        let factor = if factor == 1e4 { 1e3 } else { factor };
        let text = short(value / factor);
        if name.is_empty() { text } else { format!("{text}\u{202f}{name}") }
    }
}

fn scale(value: f64, units: &[(f64, &'static str)]) -> (f64, &'static str) {
    units.iter().copied().find(|(factor, _)| value >= *factor).unwrap_or((1.0, ""))
}

/// At most three digits after the point for numbers below 1, one for others; none that are zero.
fn short(value: f64) -> String {
    let text = match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        medium if medium >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    };
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// 1, 2 or 5 times a power of ten, not less than `least`.
fn decimal(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    // Of a power that is not exact, the next one may be meant.
    let round = [1.0, 2.0, 5.0, 10.0].map(|it| it * power);
    round.into_iter().find(|it| *it >= least * (1.0 - 1e-9)).unwrap_or(10.0 * power)
}

/// Labels from zero to a round number that is not less than the highest value.
pub(super) fn ticks(highest: f64, unit: Unit) -> Ticks {
    let highest = if highest > 0.0 { highest } else { 1.0 };
    let step = unit.step(highest / INTERVALS);
    let count = (highest / step * (1.0 - 1e-9)).ceil().max(1.0);
    let max = step * count;
    let marks = (0..=count as u32).map(|at| {
        let value = step * f64::from(at);
        Mark { y: super::height(value, max), label: unit.label(value) }
    });
    Ticks { max, marks: marks.collect() }
}

/// The distances at which times are round, in seconds.
const TIME_STEPS: [u64; 21] = [
    1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400,
    172_800, 604_800, 1_209_600, 2_419_200,
];

/// Labels between two times, with their places.
pub(super) fn time_ticks(start: Timestamp, end: Timestamp) -> Vec<(String, String)> {
    let (start, end) = (start.unix_ms(), end.unix_ms());
    let length = end.saturating_sub(start);
    let fits = |step: &u64| length / (step * 1000) < MAX_TIMES;
    let last = TIME_STEPS[TIME_STEPS.len() - 1];
    let many_years = last * (length / (last * 1000 * MAX_TIMES) + 1);
    let step = TIME_STEPS.into_iter().find(fits).unwrap_or(many_years) * 1000;
    let first = start.div_ceil(step) * step;
    let label = |at: u64| {
        let text = Timestamp::from_unix_ms(at).to_string();
        let part = if step >= 86_400_000 {
            5..10
        } else if step >= 60_000 {
            11..16
        } else {
            11..19
        };
        text.get(part).unwrap_or_default().to_owned()
    };
    let times = (first..end).step_by(usize::try_from(step).unwrap_or(usize::MAX));
    // A label at an edge would be cut off.
    let places = times.map(|at| (100.0 * (at - start) as f64 / length as f64, label(at)));
    let inside = places.filter(|(x, _)| (EDGE..=100.0 - EDGE).contains(x));
    inside.map(|(x, label)| (super::percent(x), label)).collect()
}

/// A time in UTC, to the second.
pub(super) fn clock(at: Timestamp) -> String {
    let text = at.to_string();
    text.get(..19).unwrap_or(&text).replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(highest: f64, unit: Unit) -> String {
        let labels = ticks(highest, unit).marks.into_iter().map(|mark| mark.label);
        labels.collect::<Vec<_>>().join(" ").replace('\u{202f}', "")
    }

    #[test]
    fn labels_are_round_numbers() {
        assert_eq!(labels(0.0, Unit::Count), "0 1");
        assert_eq!(labels(1.0, Unit::Count), "0 1");
        assert_eq!(labels(3.0, Unit::Count), "0 1 2 3");
        assert_eq!(labels(37.0, Unit::Count), "0 10 20 30 40");
        assert_eq!(labels(4100.0, Unit::Count), "0 2000 4000 6000");
        assert_eq!(labels(100_000.0, Unit::Count), "0 50k 100k");
        assert_eq!(labels(1e18, Unit::Count), "0 500P 1E");
        assert_eq!(labels(0.0031, Unit::Seconds), "0s 1ms 2ms 3ms 4ms");
        assert_eq!(labels(7.0, Unit::Seconds), "0s 2s 4s 6s 8s");
        assert_eq!(labels(150.0, Unit::Seconds), "0s 1min 2min 3min");
        assert_eq!(labels(50_000.0, Unit::Seconds), "0s 6h 12h 18h");
        assert_eq!(labels(1e9, Unit::Seconds), "0s 5000d 10000d 15000d");
    }

    #[test]
    fn times_are_round_and_few() {
        let hour = 3_600_000;
        let at = |ms: u64| Timestamp::from_unix_ms(1_800_000_123_000 + ms);
        let labels = |length| {
            let ticks = time_ticks(at(0), at(length)).into_iter().map(|(_, label)| label);
            ticks.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(labels(0), "");
        assert_eq!(labels(4_000), "08:02:04 08:02:05 08:02:06");
        assert_eq!(labels(hour), "08:15 08:30 08:45");
        assert_eq!(labels(72 * hour), "01-16 01-17 01-18");
        assert_eq!(labels(90 * 24 * hour), "02-11 03-11 04-08");
        for length in [1, 1000, 77 * hour, 1000 * 24 * hour, 20_000 * 24 * hour] {
            assert!(time_ticks(at(0), at(length)).len() as u64 <= MAX_TIMES, "{length}");
        }
    }
}
