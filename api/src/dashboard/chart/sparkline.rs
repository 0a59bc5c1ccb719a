//! Sparklines: small lines without axes.

use askama::Template;

use super::shape::{Shape, shapes};
use super::{Drawn, MAX_POINTS, Series, Tone, Unit};

/// A line for a row of a table; `name` says what it shows.
pub(crate) fn sparkline(
    name: &str,
    unit: Unit,
    tone: Tone,
    values: &[Option<f64>],
) -> askama::Result<String> {
    let series = Series { name: name.to_owned(), tone, values: values.to_vec() };
    let drawn = Drawn::new(&series, values.len().saturating_sub(MAX_POINTS), values.len());
    let known = || drawn.values.iter().copied().flatten();
    let highest = known().fold(0.0, f64::max);
    // A line of zeros lies at the bottom.
    let max = if highest > 0.0 { highest } else { 1.0 };
    let summary = match known().last() {
        Some(last) => format!("at most {}, last {}", unit.label(highest), unit.label(last)),
        None => "no data".to_owned(),
    };
    let shape = shapes(std::slice::from_ref(&drawn.values), true, max).remove(0);
    Sparkline { name, class: tone.class(), summary, shape }.render()
}

#[derive(Template)]
#[template(path = "dashboard/chart/sparkline.html")]
struct Sparkline<'a> {
    name: &'a str,
    class: &'static str,
    summary: String,
    shape: Shape,
}
